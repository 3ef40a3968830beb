//! Invariants of the data of a role write, for both kinds.

use jiff::Timestamp;

use super::write::accepted;
use super::write::assert_can_be_stored;
use super::write::fields as fields_of;
use crate::engine::names::RoleName;
use crate::engine::role::Kind;
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::fields;
use crate::engine::role::rotating;
use crate::framework::{Field, Fields};
use crate::logical::Data;

/// Accepted data can be stored, and an update without fields changes nothing.
pub fn role(data: &Data) {
    let schema: Vec<Field> = fields::write().collect();
    let (Some(given), Some(name)) = (fields_of(&schema, data), RoleName::new("app")) else {
        return;
    };
    match accepted(fields::kind_of_write(None, &given)) {
        None => {}
        Some(Kind::Rotating) => {
            let now = Timestamp::UNIX_EPOCH;
            let made = rotating::apply(&name, None, &given);
            let made = made.and_then(|made| made.check(now).map(|()| made));
            if let Some(definition) = accepted(made) {
                let restored = assert_can_be_stored(&definition);
                assert_eq!(restored.as_ref(), Some(&definition));
                let unchanged = rotating::apply(&name, Some(&definition), &Fields::default());
                assert_eq!(accepted(unchanged), Some(definition));
            }
        }
        Some(Kind::Dynamic) => {
            if let Some(role) = accepted(DynamicRole::apply(&name, None, &given)) {
                let restored = assert_can_be_stored(&role);
                assert_eq!(restored.as_ref(), Some(&role));
                let unchanged = DynamicRole::apply(&name, Some(&role), &Fields::default());
                assert_eq!(accepted(unchanged), Some(role));
            }
        }
    }
}
