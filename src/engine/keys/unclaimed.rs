//! The proof that nobody of this mount has a key: needed before one is deleted because a person has
//! ordered that, who was told so by a node that may have lost its office.
//!
//! A deposed leader goes on reading its old state. A key that its successor has made, leased or adopted
//! looks to it as if nobody had it. So it is asked once more after a write that only a node in office
//! can make: of the role whose mark the key bears, if there is such a role, and of the connection.
//!
//! Nor may a role of this node adopt the key between the proof and the deletion, or have adopted it by a store
//! whose outcome is unknown.

use super::holdings::Holdings;
use super::whose::Owner;
use crate::engine::connection::missing;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, RoleName};
use crate::framework::Held;
use crate::logical::Entry;
use crate::openrouter::KeyHash;

/// Nobody of this mount has a key, as was found by a node in office; and no role adopts it for as long as this
/// lives.
pub struct Unclaimed {
    /// Whose it is instead.
    pub owner: Owner,
    _alone: Held,
}

/// Proves it: a few storage calls, and one for each role. The role is the one whose mark the key bears.
///
/// # Errors
/// Storage's own when this node may not write; [`Error::Conflict`] when somebody has the key after all, or may
/// come to have it.
pub async fn prove_unclaimed(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    key_name: &str,
    marked_for: Option<&RoleName>,
) -> Result<Unclaimed, Error> {
    // Held until the proof is made: a rotation that is under way ends first. Taken before the key's lock, as
    // whoever adopts it does.
    let guard = match marked_for {
        Some(role) => Some(engine.tend(role).await),
        None => None,
    };
    let alone = engine.adoptions.lock(hash).await;
    if let Some(guard) = &guard {
        guard.fence(None).await?;
    }
    write_again(engine, connection).await?;
    let owner = Holdings::of(engine).await?.owner(Some(hash), key_name);
    if !owner.is_unclaimed() {
        return Err(Error::Conflict(format!(
            "key {hash} is {owner} by now; look it up again"
        )));
    }
    if let Some(certain_at) = engine.adoptions.unsure_until(hash, engine.now()) {
        return Err(Error::Conflict(format!(
            "it is not certain before {certain_at} whether a role has adopted key {hash}; look it up again then"
        )));
    }
    Ok(Unclaimed {
        owner,
        _alone: alone,
    })
}

async fn write_again(engine: &Engine, connection: &ConnectionName) -> Result<(), Error> {
    let key = connection.key();
    let _held = engine.connection_locks.lock(&key).await;
    let value = engine.storage.get(&key).await?;
    let value = value.ok_or_else(|| missing(connection))?;
    Ok(engine.storage.put(Entry { key, value }).await?)
}
