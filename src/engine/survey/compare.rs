//! Going through the keys at each place, and finding out about which roles there is a doubt.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::guardrails::compare_assignments;
use super::settle::{Doubt, origin_of, settle};
use crate::engine::books::{Ledger, Owner};
use crate::engine::clock::seconds_until;
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{Place, RoleName};
use crate::engine::role::Role;
use crate::engine::task::Task;
use crate::openrouter::ListedKey;

/// Has the keeper compare what is in the ledger.
pub async fn begin(engine: &Engine, ledger: Ledger) {
    let is_done = ledger.is_done();
    *engine.ledger.lock().await = (!is_done).then_some(ledger);
    if is_done {
        engine.roster.reconciled(engine.now());
    } else {
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
        ledger.enter(&name, &read, |name, life| engine.origin(name, life));
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
        engine.roster.reconciled(engine.now());
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
    let settled: Result<(), Error> = settled.await.into_iter().collect();
    settled.and(compare_assignments(engine, &link, place, ledger).await)
}

/// Goes through the keys at a place, and returns the roles about which something is doubtful.
async fn compare(
    engine: &Engine,
    link: &Link,
    place: &Place,
    ledger: &Ledger,
) -> Result<BTreeMap<RoleName, Doubt>, Error> {
    let books = engine.books().await?;
    let mut unlisted = ledger.current_keys(place);
    let mut doubts = BTreeMap::<RoleName, Doubt>::new();
    let visit = |key: ListedKey| {
        if let Some(hash) = &key.hash {
            unlisted.remove(hash);
        }
        let known = key.hash.as_ref().is_some_and(|hash| ledger.has(hash));
        let Some(origin) = origin_of(engine, &books, &key.name).filter(|_| !known) else {
            return Ok(());
        };
        match ledger.owner(&origin) {
            Owner::Role(name) => {
                let doubt = doubts.entry(name.clone()).or_default();
                doubt.strays.push(key.read()?);
            }
            Owner::Unknown => {}
            Owner::Nobody => tracing::warn!(
                mount = engine.mount,
                key_name = key.name,
                "found a key of this mount that belongs to no role; it is left alone"
            ),
        }
        Ok(())
    };
    let turn = link.client(Urgency::Ordinary).await;
    turn.each_key(place.workspace_id.as_ref(), visit)
        .await
        .map_err(Error::while_doing("keys cannot be compared"))?;
    for name in unlisted.into_values().flatten() {
        doubts.entry(name.clone()).or_default().unlisted = true;
    }
    Ok(doubts)
}

/// Roles at a time: more would wait for their turns anyway.
const AT_A_TIME: usize = 8;
