//! Whether a key still exists at OpenRouter, by more than one sign.

use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::engine::role::rotating::CurrentKey;
use crate::openrouter::{self, Bearer, Key, KeyHash};

/// What is known about a key at OpenRouter.
#[derive(Debug)]
pub enum Presence {
    /// The management key can see it.
    There(Box<Key>),
    /// It no longer exists.
    Gone,
    /// The management key cannot see it, but it works.
    Works,
    /// The management key cannot see it, and there is no other sign of whether it is gone.
    Unseen,
}

/// The key as the management key sees it; `None` if it cannot see it.
///
/// # Errors
/// [`Error::OpenRouter`] if that cannot be found out.
pub async fn seen(link: &Link, hash: &KeyHash) -> Result<Option<Key>, Error> {
    match link.client(Urgency::Ordinary).await.key(hash).await {
        Ok(key) => Ok(Some(key)),
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => Err(while_looking_up(reason)),
    }
}

/// Whether the management key can see a key.
///
/// # Errors
/// [`Error::OpenRouter`] if that cannot be found out.
pub async fn is_there(link: &Link, hash: &KeyHash) -> Result<bool, Error> {
    Ok(seen(link, hash).await?.is_some())
}

/// What is known about a role's current key. A key counts as gone if the management key cannot see it and
/// OpenRouter rejects the key itself. A key that was created under another address must not be sent to this
/// one. In that case the second sign is that the management key can still see other keys of this mount.
///
/// # Errors
/// [`Error::OpenRouter`] if that cannot be found out; errors from storage.
pub async fn presence(engine: &Engine, key: &CurrentKey) -> Result<Presence, Error> {
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    if let Some(key) = seen(&link, &key.hash).await? {
        return Ok(Presence::There(Box::new(key)));
    }
    if !link.address().may_see_keys_of(&key.address) {
        return Ok(
            if sees_another(engine, &link, &key.connection, &key.hash).await? {
                Presence::Gone
            } else {
                Presence::Unseen
            },
        );
    }
    let turn = link.client(Urgency::Ordinary).await;
    match turn.current_key(&key.secret).await {
        Ok(_) => Ok(Presence::Works),
        Err(openrouter::Error::Unauthorized {
            bearer: Bearer::ApiKey,
            ..
        }) => Ok(Presence::Gone),
        Err(reason) => Err(while_looking_up(reason)),
    }
}

/// Whether the management key of a connection can see another key that this mount manages through it, as a
/// sign that it can still see the account.
///
/// # Errors
/// [`Error::OpenRouter`] if that cannot be found out; errors from storage.
pub async fn sees_another(
    engine: &Engine,
    link: &Link,
    connection: &ConnectionName,
    hash: &KeyHash,
) -> Result<bool, Error> {
    let books = engine.books().await?;
    let of_roles = engine.register.expectations(connection).keys.into_keys();
    let of_leases = books.leases.all().map(|record| record.key);
    let of_leases = of_leases.filter(|key| key.connection == *connection);
    let others = of_roles.chain(of_leases.map(|key| key.key_hash));
    for other in others.filter(|other| other != hash).take(MAX_ASKED) {
        if is_there(link, &other).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn while_looking_up(reason: openrouter::Error) -> Error {
    Error::while_doing("a key cannot be looked up")(reason)
}

/// Number of other keys to try.
const MAX_ASKED: usize = 8;
