//! What the keeper does for the engine: finds out what there is to look after, tends roles, and
//! recovers intents that are adrift.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::clock::{after, seconds_until};
use super::error::Error;
use super::keeper::{Duties, Task};
use super::role::Role;
use super::rotation::{Recovery, delay, recover, tend};
use super::state::Engine;
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
        Task::Recover(nonce) => Ok(match recover(engine, nonce).await? {
            Recovery::Settled => None,
            Recovery::LookAgain(at) => Some(at),
        }),
    }
}

/// When something is tried again whose failure was not stored with a role: soon, but a recovery
/// after about as long as it has been going on, up to an hour. Every try of a rotation in an outage
/// may leave one behind, and together they must not be what keeps OpenRouter down.
fn again(engine: &Engine, task: &Task, reason: &Error) -> Timestamp {
    let now = engine.clock.now();
    let asked = reason.retry_after().unwrap_or_default().as_secs();
    let going_on = match task {
        Task::Tend(_) => 0,
        Task::Recover(nonce) => engine
            .intents
            .adrift(nonce)
            .map_or(0, |intent| seconds_until(intent.at, now)),
    };
    let doublings = u64::BITS - going_on.leading_zeros();
    let wait = delay(doublings + 1, &*engine.randomness).as_secs();
    after(now, wait.max(asked.min(LONGEST_ASKED)).max(AGAIN_AFTER))
}

/// Reads every intent and every role once. An entry that cannot be read costs only itself.
async fn survey(engine: &Engine) -> Result<(), Error> {
    for reason in engine.intents.load(&*engine.storage).await? {
        tracing::error!(mount = engine.mount, %reason, "an intent is left alone");
    }
    for intent in engine.intents.all() {
        if engine.intents.adrift(&intent.nonce).is_some() {
            engine.keeper.now(Task::Recover(intent.nonce));
        }
    }
    for name in Role::names(&*engine.storage).await? {
        engine.schedule(&name).await;
    }
    Ok(())
}

/// In seconds: the least.
const AGAIN_AFTER: u64 = 15;
/// In seconds.
const LONGEST_ASKED: u64 = 15 * 60;
