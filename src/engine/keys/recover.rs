//! Recovery: what becomes of the intents that are adrift at a place. The keeper comes here when a
//! look is due, and [`super::mint()`] before a role orders again.
//!
//! # Expected flow of a look
//! 1. A key that was rejected is deleted by its hash.
//! 2. The others are looked for by their nonces, in one listing over all pages of the workspace,
//!    disabled and expired keys included. Whoever looks at the same place meanwhile shares the listing.
//! 3. Under its role's lock, each intent is settled ([`settle`]): it is struck out if its key is in the
//!    role's entry; if not, what was found of it is deleted, behind the fence.
//! 4. When no key was found, the intent stays and the look is repeated, for an order may still be on
//!    its way when OpenRouter is first asked; only a look [`SETTLED`] after the order was announced
//!    strikes it out.
//!
//! # Guarantees
//! - A key that storage knows is never deleted here. That storage does not know it is proved each time
//!   by the fence ([`RoleGuard::fence`]); what an earlier look has read is no proof. While it is not
//!   certain what became of a store that may have put it there, it is left alone.
//! - An intent that was read from storage may have come with a restored snapshot, and somebody may use
//!   its key: it is left alone for as long as that can be, from the start of the work.
//! - A switch that failed by its answer may have been committed, and its key handed out by a standby that
//!   serves reads: it is left alone for as long, from when the fence has shown that it is out of service.
//!   A key that was never being stored was never handed out, and goes at once.
//! - An intent is struck out only when its key is in service, or deleted, or cannot exist.
//! - What goes wrong with one intent holds up no other.
//! - A role whose earlier order cannot be looked for orders nothing. One whose earlier orders were
//!   looked for and not found may, up to [`MOST_UNSETTLED`] of them: where lists work and only
//!   creations fail, so many may be waiting for their last look. An emergency does not wait for a look.

mod settle;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::holdings::Holdings;
use super::retire::{Warrant, retire};
use crate::engine::books::{Finding, Intent, Listing, OUTLIVED, OpenBooks, Purpose};
use crate::engine::clock::{after, seconds_until};
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::names::{Nonce, Place, RoleName};
use crate::engine::retry::delay_of_ongoing;
use crate::framework::wal::Written;
use crate::logical::StorageError;
use crate::openrouter::{Deletion, Key, KeyHash};
use settle::settle;

/// Looks for what is adrift at a place, if that is due, and returns when the next look is; `None`
/// when nothing is adrift there any more.
///
/// # Errors
/// When OpenRouter or storage failed: what was looked for stays, and [`next_look`] has the time of the
/// next look.
pub async fn recover(engine: &Engine, place: &Place) -> Result<Option<Timestamp>, Error> {
    let books = engine.books().await?;
    let next = || {
        let now = engine.now();
        (books.intents.next_look(place, now), now)
    };
    if let (Some(at), now) = next()
        && at <= now
    {
        look(engine, &books, place, None).await?;
    }
    Ok(next().0)
}

/// When the next look at a place is due; `None` when nothing is adrift there.
pub fn next_look(engine: &Engine, place: &Place, now: Timestamp) -> Option<Timestamp> {
    engine.books_if_open()?.intents.next_look(place, now)
}

/// Makes sure that a role may order a key at this place: of each earlier order a look has shown that
/// there is no key, or undone it; or, in an emergency, that there are not too many of them.
///
/// # Errors
/// Why that could not be found out, or [`Error::Conflict`] when too many of them are not settled, or
/// it is not certain yet whether an earlier switch was stored.
pub(super) async fn settle_earlier(
    guard: &RoleGuard<'_>,
    books: &OpenBooks,
    place: &Place,
    is_urgent: bool,
) -> Result<(), Error> {
    let (engine, role) = (guard.engine(), guard.name());
    let looks = &books.intents.looks;
    require_certain_stores(guard, books).await?;
    let earlier = || {
        let mut adrift = books.intents.adrift_of(role);
        adrift.retain(|written| {
            let intent = &written.data;
            intent.place == *place && matches!(intent.purpose, Purpose::Rotation { .. })
        });
        adrift.into_iter().map(|written| written.data.nonce)
    };
    let is_unknown = |nonce: &_| looks.of(nonce).finding == Finding::Unknown;
    if !is_urgent && earlier().any(|nonce| is_unknown(&nonce)) {
        let looked = look(engine, books, place, Some(guard)).await;
        looked.map_err(not_known)?;
        for nonce in earlier() {
            let look = looks.of(&nonce);
            if look.finding == Finding::Unknown {
                let reason = look.failure.unwrap_or_else(|| not_settled(role));
                return Err(not_known(reason));
            }
        }
    }
    let unsettled = earlier().filter(|nonce| !matches!(looks.of(nonce).finding, Finding::InUse(_)));
    if unsettled.count() < MOST_UNSETTLED {
        Ok(())
    } else {
        Err(not_settled(role))
    }
}

/// While a switch may still take effect, another one would be undone by it.
async fn require_certain_stores(guard: &RoleGuard<'_>, books: &OpenBooks) -> Result<(), Error> {
    let engine = guard.engine();
    for written in books.intents.adrift_of(guard.name()) {
        let nonce = &written.data.nonce;
        let Some(begun) = books.intents.looks.of(nonce).store_begun else {
            continue;
        };
        let role = guard.load_rotating().await?;
        if role.is_some_and(|role| role.has_key_of(nonce)) {
            books.intents.strike(&*engine.storage, nonce).await?;
            continue;
        }
        let certain_at = after(begun, OUTLIVED);
        if engine.now() < certain_at {
            return Err(Error::Conflict(format!(
                "it is not certain before {certain_at} whether an earlier key of role {:?} was \
                 stored; try again then",
                guard.name().to_string()
            )));
        }
    }
    Ok(())
}

fn not_known(reason: Error) -> Error {
    match reason {
        Error::OpenRouter { doing, reason } => Error::OpenRouter {
            doing: format!(
                "no key was ordered, since the outcome of an earlier order is unknown: {doing}"
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

/// Looks once for everything that is adrift at a place and can be settled now: of the role that the
/// caller holds, or of any that nobody holds.
async fn look(
    engine: &Engine,
    books: &OpenBooks,
    place: &Place,
    held: Option<&RoleGuard<'_>>,
) -> Result<(), Error> {
    if !engine.system.may_write().await? {
        return Err(StorageError::ReadOnly.into());
    }
    let listing = shared_listing(engine, books, place).await;
    let mut due = books.intents.adrift(place);
    due.retain(|written| {
        let of_held = held.is_none_or(|guard| *guard.name() == written.data.role);
        of_held && is_due(engine, books, &written.data)
    });
    let listing = match listing {
        Ok(listing) => listing,
        Err(reason) => {
            for written in &due {
                postpone(engine, books, written, &reason);
            }
            return Err(reason);
        }
    };
    // Nothing is known of an intent that was set adrift meanwhile, or could not be looked for.
    due.retain(|written| listing.sought.contains(&written.data.nonce));
    stream::iter(by_lock(due))
        .map(Ok)
        .try_for_each_concurrent(CONCURRENCY, |intents| {
            settle_all(engine, books, &listing, intents, held)
        })
        .await
}

/// The intents that need the same role's lock together, so that they do not keep each other from it;
/// those of leases need none.
fn by_lock(due: Vec<Written<Intent>>) -> Vec<Vec<Written<Intent>>> {
    let mut of_roles = BTreeMap::<RoleName, Vec<_>>::new();
    let mut groups = Vec::new();
    for written in due {
        match written.data.purpose {
            Purpose::Rotation { .. } => {
                let role = written.data.role.clone();
                of_roles.entry(role).or_default().push(written);
            }
            Purpose::Lease => groups.push(vec![written]),
        }
    }
    groups.extend(of_roles.into_values());
    groups
}

/// Settles intents that need the same lock, one after the other.
async fn settle_all(
    engine: &Engine,
    books: &OpenBooks,
    listing: &Listing,
    intents: Vec<Written<Intent>>,
    held: Option<&RoleGuard<'_>>,
) -> Result<(), Error> {
    let role = intents.first().map(|written| &written.data.role);
    let taken = match held {
        None => role.and_then(|role| engine.try_tend(role)),
        Some(_) => None,
    };
    let guard = held.or(taken.as_ref());
    for written in &intents {
        let settled = settle(engine, books, listing, written, guard).await;
        postpone_if_failed(engine, books, written, settled)?;
    }
    Ok(())
}

/// Whether anything may be done about an intent now.
fn is_due(engine: &Engine, books: &OpenBooks, intent: &Intent) -> bool {
    let look = books.intents.looks.of(&intent.nonce);
    let certain = look
        .store_begun
        .is_none_or(|begun| after(begun, OUTLIVED) <= engine.now());
    let in_use = matches!(look.finding, Finding::InUse(until) if engine.now() < until);
    certain && !in_use
}

/// Lists the keys of the intents at a place; or shares a listing that began after the caller came.
async fn shared_listing(
    engine: &Engine,
    books: &OpenBooks,
    place: &Place,
) -> Result<Arc<Listing>, Error> {
    let looks = &books.intents.looks;
    let arrived = looks.ticket();
    let _alone = looks.alone(place).await;
    if let Some(outcome) = looks.since(place, arrived) {
        return outcome;
    }
    let begun = (looks.ticket(), engine.now());
    let outcome = list(engine, books, place).await.map(Arc::new);
    looks.ended(place, begun, outcome.clone());
    outcome
}

/// Deletes what was rejected, and lists the keys of the rest. The time is that before the listing:
/// what shows up during it must be looked for again.
async fn list(engine: &Engine, books: &OpenBooks, place: &Place) -> Result<Listing, Error> {
    let link = engine.links.open(&*engine.storage, &place.connection);
    let link = link.await?;
    let mut sought = BTreeSet::new();
    for written in books.intents.adrift(place) {
        if !is_due(engine, books, &written.data) {
            continue;
        }
        let deleted = delete_rejected(engine, books, &written.data).await;
        match deleted {
            Ok(true) => {}
            Ok(false) => {
                sought.insert(written.data.nonce);
            }
            failed => postpone_if_failed(engine, books, &written, failed.map(|_| ()))?,
        }
    }
    let begun = engine.now();
    let keys = if sought.is_empty() {
        Vec::new()
    } else {
        let nonces = sought.iter().map(Nonce::marker).collect();
        find(&link, &nonces, place).await?
    };
    let held = held(engine, &keys).await?;
    Ok(Listing {
        begun,
        sought,
        keys,
        held,
    })
}

async fn find(link: &Link, nonces: &HashSet<String>, place: &Place) -> Result<Vec<Key>, Error> {
    let turn = link.client(Urgency::Ordinary).await;
    let found = turn.find_by_nonces(nonces, place.workspace_id.as_ref());
    found.await.map_err(Error::while_doing(
        "an unconfirmed key cannot be looked for",
    ))
}

/// Those of the keys that a role or a lease has.
async fn held(engine: &Engine, keys: &[Key]) -> Result<BTreeSet<KeyHash>, Error> {
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    let holdings = Holdings::of(engine).await?;
    let hashes = keys.iter().map(|key| &key.hash);
    Ok(hashes
        .filter(|hash| holdings.holder(hash).is_some())
        .cloned()
        .collect())
}

/// Whether the intent had a rejected key, which is now deleted, and is struck out.
async fn delete_rejected(
    engine: &Engine,
    books: &OpenBooks,
    intent: &Intent,
) -> Result<bool, Error> {
    let Some(hash) = &intent.rejected else {
        return Ok(false);
    };
    let connection = &intent.place.connection;
    let retired = retire(engine, connection, hash, Warrant::Rejected).await?;
    if retired == Deletion::AlreadyGone {
        // Or not known everywhere yet: it is looked for like any other.
        return Ok(false);
    }
    let (intents, storage) = (&books.intents, &*engine.storage);
    intents.strike(storage, &intent.nonce).await?;
    engine.meters.recovered("deleted");
    Ok(true)
}

/// Postpones an intent if something went wrong with it, and lets the look go on with the others;
/// unless this node must not go on at all.
fn postpone_if_failed(
    engine: &Engine,
    books: &OpenBooks,
    written: &Written<Intent>,
    result: Result<(), Error>,
) -> Result<(), Error> {
    match result {
        Err(reason @ Error::Storage(StorageError::ReadOnly)) => return Err(reason),
        Err(reason) => {
            let role = &written.data.role;
            tracing::warn!(mount = engine.mount, %role, %reason, "this is tried again");
            postpone(engine, books, written, &reason);
        }
        Ok(()) => {}
    }
    Ok(())
}

/// Sets the time of the next look after one that failed. One that has a later look ahead keeps its
/// time.
fn postpone(engine: &Engine, books: &OpenBooks, written: &Written<Intent>, reason: &Error) {
    let nonce = &written.data.nonce;
    if !books.intents.is_known(nonce) {
        return;
    }
    let now = engine.now();
    let going_on = seconds_until(written.at, now);
    let wait = delay_of_ongoing(going_on, reason, &*engine.randomness);
    books.intents.looks.learn(nonce, |look| {
        look.failure = Some(reason.clone());
        if look.next <= now {
            look.next = after(now, wait);
        }
    });
}

/// When to look again after a look at `now` that found nothing.
fn next_look_after(announced: Timestamp, now: Timestamp) -> Option<Timestamp> {
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

/// Intents settled at a time: more would wait for their turns anyway.
const CONCURRENCY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_at_growing_distances_and_end_when_the_order_has_settled() {
        let announced = Timestamp::from_second(1_000).unwrap();
        let look =
            |offset| next_look_after(announced, after(announced, offset)).map(|t| t.as_second());
        assert_eq!(look(0), Some(1_005));
        assert_eq!(look(5), Some(1_030));
        assert_eq!(look(200), Some(1_600));
        assert_eq!(look(600), None);
    }
}
