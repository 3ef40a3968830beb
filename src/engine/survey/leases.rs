//! Confirms by hash what differs for the key of a lease, under the lease's lock, and repairs it.

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
/// Errors from OpenRouter or storage. The key is checked again later.
pub(super) async fn settle(
    pass: &Pass<'_>,
    around: &Surroundings,
    doubtful: &Record,
) -> Result<(), Error> {
    let lease = pass.books.leases.lock(&doubtful.key.nonce).await;
    // The lease may have ended since the listing.
    let Some(record) = lease.record() else {
        return Ok(());
    };
    let hash = &record.key.key_hash;
    if let Some(key) = seen(&pass.link, hash).await? {
        if record.ended.is_some() {
            return keep_disabled(pass, &lease, &record, &key).await;
        }
        return compare(pass, around, &lease, &record, &key).await;
    }
    if !pass.sees_the_account(around.sees_the_account, hash).await? {
        return Ok(());
    }
    let engine = pass.engine;
    let task = Task::Lapse(record.key.nonce.clone());
    if record.is_to_be_counted() {
        // Its usage can no longer be read. Under a budget it counts with its full limit. It is removed.
        if record.ended.is_some() {
            return Ok(());
        }
        lease.disabled(&*engine.storage, engine.now()).await?;
        engine.keeper.now(task);
    } else {
        lease.end(&*engine.storage).await?;
        engine.keeper.forget(&task);
        engine.readings.forget(&record.key.role, hash);
    }
    let message = "the key of a lease is gone at OpenRouter; the lease no longer counts toward \
                   max_leases";
    report(pass, &record.key.role, Drift::LeasedKeyGone, hash, message).await;
    Ok(())
}

/// Handles the key of an ended lease, which waits for its final reading.
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
    // The key may have requests in flight again.
    lease.disabled(&*engine.storage, engine.now()).await?;
    let message = "the key of an ended lease was enabled at OpenRouter; it is disabled again";
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
    lease: &LeaseGuard,
    record: &Record,
    key: &Key,
) -> Result<(), Error> {
    let engine = pass.engine;
    let (board, role) = (&engine.board, &record.key.role);
    if key.disabled && board.is_news(&key.hash, Drift::LeasedKeyDisabled, "") {
        let message = "the key of a lease was disabled at OpenRouter";
        report(pass, role, Drift::LeasedKeyDisabled, &key.hash, message).await;
    }
    let granted = record
        .granted
        .filter(|granted| !key.limits.agree_with(granted));
    if let Some(limits) = granted {
        pass.apply_limits_again(&key.hash, &limits).await?;
        let message = format!(
            "the limits of a lease's key were changed at OpenRouter, to {}; the granted limits are \
             applied again",
            key.limits
        );
        report(pass, role, Drift::LimitsChanged, &key.hash, message).await;
    }
    if !record.key.nonce.marks(&key.name) && board.is_news(&key.hash, Drift::KeyRenamed, &key.name)
    {
        let message = "the key of a lease was renamed at OpenRouter; it stays managed";
        report(pass, role, Drift::KeyRenamed, &key.hash, message).await;
    }
    let Some(now) = &key.workspace_id else {
        return Ok(());
    };
    let is_of_default = engine.register.is_of_default(role);
    let found = around.whereabouts(record.workspace_id.as_ref(), now, is_of_default);
    if found.is_moved {
        let message =
            format!("the key of a lease was moved to the workspace {now}; it stays managed");
        report(pass, role, Drift::KeyMoved, &key.hash, message).await;
    }
    if found.workspace_id != record.workspace_id {
        lease
            .note_moved(&*engine.storage, found.workspace_id)
            .await?;
        // Guardrails belong to workspaces: the key may have to be assigned now.
        engine.keeper.now(Task::Tend(role.clone()));
    }
    Ok(())
}
