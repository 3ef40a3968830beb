//! What the keeper does for the engine: finds out what there is to look after, tends roles, recovers
//! intents that are adrift, reconciles storage with OpenRouter, and goes on with runs.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::clock::after;
use super::context::Engine;
use super::error::Error;
use super::keeper::Duties;
use super::keys::{next_look, recover};
use super::leasing;
use super::names::{CONNECTIONS, ConnectionName, RoleName, RunId};
use super::retry::delay_of_ongoing;
use super::role::Role;
use super::rotation;
use super::runs;
use super::survey;
use super::task::Task;
use crate::logical::StorageError;

/// The duties towards one engine.
pub struct EngineDuties(pub Arc<Engine>);

#[async_trait]
impl Duties<Task> for EngineDuties {
    async fn begin(&self) -> bool {
        let engine = &self.0;
        let begun = begin(engine).await;
        if let Err(reason) = &begun {
            tracing::error!(mount = engine.mount, %reason, "roles cannot be looked after yet");
        }
        begun.is_ok()
    }

    async fn look_after(&self, task: &Task) -> Option<Timestamp> {
        let engine = &self.0;
        match attend(engine, task).await {
            Ok(next) => next,
            // This node has become one that may not write; its successor goes on, or the next
            // periodic call on this one, should it be allowed to again.
            Err(Error::Storage(StorageError::ReadOnly)) => {
                engine.resign().await;
                None
            }
            Err(reason) => {
                tracing::warn!(mount = engine.mount, ?task, %reason, "this is tried again");
                Some(again(engine, task, &reason))
            }
        }
    }
}

async fn attend(engine: &Engine, task: &Task) -> Result<Option<Timestamp>, Error> {
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
        Task::Run(id) => runs::go_on(engine, id).await,
    }
}

/// Whether a task is only for a mount that is in service. One that is torn down has no keys to look after but
/// those that are to die.
fn waits_for_service(task: &Task) -> bool {
    match task {
        Task::Tend(_) | Task::Reconcile(_) => true,
        Task::Run(id) => *id != RunId::Teardown,
        Task::Recover(_) | Task::Lapse(_) => false,
    }
}

/// `None` when there is nothing to wait for, or no such role.
async fn tend(engine: &Engine, name: &RoleName) -> Result<Option<Timestamp>, Error> {
    let guard = engine.tend(name).await;
    // Whatever is done next is done by what is read here, as a successor would read it.
    let confirm_at = guard.confirm().await?;
    let next = match guard.load().await? {
        None => None,
        Some(Role::Rotating(role)) => rotation::tend(&guard, *role).await?,
        Some(Role::Dynamic(role)) => leasing::tend(&guard, *role).await?,
    };
    Ok(next.into_iter().chain(confirm_at).min())
}

/// When something is tried again whose failure was not stored with a role: soon, or when OpenRouter
/// asked for it; a recovery knows better itself.
fn again(engine: &Engine, task: &Task, reason: &Error) -> Timestamp {
    let now = engine.now();
    let after_so_long = |going_on| {
        let wait = delay_of_ongoing(going_on, reason, &*engine.randomness);
        after(now, wait)
    };
    match task {
        Task::Tend(_) | Task::Run(_) => after_so_long(0),
        Task::Reconcile(connection) => after_so_long(survey::going_on(engine, connection, now)),
        Task::Lapse(nonce) => after_so_long(leasing::overdue(engine, nonce, now)),
        Task::Recover(place) => {
            let (soon, next) = (after_so_long(0), next_look(engine, place, now));
            next.map_or(soon, |next| next.max(soon))
        }
    }
}

/// Reads every intent and every role once, and has every connection compared. An unreadable entry costs
/// only itself.
async fn begin(engine: &Engine) -> Result<(), Error> {
    // A node that only served reads may have heard of roles that have changed since.
    engine.register.clear();
    let books = engine.books().await?;
    for place in books.intents.places_adrift() {
        engine.keeper.now(Task::Recover(place));
    }
    for record in books.leases.all() {
        leasing::watch(engine, &record);
    }
    for run in engine.runs().going_on() {
        engine.keeper.now(Task::Run(run));
    }
    for name in Role::names(&*engine.storage).await? {
        // What came of it is in the register and on the roster.
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

/// In seconds, until it is looked again whether a mount that is torn down is in service: its roles are looked
/// after at once when the teardown is cancelled, everything else then.
const OUT_OF_SERVICE: u64 = 15 * 60;
