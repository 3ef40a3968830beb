//! Recovery of the intents that are adrift at a place. Called by the keeper when a search is due, and by
//! [`super::mint()`] before a role orders again.
//!
//! # Expected flow of a search
//! 1. A key that was rejected is deleted by its hash.
//! 2. The other keys are searched for by their nonces, in one listing of all pages of the workspace,
//!    including disabled and expired keys. Concurrent searches at the same place share the listing.
//! 3. Each intent is settled under its role's lock ([`settle`]): if its key is in the role's entry, the
//!    intent is deleted. Otherwise the keys that were found are deleted, behind the fence.
//! 4. If no key was found, the intent stays and the search is repeated, since an order may still be in
//!    flight. Only a search [`SETTLED`] after the order was announced deletes the intent.
//!
//! # Guarantees
//! - A key that storage knows is never deleted here. Each time, the fence ([`RoleGuard::fence`]) proves that
//!   storage does not know the key; what an earlier search has read is no proof. While a write that may have
//!   stored the key has an unknown outcome, the key is left alone.
//! - An intent that was read from storage may come from a restored snapshot, so its key may be in use. The
//!   key is left alone for as long as that is possible, counted from the start of the work.
//! - A write of a new current key that reported failure may have been committed, and a standby that serves
//!   reads may have handed the key out. The key is left alone for as long as that is possible, counted from
//!   when the fence has shown that it is out of service. A key without such a write was never handed out, and
//!   is deleted at once.
//! - An intent is deleted only if its key is in service, is deleted, or cannot exist.
//! - A failure with one intent does not delay the others.
//! - If the earlier order of a role cannot be searched for, the role orders nothing. If earlier orders were
//!   searched for and not found, the role may order again while there are fewer than [`MAX_UNSETTLED`] of
//!   them: if only creations fail and lists work, that many may wait for their last search. An emergency does
//!   not wait for a search.

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
use crate::engine::retry::delay_by_elapsed;
use crate::framework::wal::Written;
use crate::logical::StorageError;
use crate::openrouter::{Deletion, Key, KeyHash};
use settle::settle;

/// Searches for what is adrift at a place, if that is due. Returns when the next search is due; `None` if
/// nothing is adrift there any more.
///
/// # Errors
/// If OpenRouter or storage failed. The intents stay, each with the time of its next search.
pub async fn recover(engine: &Engine, place: &Place) -> Result<Option<Timestamp>, Error> {
    let books = engine.books().await?;
    let next = || {
        let now = engine.now();
        (books.intents.next_search(place, now), now)
    };
    if let (Some(at), now) = next()
        && at <= now
    {
        search(engine, &books, place, None).await?;
    }
    Ok(next().0)
}

/// Makes sure that a role may order a key at this place. For each earlier order, a search must have shown
/// that there is no key, or have deleted it. In an emergency, it is enough that there are not too many such
/// orders.
///
/// # Errors
/// Why that could not be found out, or [`Error::Conflict`] if too many of them are not settled, or the
/// outcome of an earlier store of a key is not certain yet.
pub(super) async fn settle_earlier(
    guard: &RoleGuard<'_>,
    books: &OpenBooks,
    place: &Place,
    is_urgent: bool,
) -> Result<(), Error> {
    let (engine, role) = (guard.engine(), guard.name());
    let searches = &books.intents.searches;
    require_certain_stores(guard, books).await?;
    let earlier = || {
        let mut adrift = books.intents.adrift_of(role);
        adrift.retain(|written| {
            let intent = &written.data;
            intent.place == *place && matches!(intent.purpose, Purpose::Rotation { .. })
        });
        adrift.into_iter().map(|written| written.data.nonce)
    };
    let is_unknown = |nonce: &_| searches.of(nonce).finding == Finding::Unknown;
    if !is_urgent && earlier().any(|nonce| is_unknown(&nonce)) {
        let searched = search(engine, books, place, Some(guard)).await;
        searched.map_err(not_known)?;
        for nonce in earlier() {
            let search = searches.of(&nonce);
            if search.finding == Finding::Unknown {
                let reason = search.failure.unwrap_or_else(|| not_settled(role));
                return Err(not_known(reason));
            }
        }
    }
    let unsettled =
        earlier().filter(|nonce| !matches!(searches.of(nonce).finding, Finding::InUse(_)));
    if unsettled.count() < MAX_UNSETTLED {
        Ok(())
    } else {
        Err(not_settled(role))
    }
}

/// A new key must not be stored while an earlier store may still take effect, since that would undo it.
async fn require_certain_stores(guard: &RoleGuard<'_>, books: &OpenBooks) -> Result<(), Error> {
    let engine = guard.engine();
    for written in books.intents.adrift_of(guard.name()) {
        let nonce = &written.data.nonce;
        let Some(begun) = books.intents.searches.of(nonce).store_begun else {
            continue;
        };
        let role = guard.load_rotating().await?;
        if role.is_some_and(|role| role.has_key_of(nonce)) {
            books.intents.delete(&*engine.storage, nonce).await?;
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
        "the outcome of earlier orders for role {:?} is unknown, and they may still take effect; \
         try again in a few minutes",
        role.to_string()
    ))
}

/// Searches once for everything that is adrift at a place and can be settled now: for the role that the
/// caller has locked, or for every role that is not locked.
async fn search(
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
    // Nothing is known about an intent that was set adrift during the listing, or was not searched for.
    due.retain(|written| listing.sought.contains(&written.data.nonce));
    stream::iter(by_lock(due))
        .map(Ok)
        .try_for_each_concurrent(CONCURRENCY, |intents| {
            settle_all(engine, books, &listing, intents, held)
        })
        .await
}

/// Groups the intents that need the same role's lock, so that they do not block each other. Intents of leases
/// need no lock.
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

/// Whether an intent may be settled now.
fn is_due(engine: &Engine, books: &OpenBooks, intent: &Intent) -> bool {
    let search = books.intents.searches.of(&intent.nonce);
    let certain = search
        .store_begun
        .is_none_or(|begun| after(begun, OUTLIVED) <= engine.now());
    let in_use = matches!(search.finding, Finding::InUse(until) if engine.now() < until);
    certain && !in_use
}

/// Lists the keys of the intents at a place, or shares a listing that began after the caller arrived.
async fn shared_listing(
    engine: &Engine,
    books: &OpenBooks,
    place: &Place,
) -> Result<Arc<Listing>, Error> {
    let searches = &books.intents.searches;
    let arrived = searches.ticket();
    let _alone = searches.alone(place).await;
    if let Some(outcome) = searches.since(place, arrived) {
        return outcome;
    }
    let begun = (searches.ticket(), engine.now());
    let outcome = list(engine, books, place).await.map(Arc::new);
    searches.ended(place, begun, outcome.clone());
    outcome
}

/// Deletes the rejected keys, and lists the keys of the other intents. The listing's time is taken before it
/// starts: keys that appear during the listing must be searched for again.
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

/// Whether the intent had a rejected key, which is now deleted together with the intent.
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
        // The key may not be known everywhere yet, so it is searched for like the others.
        return Ok(false);
    }
    let (intents, storage) = (&books.intents, &*engine.storage);
    intents.delete(storage, &intent.nonce).await?;
    engine.meters.recovered("deleted");
    Ok(true)
}

/// Postpones an intent that failed, and lets the search continue with the others, unless this node must not
/// continue at all.
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
            tracing::warn!(
                mount = engine.mount,
                %role,
                %reason,
                "failed to recover an order whose outcome is unknown; it is retried"
            );
            postpone(engine, books, written, &reason);
        }
        Ok(()) => {}
    }
    Ok(())
}

/// Sets the time of the next search after a failure. If a later search is already scheduled, its time is
/// kept.
fn postpone(engine: &Engine, books: &OpenBooks, written: &Written<Intent>, reason: &Error) {
    let nonce = &written.data.nonce;
    if !books.intents.is_known(nonce) {
        return;
    }
    let now = engine.now();
    let elapsed = seconds_until(written.at, now);
    let wait = delay_by_elapsed(elapsed, reason, &*engine.randomness);
    books.intents.searches.learn(nonce, |search| {
        search.failure = Some(reason.clone());
        if search.next <= now {
            search.next = after(now, wait);
        }
    });
}

/// When to search again after a search at `now` that found nothing.
fn next_search_after(announced: Timestamp, now: Timestamp) -> Option<Timestamp> {
    SEARCHED_AFTER
        .iter()
        .map(|seconds| after(announced, *seconds))
        .find(|at| *at > now)
}

/// When an order that left no trace is searched for again, in seconds after its announcement.
const SEARCHED_AFTER: [u64; 4] = [5, 30, 120, SETTLED];

/// How long after its announcement an order may still take effect, in seconds. The longest request of a
/// connection takes a minute; the rest is for OpenRouter's lists to catch up.
pub const SETTLED: u64 = 10 * 60;

/// How many orders of a role may wait for their last search before it orders another. The schedule's own
/// retries come close to this number within [`SETTLED`]; people and scripts could exceed it.
const MAX_UNSETTLED: usize = 8;

/// Intents settled concurrently. More would only wait for their turns.
const CONCURRENCY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_are_repeated_at_growing_intervals_until_the_order_has_settled() {
        let announced = Timestamp::from_second(1_000).unwrap();
        let search =
            |offset| next_search_after(announced, after(announced, offset)).map(|t| t.as_second());
        assert_eq!(search(0), Some(1_005));
        assert_eq!(search(5), Some(1_030));
        assert_eq!(search(200), Some(1_600));
        assert_eq!(search(600), None);
    }
}
