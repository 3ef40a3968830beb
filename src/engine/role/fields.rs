//! Every field of a role, of either kind.

use super::kind;
use super::terms;
use super::ttl::TTL;
use crate::engine::{dynamic, rotating};
use crate::framework::Field;

/// What a write takes.
pub(super) fn write() -> impl Iterator<Item = Field> {
    let kinds = terms::FIELDS
        .iter()
        .chain(rotating::FIELDS)
        .chain(dynamic::FIELDS);
    [kind::FIELD, TTL].into_iter().chain(kinds.cloned())
}

/// What a delete takes.
pub(super) const DELETE: &[Field] = &[Field::switch(
    "force",
    "Forget the role although its keys cannot be revoked now. The answer names the keys that are\n\
     left behind.",
)
.default("false")
.query()];
