//! A last look before keys that a listing showed are deleted: none of them may be in service. By its
//! name such a key could not have been found; but that the name goes with the hash is OpenRouter's
//! word alone, and a listing that mixes them up must not cost a key that people work with.

use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::Place;
use crate::engine::role::Role;
use crate::logical::StorageError;
use crate::openrouter::{self, Key};

/// Makes sure that no role and no lease of this mount has one of the keys. A role whose entry cannot
/// be read is passed over: nobody knows its keys, and it must not hold up the others.
///
/// # Errors
/// [`Error::OpenRouter`] when one has, and storage's own.
pub(super) async fn none_of(engine: &Engine, place: &Place, keys: &[Key]) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let storage = &*engine.storage;
    let mut in_service = engine.unlisted_keys(&place.connection).await?.leased;
    for name in Role::names(storage).await? {
        match Role::load(storage, &name).await {
            Ok(role) => in_service.extend(role.iter().flat_map(|r| r.keys_of(&place.connection))),
            Err(Error::Storage(StorageError::Malformed { .. })) => {}
            Err(reason) => return Err(reason),
        }
    }
    match keys.iter().find(|key| in_service.contains(&key.hash)) {
        None => Ok(()),
        Some(key) => Err(Error::OpenRouter {
            doing: "an unconfirmed key cannot be deleted".to_owned(),
            reason: openrouter::Error::Unclear {
                reason: format!(
                    "its list shows the key {}, which is in service, under the name {:?}",
                    key.hash, key.name
                ),
                retry_after: None,
            },
        }),
    }
}
