//! The end of a lease's key.
//!
//! A key that takes nothing out of a budget is deleted at once. Under a budget it ends in two steps:
//! 1. It is disabled, and its record says when.
//! 2. [`SETTLED`] later, when its requests in flight have ended, it is read for the last time. What it has
//!    spent is stored with the role, and then it is deleted.
//!
//! Until step 2 the lease counts for its whole limit. On a mount that is being disabled nobody would be there
//! for step 2, and every key is deleted at once. A teardown takes step 2 at once.

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use crate::engine::books::{LeaseGuard, LeasedKey, OpenBooks, Record};
use crate::engine::clock::{after, seconds_until};
use crate::engine::connection::Urgency;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, hold, retire};
use crate::engine::names::Nonce;
use crate::engine::role::Role;
use crate::engine::role::budget::{Amount, Counting, Pool, SETTLED, Spans, of_key};
use crate::engine::role::dynamic::LINGER;
use crate::engine::task::Task;
use crate::openrouter::{self, Key};

/// Ends the key of a lease before the lease is over. The server keeps the lease, and finds nothing left to
/// revoke when that ends.
///
/// # Errors
/// OpenRouter's and storage's: the key may be alive, and the record stays.
pub async fn end_early(engine: &Engine, nonce: &Nonce) -> Result<(), Error> {
    let lease = engine.books().await?.leases.lock(nonce).await;
    let Some(record) = lease.record() else {
        return Ok(());
    };
    if record.grant.is_some() && engine.require_in_service().is_err() {
        if record.ended.is_none() {
            disable(engine, &lease, &record).await?;
        }
        drop(lease);
        // What it has spent counts, should the teardown be cancelled.
        settle(engine, nonce, &record).await?;
        return Ok(());
    }
    end(engine, &lease, &record.key).await
}

/// Ends a lease that nobody has heard of. Should that fail, the keeper goes on with it.
pub(super) async fn give_back(engine: &Engine, books: &OpenBooks, key: &LeasedKey) {
    let lease = books.leases.lock(&key.nonce).await;
    // Nobody has got the key, so it has spent nothing.
    if let Err(reason) = delete(engine, &lease, key).await {
        tracing::warn!(
            mount = engine.mount,
            role = %key.role,
            key_hash = %key.key_hash,
            %reason,
            "the key of a reader who gave up cannot be deleted yet"
        );
        // Over since so long that nobody else is waited for.
        let over = engine.now() - SignedDuration::from_secs(LINGER.cast_signed());
        // Should this fail too, the key is deleted when the lease would have been over.
        if lease.abandon(&*engine.storage, over).await.is_ok() {
            engine.keeper.now(Task::Lapse(key.nonce.clone()));
        }
    }
}

/// Ends the key of a lease. No error means that it works no more.
///
/// # Errors
/// OpenRouter's and storage's: the key may be alive, and the record stays.
pub(super) async fn end(engine: &Engine, lease: &LeaseGuard, key: &LeasedKey) -> Result<(), Error> {
    match lease.record() {
        Some(record) if record.grant.is_some() && !is_being_disabled(engine).await => {
            if record.ended.is_some() {
                return Ok(());
            }
            disable(engine, lease, &record).await
        }
        Some(_) | None => delete(engine, lease, key).await,
    }
}

/// Deletes every key that waits for its final reading, if the mount is being disabled: the server calls
/// once more before it ends the mount's leases, and knows of none for these. Without such keys the server
/// is asked nothing.
pub async fn give_up_waiting(engine: &Engine) {
    let Some(books) = engine.books_if_open() else {
        return;
    };
    let waiting = books.leases.ended();
    if waiting.is_empty() || !is_being_disabled(engine).await {
        return;
    }
    stream::iter(waiting)
        .for_each_concurrent(AT_A_TIME, |record| async move {
            if let Err(reason) = end_early(engine, &record.key.nonce).await {
                let key_hash = &record.key.key_hash;
                tracing::warn!(mount = engine.mount, %key_hash, %reason, "this is tried again");
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
            "the server does not say whether the mount is being disabled"
        );
        false
    })
}

async fn disable(engine: &Engine, lease: &LeaseGuard, record: &Record) -> Result<(), Error> {
    let LeasedKey {
        connection,
        key_hash,
        ..
    } = &record.key;
    // Of one that is gone there is no reading either.
    hold(engine, connection, key_hash, Warrant::OfLease(lease)).await?;
    lease.disabled(&*engine.storage, engine.now()).await?;
    if let Some(record) = lease.record() {
        watch(engine, &record);
    }
    Ok(())
}

async fn delete(engine: &Engine, lease: &LeaseGuard, key: &LeasedKey) -> Result<(), Error> {
    // The record goes second: as long as the key may be alive, something leads to it.
    let warrant = Warrant::OfLease(lease);
    retire(engine, &key.connection, &key.key_hash, warrant).await?;
    lease.end(&*engine.storage).await?;
    engine.keeper.forget(&Task::Lapse(key.nonce.clone()));
    Ok(())
}

/// Takes the final reading of a key that was disabled, gives back to the budget what it did not spend,
/// and deletes it. A key of which there is no reading counts for all that it could spend. Returns when to
/// look again: somebody may have enabled the key meanwhile.
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
    // A role without a budget, or none, has nothing to give back to.
    if let Some(Role::Dynamic(mut entry)) = guard.load().await?
        && let Some((budget, counting)) = entry.terms.budget()
    {
        let now = engine.now();
        let pool = entry.pool.get_or_insert_with(|| Pool::begun(&budget, now));
        if !pool.has_counted(nonce) {
            let key = read(engine, &record).await?;
            if key.as_ref().is_some_and(|key| !key.disabled) {
                tracing::warn!(
                    mount = engine.mount,
                    %role,
                    %key_hash,
                    "somebody has enabled the key of a lease that is over; it is disabled again"
                );
                disable(engine, &lease, &record).await?;
                return Ok(lease.record().map(|record| lapses_at(&record)));
            }
            let spent = key.map(|key| spent(&record, &key, counting));
            let granted = record.grant.unwrap_or(Amount::UNLIMITED);
            pool.count(nonce.clone(), spent, granted, (&budget, now));
            pool.forget_all_but(|lease| leases.living(lease).is_some());
            guard.store_dynamic(&entry).await?;
        }
        // Before the record goes, which counts until then.
        leases.note_pool(role, entry.pool.as_ref());
    }
    delete(engine, &lease, &record.key).await?;
    Ok(None)
}

/// Reads a lease's key; `None` is one that is gone.
pub(super) async fn read(engine: &Engine, record: &Record) -> Result<Option<Key>, Error> {
    let LeasedKey {
        connection,
        key_hash,
        ..
    } = &record.key;
    let link = engine.links.open(&*engine.storage, connection).await?;
    match link.client(Urgency::Revocation).await.key(key_hash).await {
        Ok(key) => Ok(Some(key)),
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => {
            let doing = format!("what key {key_hash} has spent cannot be read");
            Err(Error::OpenRouter { doing, reason })
        }
    }
}

/// What a key has spent in the budget's window, and in all.
pub(super) fn spent(record: &Record, key: &Key, counting: Counting) -> (Amount, Spans) {
    // What is missing from the limit is missing since the limit's own window began.
    let same = record
        .granted
        .is_some_and(|granted| granted.reset == counting.reset);
    let in_window = match same {
        true => of_key(key, counting).spent,
        false => Amount::spent(key.usage.within(counting.reset, counting.include_byok)),
    };
    (in_window, Spans::of(&key.usage, counting))
}

/// Looks at a lease's key when the server must have revoked it.
pub fn watch(engine: &Engine, record: &Record) {
    let task = Task::Lapse(record.key.nonce.clone());
    engine.keeper.plan(task, lapses_at(record));
}

/// Ends a key whose lease is over by its record: the server has none, or has not got round to
/// revoking it; or takes the final reading of one that has ended. Returns when to look again; `None`
/// removes the task.
///
/// # Errors
/// OpenRouter's and storage's: it is to be tried again.
pub async fn lapse(engine: &Engine, nonce: &Nonce) -> Result<Option<Timestamp>, Error> {
    let leases = engine.books().await?.leases;
    let lease = leases.lock(nonce).await;
    let Some(record) = lease.record() else {
        return Ok(None);
    };
    // It may have been renewed since this look was planned.
    let due = lapses_at(&record);
    if engine.now() < due {
        return Ok(Some(due));
    }
    let next = if record.ended.is_some() {
        // The role's lock comes first.
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

/// For how many seconds a lease's key has been waiting for [`lapse`].
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

/// Keys at a time: more would wait for their turns anyway.
const AT_A_TIME: usize = 8;
