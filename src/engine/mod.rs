//! The OpenRouter secrets engine. This page is its table of contents, from the top. Each module depends only
//! on those below it.
//!
//! | module | contents |
//! |---|---|
//! | [`worker`] | what is done when a task is due |
//! | [`paths`] | the engine's paths, one file per family |
//! | [`custody`] | every key that a management key can see, its owner, and how it is revoked |
//! | [`runs`] | jobs that take longer than a request may: rotating every role, tidying up, tearing down |
//! | [`survey`] | reconciliation: compares the managed keys with those at OpenRouter |
//! | [`rotation`] | how a shared key is replaced, changed and revoked |
//! | [`leasing`] | hands out keys, and manages their leases |
//! | [`spending`] | reports when a large part of a role's budget is spent |
//! | [`events`] | events for the server's event bus |
//! | [`keys`] | creates, recovers and ends keys; no other module deletes keys |
//! | [`context`] | the running engine; the exclusive right to change a role, and the fence |
//! | [`books`] | open work: intents and leases; what is known about all roles, and findings |
//! | [`connection`] | management keys, and clients for OpenRouter |
//! | [`task`], [`keeper`] | the tasks, and the timer that starts them |
//! | [`role`] | the definitions and states of rotating and dynamic roles, without I/O |
//! | [`names`] | roles, connections, places, addresses, the mark in a key's name |
//! | [`cache`] | what readers need of storage, for at most a minute |
//! | [`meters`] | the engine's counters |
//! | [`stored`], [`retry`], [`error`], [`randomness`], [`clock`] | shared basics |

mod books;
mod cache;
pub mod clock;
mod connection;
mod context;
mod custody;
mod error;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../invariants/engine/mod.rs"]
pub(crate) mod invariants;
mod keeper;
mod keys;
mod leasing;
mod meters;
mod names;
mod paths;
pub mod randomness;
#[cfg(test)]
mod reference;
mod retry;
mod role;
mod rotation;
mod runs;
mod spending;
mod stored;
mod survey;
mod task;
mod worker;

use std::sync::Arc;

use async_trait::async_trait;

use clock::Clock;
use context::Engine;
use names::RoleName;
use randomness::Randomness;
use worker::EngineWorker;

use crate::framework::{Backend, Blueprint, Lifecycle, wal};
use crate::logical::{self, Error, Factory, SpecialPaths};
use crate::openrouter::Network;

/// Creates engines, one per mount, that use this clock, this randomness and this network.
pub fn factory(
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    network: Arc<dyn Network>,
) -> Factory {
    Arc::new(move |mount| {
        let system = Arc::clone(&mount.system);
        let (clock, randomness) = (Arc::clone(&clock), Arc::clone(&randomness));
        let engine = Engine::new(mount, clock, randomness, Arc::clone(&network));
        Arc::new(Backend::new(blueprint(), Arc::new(engine), system)) as Arc<dyn logical::Backend>
    })
}

fn blueprint() -> Blueprint<Engine> {
    Blueprint {
        title: "OpenRouter secrets engine",
        description: DESCRIPTION,
        version: env!("CARGO_PKG_VERSION"),
        prefix: "open-router",
        paths: paths::all(),
        events: &events::ALL,
        secrets: vec![leasing::shared_secret_type(), leasing::secret_type()],
        special_paths: SpecialPaths {
            // The write-ahead log belongs to the cluster that made the request.
            local_storage: vec![wal::PREFIX.to_owned()],
            // The entries that contain keys.
            seal_wrap_storage: vec![names::CONNECTIONS.to_owned(), names::ROLES.to_owned()],
            root: paths::ROOT.map(str::to_owned).to_vec(),
            ..SpecialPaths::default()
        },
        lifecycle: Arc::new(Life),
    }
}

/// The calls of the server other than requests.
struct Life;

#[async_trait]
impl Lifecycle<Engine> for Life {
    async fn initialize(&self, engine: &Arc<Engine>) -> Result<(), Error> {
        // The same as the server's periodic call: start the work, if this node may write.
        self.periodic(engine).await
    }

    async fn periodic(&self, engine: &Arc<Engine>) -> Result<(), Error> {
        let is_at_work = engine.keeper.is_at_work();
        if is_at_work {
            engine.keeper.wake();
            leasing::give_up_waiting(engine).await;
        }
        let node = engine.refresh_node().await?;
        if !is_at_work && engine.system.may_write_as(node).await? {
            let worker = EngineWorker(Arc::clone(engine));
            engine.keeper.start(Arc::new(worker));
        }
        Ok(())
    }

    async fn invalidate(&self, engine: &Arc<Engine>, key: &str) {
        // First, since what was read before must no longer be handed out.
        engine.cache.invalidate(key);
        if let Some(name) = key.strip_prefix(names::CONNECTIONS) {
            if let Ok(name) = names::ConnectionName::parse(name) {
                engine.links.forget(&name).await;
            }
        } else if let Some(name) = key.strip_prefix(names::ROLES).and_then(RoleName::new)
            // A node that only serves reads keeps no timetable.
            && engine.keeper.is_at_work()
        {
            // If the role is unreadable, the keeper already knows.
            let _ = engine.schedule(&name).await;
        }
    }

    async fn cleanup(&self, engine: &Arc<Engine>) {
        engine.cache.close();
        engine.keeper.stop().await;
    }
}

const DESCRIPTION: &str = "\
The openrouter secrets engine manages OpenRouter API keys: it creates them with a management key, hands
them out under leases, rotates them without downtime, and revokes them.

Write a management key to `config`, define a key in `roles/<name>`, and read it from `creds/<name>`.

Disabling the mount leaves the keys of its roles alive: write to `teardown` first.";
