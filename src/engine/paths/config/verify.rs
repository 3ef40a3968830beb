//! Proving a management key before anything depends on it.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::engine::clock::after;
use crate::engine::connection::{Connection, Link, Proof};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::engine::role::Role;
use crate::openrouter::{self, KeyHash};

/// Asks OpenRouter what the key is: it must be a management key.
pub(super) async fn prove(link: &Link, now: Timestamp) -> Result<Proof, Error> {
    let key = link
        .client()
        .await
        .current_management_key()
        .await
        .map_err(Error::while_doing("the management key cannot be verified"))?;
    if !key.is_management_key {
        return Err(Error::invalid(
            "management_key must be a management key; this is an ordinary API key, which cannot \
             create or revoke others. Management keys are made in OpenRouter's settings",
        ));
    }
    Ok(Proof {
        label: key.label,
        expires_at: key.expires_at,
        verified_at: now,
    })
}

/// What an operator should know of a key that was just proved.
pub(super) fn warnings(proof: &Proof, now: Timestamp) -> Option<String> {
    let expires_at = proof.expires_at?;
    (expires_at <= after(now, SOON)).then(|| {
        format!(
            "the management key expires at {expires_at}; OpenRouter has no way to renew one, so \
             make a new one in its settings and write it here before then"
        )
    })
}

/// Whether a change of this kind could hide the managed keys from the engine.
pub(super) fn reaches_elsewhere(before: &Connection, after: &Connection) -> bool {
    use secrecy::ExposeSecret;
    before.management_key.expose_secret() != after.management_key.expose_secret()
        || before.api_url != after.api_url
}

/// Proves that every key that the engine manages through the connection can be seen over `link`.
/// A key that the old connection does not see either is gone, and no reason to refuse.
pub(super) async fn sees_the_same(
    engine: &Engine,
    name: &ConnectionName,
    old: &Link,
    new: &Link,
) -> Result<(), Error> {
    let managed = managed_keys(engine, name).await?;
    let lost: Vec<KeyHash> = stream::iter(managed)
        .map(|hash| async move {
            let seen = sees(new, &hash).await? || !sees(old, &hash).await.unwrap_or(true);
            Ok::<_, Error>((!seen).then_some(hash))
        })
        .buffer_unordered(8)
        .try_filter_map(|lost| async move { Ok(lost) })
        .try_collect()
        .await?;
    match lost.first() {
        None => Ok(()),
        Some(one) => Err(Error::Invalid(format!(
            "management_key does not see {} of the keys that this engine manages ({one}, for \
             one), so they could not be revoked any more; give it a key of the same account, or \
             force=true to leave them behind",
            lost.len()
        ))),
    }
}

async fn sees(link: &Link, hash: &KeyHash) -> Result<bool, Error> {
    match link.client().await.key(hash).await {
        Ok(_) => Ok(true),
        Err(openrouter::Error::NotFound { .. }) => Ok(false),
        Err(reason) => Err(Error::OpenRouter {
            doing: "it cannot be proved that the management key sees the managed keys".to_owned(),
            reason,
        }),
    }
}

async fn managed_keys(engine: &Engine, name: &ConnectionName) -> Result<Vec<KeyHash>, Error> {
    let storage = &*engine.storage;
    let mut hashes = engine.unlisted_keys(name).await?.leased;
    for role in Role::names(storage).await? {
        if let Some(role) = Role::load(storage, &role).await? {
            hashes.extend(role.keys_of(name));
        }
    }
    Ok(hashes)
}

/// How early an expiry is worth a warning, in seconds: 14 days.
const SOON: u64 = 14 * 24 * 60 * 60;
