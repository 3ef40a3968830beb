//! What the keeper does for the engine: finds out what there is to look after, tends roles, recovers
//! intents that are adrift, and reconciles storage with OpenRouter.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{leasing, survey};
use crate::engine::backoff::as_long_again;
use crate::engine::books::Ledger;
use crate::engine::clock::after;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keeper::Duties;
use crate::engine::keys::recover;
use crate::engine::role::Role;
use crate::engine::rotation::tend;
use crate::engine::task::Task;
use crate::logical::StorageError;

/// The duties towards one engine.
pub struct EngineDuties(pub Arc<Engine>);

#[async_trait]
impl Duties for EngineDuties {
    async fn begin(&self) -> bool {
        let engine = &self.0;
        let begun = survey(engine).await;
        if let Err(reason) = &begun {
            tracing::error!(mount = engine.mount, %reason, "roles cannot be looked after yet");
        }
        begun.is_ok()
    }

    async fn look_after(&self, task: &Task) -> Option<Timestamp> {
        let engine = &self.0;
        match attend(engine, task).await {
            Ok(next) => next,
            // This node has become one that may not write; its successor goes on.
            Err(Error::Storage(StorageError::ReadOnly)) => None,
            Err(reason) => {
                tracing::warn!(mount = engine.mount, ?task, %reason, "this is tried again");
                Some(again(engine, task, &reason))
            }
        }
    }
}

async fn attend(engine: &Engine, task: &Task) -> Result<Option<Timestamp>, Error> {
    // Asked each time: what this node stored last may be old by now, and a key that is not in an
    // old entry must not be taken for one that nobody needs.
    if !engine.system.may_write().await? {
        return Err(StorageError::ReadOnly.into());
    }
    match task {
        Task::Tend(name) => tend(engine, name).await,
        Task::Recover(place) => recover(engine, place).await,
        Task::Lapse(nonce) => leasing::lapse(engine, nonce).await,
        Task::Reconcile => survey::reconcile(engine).await.map(|()| None),
    }
}

/// When something is tried again whose failure was not stored with a role: soon, or when OpenRouter
/// asked for it; a recovery knows better itself.
fn again(engine: &Engine, task: &Task, reason: &Error) -> Timestamp {
    let now = engine.clock.now();
    let after_so_long = |going_on| {
        let wait = as_long_again(going_on, reason, &*engine.randomness);
        after(now, wait)
    };
    match task {
        Task::Tend(_) => after_so_long(0),
        Task::Reconcile => after_so_long(survey::going_on(engine, now)),
        Task::Lapse(nonce) => after_so_long(leasing::overdue(engine, nonce, now)),
        Task::Recover(place) => {
            let (soon, next) = (after_so_long(0), engine.intents.next_look(place, now));
            next.map_or(soon, |next| next.max(soon))
        }
    }
}

/// Reads every intent and every role once. An entry that cannot be read costs only itself.
async fn survey(engine: &Engine) -> Result<(), Error> {
    engine.load_log().await?;
    for place in engine.intents.places_adrift() {
        engine.keeper.now(Task::Recover(place));
    }
    for record in engine.leases.all() {
        leasing::watch(engine, &record);
    }
    let mut ledger = Ledger::begun(engine.clock.now());
    for name in Role::names(&*engine.storage).await? {
        let read = engine.schedule(&name).await;
        ledger.enter(&name, engine.origin(&name), &read);
    }
    survey::begin(engine, ledger).await;
    Ok(())
}
