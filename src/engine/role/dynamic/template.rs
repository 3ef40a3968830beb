//! The name of a lease's key, by which spending at OpenRouter can be attributed to the requester.

use crate::engine::error::Error;
use crate::engine::role::LONGEST_KEY_NAME;

/// A `key_name` with placeholders that are filled in from a request.
pub struct NameTemplate<'a>(Vec<Part<'a>>);

enum Part<'a> {
    Text(&'a str),
    DisplayName,
    EntityName,
}

impl<'a> NameTemplate<'a> {
    /// Parses `{{display_name}}` and `{{entity_name}}`. All other text is literal.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else in double braces.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or_else(unknown)?;
            parts.push(Part::Text(before));
            parts.push(match name.trim() {
                "display_name" => Part::DisplayName,
                "entity_name" => Part::EntityName,
                _ => return Err(unknown()),
            });
            rest = after;
        }
        parts.push(Part::Text(rest));
        Ok(Self(parts))
    }

    /// Whether the entity's name is needed, for which the server must be asked.
    pub fn needs_entity(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::EntityName))
    }

    /// Fills in the name for a key. Text from the request is untrusted: it is cleaned, and the result is cut
    /// to the maximum length of a `key_name`.
    pub fn fill(&self, display_name: &str, entity_name: Option<&str>) -> String {
        let filled: String = self
            .0
            .iter()
            .map(|part| match part {
                Part::Text(text) => (*text).to_owned(),
                Part::DisplayName => cleaned(display_name),
                Part::EntityName => cleaned(entity_name.unwrap_or_default()),
            })
            .collect();
        filled.chars().take(LONGEST_KEY_NAME).collect()
    }
}

/// Keeps letters, digits and the characters of mail addresses and host names; `none` if the text is empty.
fn cleaned(text: &str) -> String {
    if text.is_empty() {
        return "none".to_owned();
    }
    let clean = |c: char| {
        if c.is_alphanumeric() || "-_.@+".contains(c) {
            c
        } else {
            '-'
        }
    };
    text.chars().take(LONGEST_PART).map(clean).collect()
}

fn unknown() -> Error {
    Error::invalid("key_name can be filled in with {{display_name}} and {{entity_name}} only")
}

/// The maximum length of each part from the request, in characters, so that the role's own text stays
/// visible.
const LONGEST_PART: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, display_name: &str, entity_name: Option<&str>) -> String {
        let template = NameTemplate::parse(template).ok().unwrap();
        template.fill(display_name, entity_name)
    }

    #[test]
    fn a_name_without_braces_stays_as_it_is() {
        assert_eq!(fill("ci {x} }} runner", "alice", None), "ci {x} }} runner");
    }

    #[test]
    fn who_asked_is_filled_in() {
        let filled = fill(
            "ci {{display_name}}/{{ entity_name }}",
            "userpass-alice",
            Some("alice@example.com"),
        );
        assert_eq!(filled, "ci userpass-alice/alice@example.com");
        assert_eq!(fill("{{entity_name}}", "token", None), "none");
    }

    #[test]
    fn what_comes_from_the_request_is_cleaned_and_cut() {
        assert_eq!(
            fill("{{display_name}}", "a\nb\u{202e}c {{d}}", None),
            "a-b-c---d--"
        );
        let long = fill("{{display_name}} ci", &"x".repeat(500), None);
        assert_eq!(long, format!("{} ci", "x".repeat(64)));
        let both = fill(
            "{{display_name}}{{entity_name}}",
            &"x".repeat(500),
            Some(&long),
        );
        assert_eq!(both.chars().count(), 100);
    }

    #[test]
    fn anything_else_in_braces_is_refused() {
        for text in ["{{entity_id}}", "{{", "a {{display_name", "{{}}"] {
            let refusal = NameTemplate::parse(text).err().unwrap().to_string();
            assert!(refusal.starts_with("key_name can be filled"), "{refusal}");
        }
    }

    #[test]
    fn the_entity_is_asked_for_only_when_it_is_needed() {
        let needs = |text| NameTemplate::parse(text).ok().unwrap().needs_entity();
        assert!(needs("{{entity_name}}"));
        assert!(!needs("ci {{display_name}}"));
    }
}
