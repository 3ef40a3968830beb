//! What the keeper does for the engine: finds out what there is to look after, tends roles, and
//! recovers intents that are adrift.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::clock::after;
use super::error::Error;
use super::keeper::{Duties, Task};
use super::role::Role;
use super::rotation::{Recovery, recover, tend};
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
        let next = match task {
            Task::Tend(name) => tend(engine, name).await,
            Task::Recover(nonce) => recover(engine, nonce).await.map(|recovery| match recovery {
                Recovery::Settled => None,
                Recovery::LookAgain(at) => Some(at),
            }),
        };
        match next {
            Ok(next) => next,
            // This node has become one that may not write; its successor goes on.
            Err(Error::Storage(StorageError::ReadOnly)) => None,
            Err(reason) => {
                tracing::warn!(mount = engine.mount, ?task, %reason, "this is tried again");
                let asked = reason.retry_after().unwrap_or_default().as_secs();
                let wait = asked.clamp(AGAIN_AFTER, LONGEST_WAIT);
                Some(after(engine.clock.now(), wait))
            }
        }
    }
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

/// In seconds: when storage failed, or a recovery could not reach OpenRouter.
const AGAIN_AFTER: u64 = 15;
/// In seconds.
const LONGEST_WAIT: u64 = 15 * 60;
