//! Comparing what is stored with what is at OpenRouter, when the engine begins its work.
//!
//! Storage can be older than OpenRouter's state: somebody restored a snapshot. Then roles were
//! rotated of which their entries know nothing: the current key is gone, or is about to be, and the
//! key in its place is one whose secret nobody knows. A server does not tell its plugins of that, so
//! every start of the work is taken for one: it costs one listing of each place that rotating roles
//! have keys in, in the background.
//!
//! # What is found, and what is done
//! - **A key of a role's that no entry has.** Its name says so ([`Origin`]), it is neither in the
//!   making nor under a lease, and OpenRouter still knows it when asked under the role's lock.
//!   Applications may hold it, so it is taken in as a superseded key, with the role's grace period. If
//!   it is newer than the current key, a rotation was forgotten, and is done again.
//! - **A current key that is gone:** OpenRouter knows neither its hash nor its secret. (A management
//!   key of another account does not know the hash either, but the secret still works.) It is not
//!   handed out any more, and replaced if rotation is automated.
//! - **A key of a role that does not exist** is named in the log, and left alone.
//!
//! Whatever else is at OpenRouter is somebody else's, and not looked at.

mod ledger;

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use jiff::Timestamp;

pub use ledger::Ledger;
use ledger::Owner;

use super::clock::seconds_until;
use super::connection::Link;
use super::error::Error;
use super::keeper::Task;
use super::minting::Place;
use super::nonce::{Nonce, Origin};
use super::role::{Role, RoleName};
use super::rotating::{CurrentKey, Misfit, RotatingRole, Unfit};
use super::rotation::MOST_SUPERSEDED;
use super::state::Engine;
use crate::openrouter::{self, Bearer, Key};

/// Has the keeper compare what is in the ledger.
pub async fn begin(engine: &Engine, ledger: Ledger) {
    if !ledger.is_done() {
        *engine.ledger.lock().await = Some(ledger);
        engine.keeper.now(Task::Reconcile);
    }
}

/// Compares what was not compared yet.
///
/// # Errors
/// OpenRouter's and storage's. What was not compared because of them is compared when this is called
/// again.
pub async fn reconcile(engine: &Engine) -> Result<(), Error> {
    let mut kept = engine.ledger.lock().await;
    let Some(ledger) = kept.as_mut() else {
        return Ok(());
    };
    for name in ledger.unread.clone() {
        let read = Role::load(&*engine.storage, &name).await;
        ledger.enter(&name, engine.origin(&name), &read);
    }
    let mut outcome = ledger.require_all_read();
    for place in ledger.left.clone() {
        match compare_at(engine, &place, ledger).await {
            Ok(()) => {
                ledger.left.remove(&place);
            }
            // One connection's trouble is not the others'.
            Err(reason) => outcome = outcome.and(Err(reason)),
        }
    }
    if outcome.is_ok() {
        *kept = None;
    }
    outcome
}

/// For how many seconds it has been tried.
pub fn going_on(engine: &Engine, now: Timestamp) -> u64 {
    let kept = engine.ledger.try_lock().ok();
    let begun = kept.and_then(|ledger| Some(ledger.as_ref()?.begun));
    begun.map_or(0, |begun| seconds_until(begun, now))
}

async fn compare_at(engine: &Engine, place: &Place, ledger: &Ledger) -> Result<(), Error> {
    let link = match engine.links.open(&*engine.storage, &place.connection).await {
        // Its keys were left to themselves, by force.
        Err(Error::Missing(_)) => return Ok(()),
        link => link?,
    };
    let doubts = compare(engine, &link, place, ledger).await?;
    let settled = stream::iter(doubts)
        .map(|(name, doubt)| settle(engine, &link, place, name, doubt))
        .buffer_unordered(AT_A_TIME)
        .collect::<Vec<_>>();
    settled.await.into_iter().collect()
}

/// What is doubtful about a role.
#[derive(Default)]
struct Doubt {
    /// Its current key was not listed.
    unlisted: bool,
    /// Keys that it is said to have, and that were not in its entry.
    strays: Vec<Key>,
}

/// Goes through the keys at a place, and returns the roles about which something is doubtful.
async fn compare(
    engine: &Engine,
    link: &Link,
    place: &Place,
    ledger: &Ledger,
) -> Result<BTreeMap<RoleName, Doubt>, Error> {
    let mut unlisted = ledger.current_keys(place);
    let mut doubts = BTreeMap::<RoleName, Doubt>::new();
    let visit = |key: Key| {
        unlisted.remove(&key.hash);
        let Some(origin) = origin_of(engine, &key).filter(|_| !ledger.has(&key.hash)) else {
            return;
        };
        match ledger.owner(&origin) {
            Owner::Role(name) => doubts.entry(name.clone()).or_default().strays.push(key),
            Owner::Illegible | Owner::Unread => {}
            Owner::Nobody => tracing::warn!(
                mount = engine.mount,
                key_hash = %key.hash,
                key_name = key.name,
                "a key of this mount's is at OpenRouter that belongs to no role; it is left alone"
            ),
        }
    };
    let turn = link.client().await;
    turn.each_key(place.workspace_id.as_ref(), visit)
        .await
        .map_err(Error::while_doing("keys cannot be compared"))?;
    for name in unlisted.into_values().flatten() {
        doubts.entry(name.clone()).or_default().unlisted = true;
    }
    Ok(doubts)
}

/// Which role of this mount a key is said to be of; `None` for what is not this mount's, or is spoken
/// for. Without a UUID of its own a mount cannot tell its keys from others'.
fn origin_of(engine: &Engine, key: &Key) -> Option<Origin> {
    let nonce = Nonce::of_key_name(&key.name)?;
    let origin = nonce.origin()?;
    let ours = !engine.mount.is_empty() && origin.is_of_mount(&engine.mount);
    let spoken_for = engine.intents.is_known(&nonce) || engine.leases.living(&nonce).is_some();
    (ours && !spoken_for).then_some(origin)
}

/// Asks OpenRouter about what is doubtful, under the role's lock, and stores what is true of it.
async fn settle(
    engine: &Engine,
    link: &Link,
    place: &Place,
    name: RoleName,
    doubt: Doubt,
) -> Result<(), Error> {
    let _changing = engine.change(&name).await;
    // A lease's key expires soon, and by itself.
    let Some(mut role) = RotatingRole::load(&*engine.storage, &name).await? else {
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
    // Since the listing it may have become the role's, or a revoked key of its may have been forgotten.
    let is_the_roles = Nonce::of_key_name(&key.name).is_none_or(|nonce| role.has_key_of(&nonce));
    if is_the_roles || origin_of(engine, &key).is_none() || !is_there(link, &key).await? {
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

async fn is_there(link: &Link, key: &Key) -> Result<bool, Error> {
    match link.client().await.key(&key.hash).await {
        Ok(_) => Ok(true),
        Err(openrouter::Error::NotFound { .. }) => Ok(false),
        Err(reason) => Err(Error::while_doing("an unknown key cannot be looked up")(
            reason,
        )),
    }
}

/// Whether a key is dead, by the word of the management key and by its own.
async fn is_gone(link: &Link, key: &CurrentKey) -> Result<bool, Error> {
    let doing = || Error::while_doing("the current key cannot be looked up");
    match link.client().await.key(&key.hash).await {
        Ok(_) => return Ok(false),
        Err(openrouter::Error::NotFound { .. }) => {}
        Err(reason) => return Err(doing()(reason)),
    }
    match link.client().await.current_key(&key.secret).await {
        Ok(_) => Ok(false),
        Err(openrouter::Error::Unauthorized {
            bearer: Bearer::ApiKey,
            ..
        }) => Ok(true),
        Err(reason) => Err(doing()(reason)),
    }
}

/// Roles at a time: more would wait for their turns anyway.
const AT_A_TIME: usize = 8;
