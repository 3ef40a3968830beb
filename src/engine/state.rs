//! What an engine on one mount consists of while it runs.

use std::sync::Arc;

use super::clock::Clock;
use super::connection::{ConnectionName, Links};
use super::error::Error;
use super::keeper::{Keeper, Task};
use super::nonce::Randomness;
use super::role::{Role, RoleName};
use super::rotation::{Intents, Step, next_step};
use crate::framework::Locks;
use crate::logical::{EventSink, Mount, Storage, SystemView};

/// The engine of one mount.
pub struct Engine {
    /// The mount's storage.
    pub storage: Arc<dyn Storage>,
    /// What the server knows of the mount.
    pub system: Arc<dyn SystemView>,
    /// The server's event bus.
    pub events: Arc<dyn EventSink>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub randomness: Arc<dyn Randomness>,
    /// The ways to OpenRouter.
    pub links: Links,
    /// Keys that were ordered and not confirmed yet.
    pub intents: Arc<Intents>,
    /// Who looks after the roles.
    pub keeper: Arc<Keeper>,
    /// One change of a role at a time.
    pub role_locks: Locks,
    /// One change of a connection at a time.
    pub connection_locks: Locks,
    /// What tells the mount apart in the log: one process serves many.
    pub mount: String,
}

impl Engine {
    /// The engine of a mount. Uses neither storage nor network yet.
    pub fn new(mount: Mount, clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self {
            storage: mount.storage,
            system: mount.system,
            events: mount.events,
            keeper: Arc::new(Keeper::new(Arc::clone(&clock))),
            clock,
            randomness,
            links: Links::default(),
            intents: Arc::default(),
            role_locks: Locks::default(),
            connection_locks: Locks::default(),
            mount: mount.backend_uuid,
        }
    }

    /// Puts a role on the keeper's timetable, by reading it. A role that cannot be read is left
    /// alone, and named in the log.
    pub async fn schedule(&self, name: &RoleName) {
        match Role::load(&*self.storage, name).await {
            Ok(Some(role)) => self.plan(name, &role),
            Ok(None) => self.keeper.forget(&Task::Tend(name.clone())),
            Err(reason) => {
                tracing::error!(mount = self.mount, role = %name, %reason, "a role is left alone");
            }
        }
    }

    /// Puts a role that was just stored on the keeper's timetable.
    pub fn plan(&self, name: &RoleName, role: &Role) {
        let task = Task::Tend(name.clone());
        match next_step(role, self.clock.now()) {
            Step::Wait(None) => self.keeper.forget(&task),
            Step::Wait(Some(at)) => self.keeper.plan(task, at),
            _ => self.keeper.now(task),
        }
    }

    /// Whether a key that was ordered through this connection is not confirmed yet.
    pub fn recovering_through(&self, connection: &ConnectionName) -> bool {
        self.intents
            .all()
            .any(|intent| intent.connection == *connection)
    }

    /// Whether the connection exists.
    ///
    /// # Errors
    /// [`Error::Missing`] when it does not.
    pub async fn require_connection(&self, name: &ConnectionName) -> Result<(), Error> {
        self.links.open(&*self.storage, name).await.map(|_| ())
    }
}
