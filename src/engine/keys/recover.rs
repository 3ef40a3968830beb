//! Recovery: what becomes of the intents that are adrift at a place. The keeper comes here when a
//! look is due, and [`super::mint()`] before a role orders again.
//!
//! # Expected flow of a look
//! 1. An intent whose key is in its role's entry went well, and only the last stroke was missing: it
//!    is struck out.
//! 2. Of the others nobody knows the key's secret. One that was rejected is deleted by its hash.
//! 3. The rest are looked for by their nonces, in one listing over all pages of the workspace,
//!    disabled and expired keys included, and what is found is deleted.
//! 4. An intent whose key was deleted is struck out. When no key was found, the intent stays and the
//!    look is repeated, for an order may still be on its way when OpenRouter is first asked; only a
//!    look [`SETTLED`] after the order was announced strikes it out.
//!
//! # Guarantees
//! - A key that is current or superseded in storage is never deleted here: no task can store the
//!   key any more, since the intent is adrift, so what step 1 sees is final; and should a listing
//!   give such a key the name of a lost one, nothing is deleted by it.
//! - An intent is struck out only when its key is in service, or deleted, or cannot exist.
//! - What goes wrong with one intent holds up no other.
//! - A role whose earlier order cannot be looked for orders nothing. One whose earlier orders were
//!   looked for and not found may, up to [`MOST_UNSETTLED`] of them: where lists work and only
//!   creations fail, so many may be waiting for their last look.

use std::collections::HashSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::holdings;
use crate::engine::backoff::as_long_again;
use crate::engine::books::{Intent, Purpose};
use crate::engine::clock::{after, seconds_until};
use crate::engine::connection::Link;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{Place, RoleName};
use crate::engine::role::Role;
use crate::framework::wal::Written;
use crate::logical::StorageError;
use crate::openrouter::{Deletion, Key, KeyHash};

/// Looks for what is adrift at a place, if that is due, and returns when the next look is; `None`
/// when nothing is adrift there any more.
///
/// # Errors
/// When OpenRouter or storage failed: what was looked for stays, and [`Intents::next_look`] has the
/// time of the next look.
///
/// [`Intents::next_look`]: super::Intents::next_look
pub async fn recover(engine: &Engine, place: &Place) -> Result<Option<Timestamp>, Error> {
    let next = || {
        let now = engine.clock.now();
        (engine.intents.next_look(place, now), now)
    };
    if let (Some(at), now) = next()
        && at <= now
    {
        look(engine, place).await?;
    }
    Ok(next().0)
}

/// Makes sure that a role may order a key at this place: of each earlier order a look has shown that
/// there is no key, or undone it.
///
/// # Errors
/// Why that could not be found out, or [`Error::Conflict`] when too many of them are not settled.
pub(super) async fn settle_earlier(
    engine: &Engine,
    role: &RoleName,
    place: &Place,
) -> Result<(), Error> {
    let looks = &engine.intents.looks;
    let earlier = || {
        let mut adrift = engine.intents.adrift(place);
        adrift.retain(|written| {
            let intent = &written.data;
            intent.role == *role && matches!(intent.purpose, Purpose::Rotation { .. })
        });
        adrift.into_iter().map(|written| written.data.nonce)
    };
    let mut unknown = earlier().filter(|nonce| !looks.of(nonce).found_nothing);
    if unknown.next().is_some() {
        look(engine, place).await.map_err(not_known)?;
        for nonce in earlier() {
            let look = looks.of(&nonce);
            if !look.found_nothing {
                let reason = look.failure.unwrap_or_else(|| not_settled(role));
                return Err(not_known(reason));
            }
        }
    }
    if earlier().count() < MOST_UNSETTLED {
        Ok(())
    } else {
        Err(not_settled(role))
    }
}

fn not_known(reason: Error) -> Error {
    match reason {
        Error::OpenRouter { doing, reason } => Error::OpenRouter {
            doing: format!(
                "no key was ordered, since it is not known what came of an earlier order: {doing}"
            ),
            reason,
        },
        other => other,
    }
}

fn not_settled(role: &RoleName) -> Error {
    Error::Conflict(format!(
        "OpenRouter has not said what came of earlier orders for role {:?}, and they may still take \
         effect; try again in some minutes",
        role.to_string()
    ))
}

/// Looks once for everything that is adrift at a place, or shares what another look came to that
/// began meanwhile.
async fn look(engine: &Engine, place: &Place) -> Result<(), Error> {
    // Asked each time: what this node stored last may be old by now, and a key that is not in an
    // old entry must not be taken for one that nobody needs.
    if !engine.system.may_write().await? {
        return Err(StorageError::ReadOnly.into());
    }
    let looks = &engine.intents.looks;
    let arrived = looks.ticket();
    let _alone = looks.alone(place).await;
    if let Some(outcome) = looks.since(place, arrived) {
        return outcome;
    }
    let begun = (looks.ticket(), engine.clock.now());
    let outcome = look_alone(engine, place).await;
    looks.ended(place, begun, outcome.clone());
    outcome
}

async fn look_alone(engine: &Engine, place: &Place) -> Result<(), Error> {
    let mut sought = Vec::new();
    for written in engine.intents.adrift(place) {
        let ownerless = is_ownerless(engine, &written.data).await;
        if or_put_off(engine, &written, ownerless)? == Some(true) {
            sought.push(written);
        }
    }
    if sought.is_empty() {
        return Ok(());
    }
    let found = look_through(engine, place, &mut sought).await;
    let (link, keys, looked_at) = match found {
        Ok(found) => found,
        Err(reason) => {
            for written in &sought {
                put_off(engine, written, &reason);
            }
            return Err(reason);
        }
    };
    let (link, keys) = (&link, &keys);
    stream::iter(sought)
        .map(Ok)
        .try_for_each_concurrent(AT_A_TIME, |written| async move {
            let settled = settle(engine, link, &written, keys, looked_at).await;
            or_put_off(engine, &written, settled).map(|_| ())
        })
        .await
}

/// Whether nobody has the intent's key. If somebody does, it is struck out.
async fn is_ownerless(engine: &Engine, intent: &Intent) -> Result<bool, Error> {
    let (intents, nonce) = (&engine.intents, &intent.nonce);
    if matches!(intent.purpose, Purpose::Rotation { .. }) && !intents.looks.of(nonce).ownerless {
        let role = Role::load(&*engine.storage, &intent.role).await?;
        if role.is_some_and(|role| role.has_key_of(nonce)) {
            intents.strike(&*engine.storage, nonce).await?;
            return Ok(false);
        }
        intents.looks.learn(nonce, |look| look.ownerless = true);
    }
    Ok(true)
}

/// Deletes what was rejected, and takes out of `sought` what is thereby settled, or has to be tried
/// again; lists the keys of the rest. The time is that before the listing: what shows up during it
/// must be looked for again.
async fn look_through(
    engine: &Engine,
    place: &Place,
    sought: &mut Vec<Written<Intent>>,
) -> Result<(Link, Vec<Key>, Timestamp), Error> {
    let storage = &*engine.storage;
    let link = engine.links.open(storage, &place.connection).await?;
    let mut unsettled = Vec::new();
    for written in sought.drain(..) {
        let deleted = delete_rejected(engine, &link, &written.data).await;
        if or_put_off(engine, &written, deleted)? == Some(false) {
            unsettled.push(written);
        }
    }
    *sought = unsettled;
    let looked_at = engine.clock.now();
    let nonces: HashSet<String> = sought.iter().map(|w| w.data.nonce.marker()).collect();
    if nonces.is_empty() {
        return Ok((link, Vec::new(), looked_at));
    }
    let turn = link.client().await;
    let keys = turn
        .find_by_nonces(&nonces, place.workspace_id.as_ref())
        .await
        .map_err(Error::while_doing(
            "an unconfirmed key cannot be looked for",
        ))?;
    drop(turn);
    holdings::none_of(engine, place, &keys).await?;
    Ok((link, keys, looked_at))
}

/// Whether the intent had a rejected key, which is now deleted, and is struck out.
async fn delete_rejected(engine: &Engine, link: &Link, intent: &Intent) -> Result<bool, Error> {
    let Some(hash) = &intent.rejected else {
        return Ok(false);
    };
    if delete(engine, link, intent, hash).await? == Deletion::AlreadyGone {
        // Or not known everywhere yet: it is looked for like any other.
        return Ok(false);
    }
    let (intents, storage) = (&engine.intents, &*engine.storage);
    intents.strike(storage, &intent.nonce).await?;
    Ok(true)
}

/// Deletes those of `keys` that the intent's order made, and strikes it out, unless it is too early.
async fn settle(
    engine: &Engine,
    link: &Link,
    written: &Written<Intent>,
    keys: &[Key],
    looked_at: Timestamp,
) -> Result<(), Error> {
    let intent = &written.data;
    let mut found_nothing = true;
    for key in keys.iter().filter(|key| intent.nonce.marks(&key.name)) {
        delete(engine, link, intent, &key.hash).await?;
        found_nothing = false;
    }
    if found_nothing && let Some(next) = next_look(written.at, looked_at) {
        engine.intents.looks.learn(&intent.nonce, |look| {
            look.found_nothing = true;
            look.failure = None;
            look.next = next;
        });
        return Ok(());
    }
    let (intents, storage) = (&engine.intents, &*engine.storage);
    Ok(intents.strike(storage, &intent.nonce).await?)
}

async fn delete(
    engine: &Engine,
    link: &Link,
    intent: &Intent,
    hash: &KeyHash,
) -> Result<Deletion, Error> {
    let deleted = link.client().await.delete_key(hash).await;
    let deletion = deleted.map_err(Error::while_doing("an unconfirmed key cannot be deleted"))?;
    if deletion == Deletion::Deleted {
        tracing::info!(
            mount = engine.mount,
            role = %intent.role,
            key_hash = %hash,
            "deleted a key whose creation was never confirmed"
        );
    }
    Ok(deletion)
}

/// Puts an intent off with which something went wrong, which is then `None`, and lets the look go on
/// with the others; unless this node must not go on at all.
fn or_put_off<T>(
    engine: &Engine,
    written: &Written<Intent>,
    result: Result<T, Error>,
) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(reason @ Error::Storage(StorageError::ReadOnly)) => Err(reason),
        Err(reason) => {
            let role = &written.data.role;
            tracing::warn!(mount = engine.mount, %role, %reason, "this is tried again");
            put_off(engine, written, &reason);
            Ok(None)
        }
    }
}

/// Sets the time of the next look after one that failed: after about as long as the recovery has
/// been going on, up to an hour, so that what an outage leaves behind is not what keeps OpenRouter
/// down; later if OpenRouter asked for that. One that has a later look ahead keeps its time.
fn put_off(engine: &Engine, written: &Written<Intent>, reason: &Error) {
    let nonce = &written.data.nonce;
    if !engine.intents.is_known(nonce) {
        return;
    }
    let now = engine.clock.now();
    let going_on = seconds_until(written.at, now);
    let next = after(now, as_long_again(going_on, reason, &*engine.randomness));
    engine.intents.looks.learn(nonce, |look| {
        look.failure = Some(reason.clone());
        if look.next <= now {
            look.next = next;
        }
    });
}

/// When to look again after a look at `now` that found nothing.
fn next_look(announced: Timestamp, now: Timestamp) -> Option<Timestamp> {
    LOOKS
        .iter()
        .map(|seconds| after(announced, *seconds))
        .find(|at| *at > now)
}

/// Seconds after the announcement at which an order that left no trace is looked for again.
const LOOKS: [u64; 4] = [5, 30, 120, SETTLED];

/// How long after its announcement an order may still take effect, in seconds: the longest request
/// of a connection takes a minute, and the rest is for OpenRouter's lists to catch up.
pub const SETTLED: u64 = 10 * 60;

/// So many orders of a role may be waiting for their last look before it orders another. The
/// schedule's own tries come near it within [`SETTLED`]; people and scripts would pass it.
const MOST_UNSETTLED: usize = 8;

/// Deletions at a time: more would wait for their turns anyway.
const AT_A_TIME: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_at_growing_distances_and_end_when_the_order_has_settled() {
        let announced = Timestamp::from_second(1_000).unwrap();
        let look = |offset| next_look(announced, after(announced, offset)).map(|t| t.as_second());
        assert_eq!(look(0), Some(1_005));
        assert_eq!(look(5), Some(1_030));
        assert_eq!(look(200), Some(1_600));
        assert_eq!(look(600), None);
    }
}
