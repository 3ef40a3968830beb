//! The OpenRouter secrets engine. This page is its table of contents, from the top: each room knows
//! only those below it.
//!
//! | room | what it is |
//! |---|---|
//! | [`duties`] | what is done when something is due |
//! | [`paths`] | what users meet: one file for each family of paths |
//! | [`custody`] | every key that a management key sees, whose it is, and how it ends |
//! | [`runs`] | jobs that take longer than a request may: rotating every role, tidying up, tearing down |
//! | [`survey`] | reconciliation: comparing what is managed with what is at OpenRouter |
//! | [`rotation`] | how a shared key is replaced, changed and revoked |
//! | [`leasing`] | handing keys out, and what becomes of their leases |
//! | [`events`] | news for the server's event bus |
//! | [`keys`] | how a key is made, found again, and ended: the one door by which keys die |
//! | [`context`] | what an engine consists of; the sole right to change a role, and the fence |
//! | [`books`] | what is open now: intents, leases; what is known of all roles, and what was found |
//! | [`connection`] | management keys, and the ways to OpenRouter |
//! | [`task`], [`keeper`] | what is due when, and waking it on time |
//! | [`role`] | what keys to hand out: rotating and dynamic roles, without any I/O |
//! | [`names`] | roles, connections, places, addresses, the mark in a key's name |
//! | [`cache`] | what readers need of storage, for a minute at most |
//! | [`meters`] | what the engine counts of its own doings |
//! | [`stored`], [`retry`], [`error`], [`randomness`], [`clock`] | what everybody uses |

mod books;
mod cache;
pub mod clock;
mod connection;
mod context;
mod custody;
mod duties;
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
mod stored;
mod survey;
mod task;

use std::sync::Arc;

use async_trait::async_trait;

use clock::Clock;
use context::Engine;
use duties::EngineDuties;
use names::RoleName;
use randomness::Randomness;

use crate::framework::{Backend, Blueprint, Lifecycle, wal};
use crate::logical::{self, Error, Factory, SpecialPaths};
use crate::openrouter::Network;

/// Makes engines, one for each mount, that live by this time and this randomness, and reach OpenRouter
/// over this network.
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
        secrets: vec![leasing::shared_secret_type(), leasing::secret_type()],
        special_paths: SpecialPaths {
            // The write-ahead log belongs to the cluster that made the request.
            local_storage: vec![wal::PREFIX.to_owned()],
            // Whatever holds a key.
            seal_wrap_storage: vec![names::CONNECTIONS.to_owned(), names::ROLES.to_owned()],
            root: paths::ROOT.map(str::to_owned).to_vec(),
            ..SpecialPaths::default()
        },
        lifecycle: Arc::new(Life),
    }
}

/// What happens besides requests.
struct Life;

#[async_trait]
impl Lifecycle<Engine> for Life {
    async fn initialize(&self, engine: &Arc<Engine>) -> Result<(), Error> {
        // The same as the server's periodic call: begin to look after things, if this node may.
        self.periodic(engine).await
    }

    async fn periodic(&self, engine: &Arc<Engine>) -> Result<(), Error> {
        let is_at_work = engine.keeper.is_at_work();
        if is_at_work {
            engine.keeper.wake();
            leasing::give_up_waiting(engine).await;
        }
        let node = engine.look_at_node().await?;
        if !is_at_work && engine.system.may_write_as(node).await? {
            let duties = EngineDuties(Arc::clone(engine));
            engine.keeper.start(Arc::new(duties));
        }
        Ok(())
    }

    async fn invalidate(&self, engine: &Arc<Engine>, key: &str) {
        // First: what was read before must not be handed out any more.
        engine.cache.invalidate(key);
        if let Some(name) = key.strip_prefix(names::CONNECTIONS) {
            if let Ok(name) = names::ConnectionName::parse(name) {
                engine.links.forget(&name).await;
            }
        } else if let Some(name) = key.strip_prefix(names::ROLES).and_then(RoleName::new) {
            // Should it not be readable, the keeper has been told.
            let _ = engine.schedule(&name).await;
        }
    }

    async fn cleanup(&self, engine: &Arc<Engine>) {
        engine.cache.close();
        engine.keeper.stop().await;
    }
}

const DESCRIPTION: &str = "\
The openrouter secrets engine keeps OpenRouter API keys: it makes them with a management key, hands
them out under leases, rotates them without downtime, and revokes them.

Write a management key to `config`, describe a key in `roles/<name>`, and read it from
`creds/<name>`.

Disabling the mount leaves the keys of its roles alive: write to `teardown` first.";
