//! The proof that a key belongs to nobody in this mount. It is required before a key is deleted because a
//! person ordered that, relying on an answer from a node that may have been deposed.
//!
//! A deposed leader keeps reading its old state. A key that its successor created, leased or adopted appears
//! to belong to nobody. The check is therefore repeated after writes that only the leader can make: of the
//! role in the key's mark, if it exists, and of the connection.
//!
//! Also, no role of this node may adopt the key between the proof and the deletion, or have adopted it by a
//! write whose outcome is unknown.
//!
//! Reading every role for each of many keys would take too long. A caller can give a reading that it made for
//! all of them. It counts unless this node has changed something about the key since, which is in memory: no
//! other node can have, since this one still is the leader.

use super::holdings::Holdings;
use super::whose::Owner;
use crate::engine::connection::missing;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Nonce, RoleName};
use crate::framework::Held;
use crate::logical::Entry;
use crate::openrouter::KeyHash;

/// The proof, made by the leader, that a key belongs to nobody in this mount. No role adopts it while this
/// exists.
pub struct Unclaimed {
    /// The owner that was found instead.
    pub owner: Owner,
    _alone: Held,
}

/// Makes the proof, with a few storage calls, and one for each role unless `known` was read a short while
/// ago. `marked_for` is the role in the key's mark.
///
/// # Errors
/// Errors from storage if this node may not write; [`Error::Conflict`] if the key has an owner after all, or
/// may get one.
pub async fn prove_unclaimed(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    key_name: &str,
    marked_for: Option<&RoleName>,
    known: Option<&Holdings>,
) -> Result<Unclaimed, Error> {
    // Held until the proof is made, so that a rotation in progress finishes first. Taken before the key's lock,
    // in the order of an adoption.
    let guard = match marked_for {
        Some(role) => Some(engine.tend(role).await),
        None => None,
    };
    let alone = engine.adoptions.lock(hash).await;
    if let Some(guard) = &guard {
        guard.fence(None).await?;
    }
    write_again(engine, connection).await?;
    let owner = match known {
        Some(known) if !was_claimed(engine, hash, key_name).await? => {
            known.owner(Some(hash), key_name)
        }
        _ => Holdings::of(engine).await?.owner(Some(hash), key_name),
    };
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

/// Whether this node knows an owner of the key. The lock of its adoption is held, so it can get none now.
async fn was_claimed(engine: &Engine, hash: &KeyHash, key_name: &str) -> Result<bool, Error> {
    let books = engine.books().await?;
    let nonce = Nonce::of_key_name(key_name);
    let is_ordered = nonce.is_some_and(|nonce| books.intents.is_known(&nonce));
    // A store that reported failure may have given the key to a role that is not read again yet.
    let is_unsure = !engine.register.unread().is_empty();
    Ok(is_ordered || is_unsure || engine.register.has(hash) || books.leases.has(hash))
}

async fn write_again(engine: &Engine, connection: &ConnectionName) -> Result<(), Error> {
    let key = connection.key();
    let _held = engine.connection_locks.lock(&key).await;
    let value = engine.storage.get(&key).await?;
    let value = value.ok_or_else(|| missing(connection))?;
    Ok(engine.storage.put(Entry { key, value }).await?)
}
