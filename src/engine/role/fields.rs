//! The fields of both kinds of role, and which of them can be combined.

use super::kind::{self, Kind};
use super::ttl::TTL;
use super::{budget, dynamic, rotating, terms};
use crate::engine::error::Error;
use crate::framework::{Field, Fields};

/// The fields of a write.
pub fn write() -> impl Iterator<Item = Field> {
    let kinds = terms::FIELDS
        .iter()
        .chain(budget::FIELDS)
        .chain(rotating::FIELDS)
        .chain(dynamic::FIELDS);
    [kind::FIELD, TTL].into_iter().chain(kinds.cloned())
}

/// The kind of the role that is written.
///
/// # Errors
/// [`Error::Invalid`] for an unknown kind, for a kind other than the role's, and for fields that only the
/// other kind has.
pub fn kind_of_write(before: Option<Kind>, fields: &Fields) -> Result<Kind, Error> {
    let kind = Kind::of_write(before, fields)?;
    let foreign = match kind {
        Kind::Rotating => dynamic::FIELDS,
        Kind::Dynamic => rotating::FIELDS,
    };
    kind.refuse(foreign, fields)?;
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kind(body: Value) -> Result<Kind, String> {
        let Value::Object(body) = body else {
            panic!("not an object")
        };
        let schema: Vec<Field> = write().collect();
        let fields = Fields::parse(&schema, &[], &body, true).map_err(|e| e.to_string())?;
        kind_of_write(None, &fields).map_err(|e| e.to_string())
    }

    #[test]
    fn a_field_of_the_other_kind_is_refused() {
        for (body, reason) in [
            (
                json!({"max_ttl": "1d"}),
                "max_ttl applies only to dynamic roles; this one is rotating",
            ),
            (
                json!({"max_leases": 5}),
                "max_leases applies only to dynamic roles",
            ),
            (
                json!({"credential_type": "dynamic", "rotation_period": "1d"}),
                "rotation_period applies only to rotating roles; this one is dynamic",
            ),
            (
                json!({"credential_type": "dynamic", "rotation_grace_period": "1d"}),
                "rotation_grace_period applies only to rotating roles",
            ),
            (
                json!({"credential_type": "dynamic", "disable_automated_rotation": true}),
                "disable_automated_rotation applies only to rotating roles",
            ),
        ] {
            let refusal = kind(body.clone()).unwrap_err();
            assert!(refusal.contains(reason), "{body}: {refusal}");
        }
    }

    #[test]
    fn saying_that_a_foreign_field_has_no_value_is_harmless() {
        let body = json!({"credential_type": "dynamic", "rotation_schedule": null});
        assert_eq!(kind(body), Ok(Kind::Dynamic));
    }
}
