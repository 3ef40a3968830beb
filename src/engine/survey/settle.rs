//! Asking OpenRouter about what is doubtful, and storing what is true of it.

use jiff::Timestamp;

use crate::engine::connection::Link;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{Nonce, Origin, Place, RoleName};
use crate::engine::role::Role;
use crate::engine::role::rotating::{CurrentKey, MOST_SUPERSEDED, Misfit, RotatingRole, Unfit};
use crate::openrouter::{self, Bearer, Key, KeyHash};

/// What is doubtful about a role.
#[derive(Default)]
pub(super) struct Doubt {
    /// Its current key was not listed.
    pub(super) unlisted: bool,
    /// Keys that it is said to have, and that were not in its entry.
    pub(super) strays: Vec<Key>,
}

/// Asks OpenRouter about what is doubtful, under the role's lock, and stores what is true of it.
pub(super) async fn settle(
    engine: &Engine,
    link: &Link,
    place: &Place,
    name: RoleName,
    doubt: Doubt,
) -> Result<(), Error> {
    let _changing = engine.change(&name).await;
    // A lease's key expires soon, and by itself.
    let Some(mut role) = Role::load_rotating(&*engine.storage, &name).await? else {
        return Ok(());
    };
    let before = role.clone();
    let now = engine.clock.now();
    let mut strays = doubt.strays;
    strays.sort_by_key(|key| key.created_at);
    for key in strays {
        take_in(engine, link, place, (&name, &mut role), key, now).await?;
    }
    if doubt.unlisted && is_gone(link, &role.current).await? {
        tracing::warn!(
            mount = engine.mount,
            role = %name,
            key_hash = %role.current.hash,
            "the current key is gone at OpenRouter"
        );
        let reason = Misfit::Gone;
        role.unfit = Some(Unfit { reason, since: now });
    }
    if role != before {
        role.store(&*engine.storage, &name).await?;
    }
    Ok(())
}

async fn take_in(
    engine: &Engine,
    link: &Link,
    place: &Place,
    (name, role): (&RoleName, &mut RotatingRole),
    key: Key,
    now: Timestamp,
) -> Result<(), Error> {
    // Since the listing it may have become the role's, or have been revoked and forgotten.
    let is_the_roles = Nonce::of_key_name(&key.name).is_none_or(|nonce| role.has_key_of(&nonce));
    if is_the_roles || origin_of(engine, &key.name).is_none() || !is_there(link, &key.hash).await? {
        return Ok(());
    }
    if role.superseded.len() >= MOST_SUPERSEDED {
        return Err(Error::Conflict(format!(
            "role {:?} has {MOST_SUPERSEDED} superseded keys, and a further one at OpenRouter has to \
             wait for one of them to be revoked",
            name.to_string()
        )));
    }
    tracing::warn!(
        mount = engine.mount,
        role = %name,
        key_hash = %key.hash,
        "a key of the role's was unknown to storage, it is superseded now"
    );
    role.take_in(key, &place.connection, now);
    Ok(())
}

async fn is_there(link: &Link, hash: &KeyHash) -> Result<bool, Error> {
    match link.client().await.key(hash).await {
        Ok(_) => Ok(true),
        Err(openrouter::Error::NotFound { .. }) => Ok(false),
        Err(reason) => Err(while_looking_up(reason)),
    }
}

/// Whether a key is dead, by the word of the management key and by its own.
async fn is_gone(link: &Link, key: &CurrentKey) -> Result<bool, Error> {
    if is_there(link, &key.hash).await? {
        return Ok(false);
    }
    match link.client().await.current_key(&key.secret).await {
        Ok(_) => Ok(false),
        Err(openrouter::Error::Unauthorized {
            bearer: Bearer::ApiKey,
            ..
        }) => Ok(true),
        Err(reason) => Err(while_looking_up(reason)),
    }
}

fn while_looking_up(reason: openrouter::Error) -> Error {
    Error::while_doing("a key cannot be looked up")(reason)
}

/// Which role of this mount a key of that name is said to be of; `None` for what is not this mount's, or is spoken
/// for. Without a UUID of its own a mount cannot tell its keys from others'.
pub(super) fn origin_of(engine: &Engine, key_name: &str) -> Option<Origin> {
    let nonce = Nonce::of_key_name(key_name)?;
    let origin = nonce.origin()?;
    let ours = !engine.mount.is_empty() && origin.is_of_mount(&engine.mount);
    let spoken_for = || engine.intents.is_known(&nonce) || engine.leases.living(&nonce).is_some();
    (ours && !spoken_for()).then_some(origin)
}
