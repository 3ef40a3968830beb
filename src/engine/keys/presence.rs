//! Whether a key is still there at OpenRouter, by more than one sign.

use super::holdings::Holdings;
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::role::rotating::CurrentKey;
use crate::openrouter::{self, Bearer, KeyHash};

/// Whether the management key sees a key.
///
/// # Errors
/// [`Error::OpenRouter`] when that cannot be found out.
pub async fn is_there(link: &Link, hash: &KeyHash) -> Result<bool, Error> {
    match link.client(Urgency::Ordinary).await.key(hash).await {
        Ok(_) => Ok(true),
        Err(openrouter::Error::NotFound { .. }) => Ok(false),
        Err(reason) => Err(while_looking_up(reason)),
    }
}

/// Whether a role's current key is gone: the management key does not see it, and the key itself is
/// rejected. Where it must not be sent to the connection's address, since it was made under another,
/// the second sign is that the management key still sees other keys of this mount.
///
/// # Errors
/// [`Error::OpenRouter`] when that cannot be found out; storage's own.
pub async fn is_gone(engine: &Engine, key: &CurrentKey) -> Result<bool, Error> {
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    if is_there(&link, &key.hash).await? {
        return Ok(false);
    }
    if !link.address().may_see_keys_of(&key.address) {
        return sees_another(engine, &link, key).await;
    }
    let turn = link.client(Urgency::Ordinary).await;
    match turn.current_key(&key.secret).await {
        Ok(_) => Ok(false),
        Err(openrouter::Error::Unauthorized {
            bearer: Bearer::ApiKey,
            ..
        }) => Ok(true),
        Err(reason) => Err(while_looking_up(reason)),
    }
}

async fn sees_another(engine: &Engine, link: &Link, key: &CurrentKey) -> Result<bool, Error> {
    let others = Holdings::of(engine).await?.keys_of(&key.connection);
    for hash in others
        .iter()
        .filter(|hash| **hash != key.hash)
        .take(MOST_ASKED)
    {
        if is_there(link, hash).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn while_looking_up(reason: openrouter::Error) -> Error {
    Error::while_doing("a key cannot be looked up")(reason)
}

/// Other keys that are asked about before it is given up to find one that is seen.
const MOST_ASKED: usize = 8;
