//! The engine's worker: it finds the tasks, rotates and revokes, recovers intents whose outcome
//! is unknown, reconciles storage with OpenRouter, and resumes runs.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::clock::after;
use super::context::Engine;
use super::error::Error;
use super::keeper::Worker;
use super::keys::recover;
use super::leasing;
use super::names::{CONNECTIONS, ConnectionName, RoleName, RunId};
use super::retry::delay_by_elapsed;
use super::role::Role;
use super::rotation;
use super::runs;
use super::survey;
use super::task::Task;
use crate::logical::StorageError;

/// Performs the tasks of one engine.
pub struct EngineWorker(pub Arc<Engine>);

#[async_trait]
impl Worker<Task> for EngineWorker {
    async fn begin(&self) -> bool {
        let engine = &self.0;
        let begun = begin(engine).await;
        if let Err(reason) = &begun {
            tracing::error!(mount = engine.mount, %reason, "failed to start the work; it is retried");
        }
        begun.is_ok()
    }

    async fn perform(&self, task: &Task) -> Option<Timestamp> {
        let engine = &self.0;
        match perform(engine, task).await {
            Ok(next) => next,
            // This node may no longer write. Its successor continues, or this node does after a later
            // periodic call, if it may write again.
            Err(Error::Storage(StorageError::ReadOnly)) => {
                engine.resign().await;
                None
            }
            Err(reason) => {
                tracing::warn!(mount = engine.mount, ?task, %reason, "a task failed; it is retried");
                Some(retry_at(engine, task, &reason))
            }
        }
    }
}

async fn perform(engine: &Engine, task: &Task) -> Result<Option<Timestamp>, Error> {
    if !engine.system.may_write().await? {
        return Err(StorageError::ReadOnly.into());
    }
    if waits_for_service(task) && engine.require_in_service().is_err() {
        return Ok(Some(after(engine.now(), OUT_OF_SERVICE)));
    }
    match task {
        Task::Tend(name) => tend(engine, name).await,
        Task::Recover(place) => recover(engine, place).await,
        Task::Lapse(nonce) => leasing::lapse(engine, nonce).await,
        Task::Reconcile(connection) => survey::reconcile(engine, connection).await,
        Task::Run(id) => runs::resume(engine, id).await,
    }
}

/// Whether a task applies only to a mount in service. A mount that was torn down only has keys that are
/// about to be revoked.
fn waits_for_service(task: &Task) -> bool {
    match task {
        Task::Tend(_) | Task::Reconcile(_) => true,
        Task::Run(id) => *id != RunId::Teardown,
        Task::Recover(_) | Task::Lapse(_) => false,
    }
}

/// `None` if there is nothing to wait for, or no such role.
async fn tend(engine: &Engine, name: &RoleName) -> Result<Option<Timestamp>, Error> {
    let guard = engine.tend(name).await;
    // The next step depends only on what is read here, as it would on a successor.
    let confirm_at = guard.confirm().await?;
    let next = match guard.load().await? {
        None => None,
        Some(Role::Rotating(role)) => rotation::tend(&guard, *role).await?,
        Some(Role::Dynamic(role)) => leasing::tend(&guard, *role).await?,
    };
    Ok(next.into_iter().chain(confirm_at).min())
}

/// When a task is retried whose failure was not stored with a role: soon, or when OpenRouter asked for it.
/// A recovery finds out then when its next search is due.
fn retry_at(engine: &Engine, task: &Task, reason: &Error) -> Timestamp {
    let now = engine.now();
    let retry_after = |elapsed| {
        let wait = delay_by_elapsed(elapsed, reason, &*engine.randomness);
        after(now, wait)
    };
    match task {
        Task::Tend(_) | Task::Run(_) | Task::Recover(_) => retry_after(0),
        Task::Reconcile(connection) => retry_after(survey::elapsed(engine, connection, now)),
        Task::Lapse(nonce) => retry_after(leasing::overdue(engine, nonce, now)),
    }
}

/// Reads every intent and every role once, and schedules the comparison of every connection. An unreadable
/// entry does not affect the others.
async fn begin(engine: &Engine) -> Result<(), Error> {
    // While it only served reads, this node may have learned about roles that have changed since.
    engine.register.clear();
    let books = engine.books().await?;
    for place in books.intents.places_adrift() {
        engine.keeper.now(Task::Recover(place));
    }
    for record in books.leases.all() {
        leasing::watch(engine, &record);
    }
    let runs = engine.runs();
    for run in runs.active().into_iter().chain(runs.in_doubt()) {
        engine.keeper.now(Task::Run(run));
    }
    for name in Role::names(&*engine.storage).await? {
        // The outcome is in the register and on the roster.
        if let Ok(None) = engine.schedule(&name).await {
            engine.doubt(&name);
        }
    }
    engine.roster.complete(engine.now());
    let connections = engine.storage.list(CONNECTIONS).await?;
    let connections = connections
        .iter()
        .filter_map(|name| ConnectionName::parse(name).ok());
    survey::begin(engine, connections);
    Ok(())
}

/// In seconds, until a task checks again whether a torn-down mount is in service. When a teardown is
/// cancelled the roles are tended immediately, everything else at the next check.
const OUT_OF_SERVICE: u64 = 15 * 60;
