//! Checks that the invariants of connections and roles share.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::error::Error;
use crate::framework::{Field, Fields};
use crate::invariants::assert_can_be_shown;
use crate::logical::Data;

/// The fields of a write with this data, or `None` if it is rejected with a message that can be shown.
pub(super) fn fields(schema: &[Field], data: &Data) -> Option<Fields> {
    let fields = Fields::parse(schema, &[("name", "app")], data, true);
    fields
        .inspect_err(|refusal| assert_can_be_shown(&refusal.to_string()))
        .ok()
}

/// What was made from the fields, or `None` if they are rejected with a message that can be shown.
pub(super) fn accepted<T>(made: Result<T, Error>) -> Option<T> {
    made.inspect_err(|refusal| assert_can_be_shown(&refusal.to_string()))
        .ok()
}

/// Panics unless an entry is unchanged after it is stored, read and stored again.
#[track_caller]
pub(super) fn assert_can_be_stored<T: Serialize + DeserializeOwned>(entry: &T) -> Option<T> {
    let stored = serde_json::to_string(entry).ok()?;
    let restored = serde_json::from_str::<T>(&stored);
    let again = restored.as_ref().map(serde_json::to_string);
    assert!(
        again.is_ok_and(|again| again.is_ok_and(|again| again == stored)),
        "it does not come back as it was stored"
    );
    restored.ok()
}
