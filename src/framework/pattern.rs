//! The pattern of a path: literal and captured segments. Matching, the Go-style expression shown in
//! help, and the OpenAPI template are all derived from the same segments.

/// A path's pattern, such as `roles/:name`. Matches whole paths only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    /// Captured into the field of this name.
    Name(&'static str),
}

/// The captured segments of a path, each with its field.
pub type Captures<'a> = Vec<(&'static str, &'a str)>;

impl Pattern {
    /// Parses `roles/:name`: segments are separated by slashes, and segments with a colon are captured.
    pub fn new(text: &'static str) -> Self {
        Self(
            text.split('/')
                .map(|segment| match segment.strip_prefix(':') {
                    Some(field) => Segment::Name(field),
                    None => Segment::Literal(segment),
                })
                .collect(),
        )
    }

    /// The captured fields if `path` matches exactly: the server also compares paths exactly when it protects
    /// them.
    pub fn matches<'a>(&self, path: &'a str) -> Option<Captures<'a>> {
        let mut captured = Vec::new();
        let mut given = path.split('/');
        for segment in &self.0 {
            let part = given.next()?;
            match segment {
                Segment::Literal(literal) if part == *literal => {}
                Segment::Name(field) if is_name(part) => captured.push((*field, part)),
                _ => return None,
            }
        }
        given.next().is_none().then_some(captured)
    }

    /// The names of the captured fields.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Name(field) => Some(*field),
            Segment::Literal(_) => None,
        })
    }

    /// The pattern as it was written: `roles/:name`.
    pub fn text(&self) -> String {
        self.render(|field| format!(":{field}"))
    }

    /// The OpenAPI template: `roles/{name}`.
    pub fn template(&self) -> String {
        self.render(|field| format!("{{{field}}}"))
    }

    /// The expression that Vault's help shows, with which a Go engine would route.
    pub fn expression(&self) -> String {
        let body = self.render(|field| format!(r"(?P<{field}>\w(([\w-.]+)?\w)?)"));
        if self.fields().next().is_none() {
            format!("^{body}/?$")
        } else {
            format!("^{body}$")
        }
    }

    fn render(&self, name: impl Fn(&str) -> String) -> String {
        let segments: Vec<String> = self
            .0
            .iter()
            .map(|segment| match segment {
                Segment::Literal(literal) => (*literal).to_owned(),
                Segment::Name(field) => name(field),
            })
            .collect();
        segments.join("/")
    }
}

/// `framework.GenericNameRegex` of Vault's SDK: word characters, with dots and dashes inside. Storage
/// rejects a key that contains `..`, so names may not have two dots in a row. The length of a name is
/// limited too.
pub fn is_name(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    bytes.len() <= MAX_NAME_BYTES
        && word(*first)
        && word(*last)
        && bytes.iter().all(|b| word(*b) || matches!(b, b'-' | b'.'))
        && !text.contains("..")
}

const MAX_NAME_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_segment_is_captured() {
        let roles = Pattern::new("roles/:name");
        assert_eq!(
            roles.matches("roles/app-1.eu"),
            Some(vec![("name", "app-1.eu")])
        );
        for other in [
            "roles",
            "roles/",
            "roles/a/b",
            "role/a",
            "roles/a/",
            "/roles/a",
            "xroles/a",
        ] {
            assert_eq!(roles.matches(other), None, "{other}");
        }
    }

    #[test]
    fn a_literal_path_matches_itself_alone() {
        let roles = Pattern::new("roles");
        assert_eq!(roles.matches("roles"), Some(vec![]));
        for other in ["roles/", "roles//", "/roles", "Roles"] {
            assert_eq!(roles.matches(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_ascii_words_with_dots_and_dashes_inside() {
        let longest = "a".repeat(MAX_NAME_BYTES);
        for name in ["a", "A_9", "a-b.c", "_a_", &longest] {
            assert!(is_name(name), "{name}");
        }
        let too_long = "a".repeat(MAX_NAME_BYTES + 1);
        for name in [
            "", "-a", "a-", ".", "..", "a..b", "é", "a b", "a\n", "a%2f", &too_long,
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn help_and_openapi_render_the_same_segments() {
        let roles = Pattern::new("roles/:name");
        assert_eq!(roles.text(), "roles/:name");
        assert_eq!(roles.template(), "roles/{name}");
        assert_eq!(roles.expression(), r"^roles/(?P<name>\w(([\w-.]+)?\w)?)$");
        assert_eq!(Pattern::new("config").expression(), "^config/?$");
    }
}
