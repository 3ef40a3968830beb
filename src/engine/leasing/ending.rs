//! The end of a lease's key.
//!
//! Without a budget or `track_usage` the key is deleted at once. Otherwise it ends in two steps:
//! 1. The key is disabled, and the time is stored in its record.
//! 2. [`SETTLED`] later, when its requests in flight have ended, its usage is read for the last time and
//!    stored with the role. Then the key is deleted.
//!
//! Until step 2 the lease counts with its full limit against a budget. If the mount is being disabled,
//! nothing would be left to perform step 2, so every key is deleted at once. A teardown performs step 2 at
//! once.

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use crate::engine::books::{LeaseGuard, LeasedKey, Leases, OpenBooks, Record};
use crate::engine::clock::{after, seconds_until};
use crate::engine::connection::Urgency;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::{Warrant, hold, retire};
use crate::engine::names::Nonce;
use crate::engine::role::Role;
use crate::engine::role::budget::{Amount, Budget, Pool, Report, SETTLED};
use crate::engine::role::dynamic::LINGER;
use crate::engine::spending;
use crate::engine::task::Task;
use crate::openrouter::{self, Key};

/// Ends a lease's key before the lease ends. The server keeps the lease, and finds nothing to revoke when it
/// ends.
///
/// # Errors
/// Errors from OpenRouter or storage. The key may still be alive; its record is kept.
pub async fn end_early(engine: &Engine, nonce: &Nonce) -> Result<(), Error> {
    let lease = engine.books().await?.leases.lock(nonce).await;
    let Some(record) = lease.record() else {
        return Ok(());
    };
    if record.is_to_be_counted() && engine.require_in_service().is_err() {
        if record.ended.is_none() {
            disable(engine, &lease, &record).await?;
        }
        drop(lease);
        // Its usage is counted, in case the teardown is cancelled.
        settle(engine, nonce, &record).await?;
        return Ok(());
    }
    end(engine, &lease, &record.key).await
}

/// Ends a lease that was never handed out. If that fails, the keeper retries.
pub(super) async fn give_back(engine: &Engine, books: &OpenBooks, key: &LeasedKey) {
    let lease = books.leases.lock(&key.nonce).await;
    // The key was never handed out, so it has spent nothing.
    if let Err(reason) = delete(engine, &lease, key).await {
        tracing::warn!(
            mount = engine.mount,
            role = %key.role,
            key_hash = %key.key_hash,
            %reason,
            "failed to delete the key of a reader that disconnected; it is retried"
        );
        // Long enough ago that the keeper does not wait for the server to revoke it first.
        let over = engine.now() - SignedDuration::from_secs(LINGER.cast_signed());
        // If this fails too, the key is deleted at the time when the lease would have ended.
        if lease.abandon(&*engine.storage, over).await.is_ok() {
            engine.keeper.now(Task::Lapse(key.nonce.clone()));
        }
    }
}

/// Ends the key of a lease. `Ok` means that the key no longer works.
///
/// # Errors
/// Errors from OpenRouter or storage. The key may still be alive; its record is kept.
pub(super) async fn end(engine: &Engine, lease: &LeaseGuard, key: &LeasedKey) -> Result<(), Error> {
    match lease.record() {
        Some(record) if record.is_to_be_counted() && !is_being_disabled(engine).await => {
            if record.ended.is_some() {
                return Ok(());
            }
            disable(engine, lease, &record).await
        }
        Some(_) | None => delete(engine, lease, key).await,
    }
}

/// If the mount is being disabled, deletes every key that waits for its final reading. The server calls once
/// more before it revokes the mount's leases, but has no leases for these keys. If there are no such keys,
/// the server is not asked.
pub async fn give_up_waiting(engine: &Engine) {
    let Some(books) = engine.books_if_open() else {
        return;
    };
    let waiting = books.leases.ended();
    if waiting.is_empty() || !is_being_disabled(engine).await {
        return;
    }
    stream::iter(waiting)
        .for_each_concurrent(CONCURRENCY, |record| async move {
            if let Err(reason) = end_early(engine, &record.key.nonce).await {
                let key_hash = &record.key.key_hash;
                tracing::warn!(
                    mount = engine.mount,
                    %key_hash,
                    %reason,
                    "failed to delete the key of an ended lease; it is retried"
                );
            }
        })
        .await;
}

async fn is_being_disabled(engine: &Engine) -> bool {
    let tainted = engine.system.tainted().await;
    tainted.unwrap_or_else(|reason| {
        tracing::debug!(
            mount = engine.mount,
            %reason,
            "failed to find out whether the mount is being disabled"
        );
        false
    })
}

/// Disables the key of a lease that has ended, or deletes it if OpenRouter refuses that: that it no longer works
/// counts more than its final reading. Its full grant then counts as spent.
async fn disable(engine: &Engine, lease: &LeaseGuard, record: &Record) -> Result<(), Error> {
    let LeasedKey {
        connection,
        key_hash,
        ..
    } = &record.key;
    let warrant = || Warrant::OfLease(lease);
    match hold(engine, connection, key_hash, warrant()).await {
        // If the key is gone, its usage cannot be read either.
        Ok(_) => {}
        Err(reason) if reason.is_refused() => {
            tracing::warn!(
                mount = engine.mount,
                role = %record.key.role,
                %key_hash,
                %reason,
                "the key of an ended lease cannot be disabled, so it is deleted"
            );
            retire(engine, connection, key_hash, warrant()).await?;
        }
        Err(reason) => return Err(reason),
    }
    lease.disabled(&*engine.storage, engine.now()).await?;
    if let Some(record) = lease.record() {
        watch(engine, &record);
    }
    Ok(())
}

async fn delete(engine: &Engine, lease: &LeaseGuard, key: &LeasedKey) -> Result<(), Error> {
    // The record is deleted last: while the key may be alive, the record leads to it.
    let warrant = Warrant::OfLease(lease);
    retire(engine, &key.connection, &key.key_hash, warrant).await?;
    lease.end(&*engine.storage).await?;
    engine.keeper.forget(&Task::Lapse(key.nonce.clone()));
    engine.readings.forget(&key.role, &key.key_hash);
    Ok(())
}

/// Takes the final reading of a disabled key, returns the unspent amount to the budget, and deletes the key.
/// If the usage cannot be read because the key is gone, its full grant counts as spent. Returns when to check
/// again, in case someone has enabled the key in the meantime.
async fn settle(
    engine: &Engine,
    nonce: &Nonce,
    record: &Record,
) -> Result<Option<Timestamp>, Error> {
    let LeasedKey { role, key_hash, .. } = &record.key;
    let leases = engine.books().await?.leases;
    let guard = engine.tend(role).await;
    let lease = leases.lock(nonce).await;
    let Some(record) = lease.record() else {
        return Ok(None);
    };
    // If the role is gone or counts no ended keys, there is nothing to count.
    if let Some(Role::Dynamic(mut entry)) = guard.load().await?
        && entry.terms.counts_ended_keys()
    {
        let counting = entry.terms.counting();
        let budget = entry.terms.budget.unwrap_or(Budget {
            amount: Amount::UNLIMITED,
            reset: counting.reset,
        });
        let now = engine.now();
        let pool = entry.pool.get_or_insert_with(|| Pool::begun(&budget, now));
        if !pool.has_counted(nonce) {
            let key = read(engine, &leases, &record).await?;
            if key.as_ref().is_some_and(|key| !key.disabled) {
                tracing::warn!(
                    mount = engine.mount,
                    %role,
                    %key_hash,
                    "the key of an ended lease was enabled at OpenRouter; it is disabled again"
                );
                disable(engine, &lease, &record).await?;
                return Ok(lease.record().map(|record| lapses_at(&record)));
            }
            let spent = key.map(|key| record.spent(&Report::of_key(&key, now), counting));
            // What was made without a budget does not count against one that was written since.
            let (spent, granted) = match record.grant {
                Some(granted) => (spent, granted),
                None => (spent.map(|(_, spans)| (Amount::ZERO, spans)), Amount::ZERO),
            };
            pool.count(nonce.clone(), spent, granted, (&budget, now));
            pool.forget_all_but(|lease| leases.living(lease).is_some());
            let due = spending::enter_dynamic(&guard, &mut entry);
            guard.store_dynamic(&entry).await?;
            if let Some(due) = due {
                events::budget_alert(engine, role, &entry.terms, due).await;
            }
        }
        // Before the record is deleted, since the record counts until then.
        leases.note_pool(role, entry.pool.as_ref());
    }
    delete(engine, &lease, &record.key).await?;
    Ok(None)
}

/// Reads a lease's key; `None` if it is gone.
pub(super) async fn read(
    engine: &Engine,
    leases: &Leases,
    record: &Record,
) -> Result<Option<Key>, Error> {
    let LeasedKey {
        connection,
        key_hash,
        ..
    } = &record.key;
    let link = engine.links.open(&*engine.storage, connection).await?;
    match link.client(Urgency::Revocation).await.key(key_hash).await {
        Ok(key) => {
            spending::note_leased(engine, leases, record, &key);
            Ok(Some(key))
        }
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => {
            let doing = format!("what key {key_hash} has spent cannot be read");
            Err(Error::OpenRouter { doing, reason })
        }
    }
}

/// Schedules a check of a lease's key, for when the server must have revoked it.
pub fn watch(engine: &Engine, record: &Record) {
    let task = Task::Lapse(record.key.nonce.clone());
    engine.keeper.plan(task, lapses_at(record));
}

/// Ends a key whose lease is over according to its record, because the server has no such lease or has not
/// revoked it yet. For a lease that has ended, takes the final reading. Returns when to check again; `None`
/// removes the task.
///
/// # Errors
/// Errors from OpenRouter or storage. The caller retries.
pub async fn lapse(engine: &Engine, nonce: &Nonce) -> Result<Option<Timestamp>, Error> {
    let leases = engine.books().await?.leases;
    let lease = leases.lock(nonce).await;
    let Some(record) = lease.record() else {
        return Ok(None);
    };
    // The lease may have been renewed since this check was planned.
    let due = lapses_at(&record);
    if engine.now() < due {
        return Ok(Some(due));
    }
    let next = if record.ended.is_some() {
        // The role's lock must be taken first.
        drop(lease);
        settle(engine, nonce, &record).await?
    } else {
        end(engine, &lease, &record.key).await?;
        lease.record().map(|record| lapses_at(&record))
    };
    if next.is_none() {
        tracing::info!(
            mount = engine.mount,
            role = %record.key.role,
            key_hash = %record.key.key_hash,
            "deleted a key whose lease is over"
        );
    }
    Ok(next)
}

/// How long a lease's key has been waiting for [`lapse`], in seconds.
pub fn overdue(engine: &Engine, nonce: &Nonce, now: Timestamp) -> u64 {
    let books = engine.books_if_open();
    let living = books.and_then(|books| books.leases.living(nonce));
    living.map_or(0, |record| seconds_until(lapses_at(&record), now))
}

fn lapses_at(record: &Record) -> Timestamp {
    match record.ended {
        Some(disabled_at) => after(disabled_at, SETTLED),
        None => after(record.until, LINGER),
    }
}

/// Keys processed concurrently. More would only wait for their turns.
const CONCURRENCY: usize = 8;
