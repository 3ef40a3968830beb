//! Invariants of duration parsing.

use serde_json::Value;

use super::{Field, FieldValue, duration};
use crate::invariants::assert_can_be_shown;

/// The input is the text.
pub fn duration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let parsed = duration::parse(text);
    if let Ok(seconds) = parsed {
        let bare = duration::parse(&seconds.to_string());
        assert_eq!(bare, Ok(seconds), "the number of seconds means itself");
        if !text.is_empty() && !text.starts_with(['+', '-']) {
            let negative = duration::parse(&format!("-{text}"));
            assert_eq!(negative, Ok(-seconds), "a sign turns it round");
        }
    }
    // As a field parses it.
    let seconds = parsed.ok().and_then(|seconds| u64::try_from(seconds).ok());
    match Field::duration("ttl", "").parse(&Value::String(text.to_owned())) {
        Err(requirement) => {
            assert_can_be_shown(&requirement);
            assert_eq!(seconds, None, "it could have been taken");
        }
        Ok(value) => {
            let taken = match value {
                Some(FieldValue::Seconds(taken)) => Some(taken),
                _ => None,
            };
            assert!(taken.is_some(), "{text:?} is read as something else");
            assert_eq!(taken, seconds);
        }
    }
}
