//! What differs of the key of a lease, confirmed by hash under the lock of the lease, and put right.

use super::listing::Surroundings;
use super::pass::Pass;
use super::report::report;
use crate::engine::books::{Drift, LeaseGuard, Record};
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, hold, seen};
use crate::engine::task::Task;
use crate::openrouter::Key;

/// Asks OpenRouter about the key of a lease.
///
/// # Errors
/// OpenRouter's and storage's: it is still doubtful then.
pub(super) async fn settle(
    pass: &Pass<'_>,
    around: &Surroundings,
    doubtful: &Record,
) -> Result<(), Error> {
    let lease = pass.books.leases.lock(&doubtful.key.nonce).await;
    // It may have ended since the listing.
    let Some(record) = lease.record() else {
        return Ok(());
    };
    let hash = &record.key.key_hash;
    if let Some(key) = seen(&pass.link, hash).await? {
        if record.ended.is_some() {
            return keep_disabled(pass, &lease, &record, &key).await;
        }
        return compare(pass, around, &record, &key).await;
    }
    if !pass.sees_the_account(around.sees_the_account, hash).await? {
        return Ok(());
    }
    let engine = pass.engine;
    let task = Task::Lapse(record.key.nonce.clone());
    if record.grant.is_some() {
        // What it has spent can be read no more; it counts for its whole limit, and goes.
        if record.ended.is_some() {
            return Ok(());
        }
        lease.disabled(&*engine.storage, engine.now()).await?;
        engine.keeper.now(task);
    } else {
        lease.end(&*engine.storage).await?;
        engine.keeper.forget(&task);
    }
    let message = "the key of a lease is gone at OpenRouter; the lease's place is free again";
    report(pass, &record.key.role, Drift::LeasedKeyGone, hash, message).await;
    Ok(())
}

/// The key of a lease that is over, which waits for its final reading.
async fn keep_disabled(
    pass: &Pass<'_>,
    lease: &LeaseGuard,
    record: &Record,
    key: &Key,
) -> Result<(), Error> {
    if key.disabled {
        return Ok(());
    }
    let engine = pass.engine;
    let connection = &record.key.connection;
    hold(engine, connection, &key.hash, Warrant::OfLease(lease)).await?;
    // It may have requests in flight again.
    lease.disabled(&*engine.storage, engine.now()).await?;
    let message = "somebody has enabled the key of a lease that is over; it is disabled again";
    report(
        pass,
        &record.key.role,
        Drift::HeldKeyEnabled,
        &key.hash,
        message,
    )
    .await;
    Ok(())
}

async fn compare(
    pass: &Pass<'_>,
    around: &Surroundings,
    record: &Record,
    key: &Key,
) -> Result<(), Error> {
    let (board, role) = (&pass.engine.board, &record.key.role);
    if key.disabled && board.is_news(&key.hash, Drift::LeasedKeyDisabled, "") {
        let message = "somebody has disabled the key of a lease at OpenRouter";
        report(pass, role, Drift::LeasedKeyDisabled, &key.hash, message).await;
    }
    let granted = record
        .granted
        .filter(|granted| !key.limits.agree_with(granted));
    if let Some(limits) = granted {
        pass.apply_limits_again(&key.hash, &limits).await?;
        let message = format!(
            "somebody has changed the limits of a lease's key at OpenRouter, to {}; what was granted \
             is applied again",
            key.limits
        );
        report(pass, role, Drift::LimitsChanged, &key.hash, message).await;
    }
    if !record.key.nonce.marks(&key.name) && board.is_news(&key.hash, Drift::KeyRenamed, &key.name)
    {
        let message = "somebody has renamed the key of a lease at OpenRouter; it stays managed";
        report(pass, role, Drift::KeyRenamed, &key.hash, message).await;
    }
    // Where the default workspace was listed, only another key tells which one that is.
    let listed = around.workspace_id.as_ref();
    let listed = listed.filter(|_| record.place() == around.place);
    let elsewhere = key.workspace_id.as_ref().filter(|now| {
        let was = record.workspace_id.as_ref().or(listed);
        was.is_some_and(|was| was != *now)
    });
    if let Some(now) = elsewhere
        && board.is_news(&key.hash, Drift::KeyMoved, now.as_str())
    {
        let message = format!("somebody has moved the key of a lease to the workspace {now}");
        report(pass, role, Drift::KeyMoved, &key.hash, message).await;
    }
    Ok(())
}
