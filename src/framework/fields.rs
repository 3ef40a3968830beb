//! The fields of one request, parsed with a path's schema.

use secrecy::SecretString;

use super::field::{Field, FieldKind, FieldValue};
use crate::logical::Data;

/// The given values, by field. Fields that were not given are absent: an update changes only the named
/// fields.
///
/// A list rather than a map: there are few, and a read has one.
#[derive(Debug, Default)]
pub struct Fields(Vec<(&'static str, FieldValue)>);

/// An invalid field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// A value that the field does not accept.
    #[error("{field} {requirement}")]
    Value {
        /// The field.
        field: &'static str,
        /// The requirement: "must be …".
        requirement: String,
    },
    /// Fields that the path does not have.
    #[error("unknown field {}; this path takes {}", quoted(unknown), known.join(", "))]
    Unknown {
        /// The unknown fields of the request.
        unknown: Vec<String>,
        /// The fields of the path.
        known: Vec<&'static str>,
    },
}

impl Fields {
    /// Parses `data` with `schema`. `captured` comes from the path and overrides the body, as in Vault.
    ///
    /// With `strict`, unknown fields are rejected: in an engine that spends money, a misspelt limit
    /// must not be ignored. Vault's own engines only warn.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn parse<'a>(
        schema: impl IntoIterator<Item = &'a Field> + Clone,
        captured: &[(&'static str, &str)],
        data: &Data,
        strict: bool,
    ) -> Result<Self, InvalidField> {
        let mut fields = Self::default();
        for field in schema.clone() {
            if field.kind == FieldKind::Name {
                continue;
            }
            if let Some(value) = data.get(field.name)
                && let Some(parsed) =
                    field
                        .parse(value)
                        .map_err(|requirement| InvalidField::Value {
                            field: field.name,
                            requirement,
                        })?
            {
                fields.set(field.name, parsed);
            }
        }
        if strict {
            refuse_unknown(schema, data)?;
        }
        for (name, value) in captured {
            fields.set(name, FieldValue::Text((*value).to_owned()));
        }
        Ok(fields)
    }

    fn set(&mut self, field: &'static str, value: FieldValue) {
        self.0.retain(|(name, _)| *name != field);
        self.0.push((field, value));
    }

    fn get(&self, field: &str) -> Option<&FieldValue> {
        let mut given = self.0.iter();
        given.find_map(|(name, value)| (*name == field).then_some(value))
    }

    /// Whether the field was given, including as `null`.
    pub fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// Whether the field was given as `null`.
    pub fn is_null(&self, field: &str) -> bool {
        matches!(self.get(field), Some(FieldValue::Null))
    }

    /// The text of the field.
    pub fn text(&self, field: &str) -> Option<&str> {
        match self.get(field) {
            Some(FieldValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The secret of the field.
    pub fn secret(&self, field: &str) -> Option<&SecretString> {
        match self.get(field) {
            Some(FieldValue::Secret(secret)) => Some(secret),
            _ => None,
        }
    }

    /// The integer of the field.
    pub fn integer(&self, field: &str) -> Option<i64> {
        match self.get(field) {
            Some(FieldValue::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// The number of the field.
    pub fn number(&self, field: &str) -> Option<f64> {
        match self.get(field) {
            Some(FieldValue::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The boolean of the field.
    pub fn switch(&self, field: &str) -> Option<bool> {
        match self.get(field) {
            Some(FieldValue::Switch(on)) => Some(*on),
            _ => None,
        }
    }

    /// The texts of the field.
    pub fn list(&self, field: &str) -> Option<&[String]> {
        match self.get(field) {
            Some(FieldValue::List(texts)) => Some(texts),
            _ => None,
        }
    }

    /// The duration of the field, in seconds.
    pub fn seconds(&self, field: &str) -> Option<u64> {
        match self.get(field) {
            Some(FieldValue::Seconds(seconds)) => Some(*seconds),
            _ => None,
        }
    }
}

fn refuse_unknown<'a>(
    schema: impl IntoIterator<Item = &'a Field> + Clone,
    data: &Data,
) -> Result<(), InvalidField> {
    let unknown: Vec<String> = data
        .keys()
        .filter(|given| {
            !schema
                .clone()
                .into_iter()
                .any(|field| field.name == given.as_str())
        })
        .map(|given| shortened(given))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let known = schema.into_iter().map(|field| field.name).collect();
    Err(InvalidField::Unknown { unknown, known })
}

/// Shortens a name for an error message, and removes what could disturb a terminal.
fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names
        .iter()
        .take(5)
        .map(|name| format!("{name:?}"))
        .collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SCHEMA: &[Field] = &[
        Field::name("name", ""),
        Field::number("limit", "").nullable(),
        Field::switch("force", ""),
    ];

    fn parse(data: Value, strict: bool) -> Result<Fields, InvalidField> {
        let Value::Object(data) = data else {
            panic!("not an object")
        };
        Fields::parse(SCHEMA, &[("name", "app")], &data, strict)
    }

    #[test]
    fn what_is_not_given_is_absent() {
        let fields = parse(json!({"limit": 5}), true).unwrap();
        assert_eq!(fields.number("limit"), Some(5.0));
        assert!(!fields.has("force"));
        assert_eq!(fields.switch("force"), None);
    }

    #[test]
    fn the_path_beats_the_body() {
        let fields = parse(json!({"name": "other"}), true).unwrap();
        assert_eq!(fields.text("name"), Some("app"));
    }

    #[test]
    fn a_wrong_value_names_its_field() {
        let refusal = parse(json!({"limit": "much"}), true).unwrap_err();
        assert_eq!(refusal.to_string(), "limit must be a number");
    }

    #[test]
    fn an_unknown_field_is_named_with_those_that_exist() {
        let refusal = parse(json!({"limti": 5}), true).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "unknown field \"limti\"; this path takes name, limit, force"
        );
        assert!(parse(json!({"limti": 5}), false).is_ok());
    }

    #[test]
    fn null_is_told_apart_from_absent() {
        let fields = parse(json!({"limit": null}), true).unwrap();
        assert!(fields.has("limit") && fields.is_null("limit"));
        assert_eq!(fields.number("limit"), None);
    }
}
