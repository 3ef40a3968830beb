//! What an engine on one mount consists of while it runs.

use std::sync::Arc;

use super::clock::Clock;
use super::connection::{ConnectionName, Links};
use super::error::Error;
use super::keeper::{Keeper, Task};
use super::minting::Intents;
use super::nonce::Randomness;
use super::role::{Role, RoleName};
use super::rotation::{Step, next_step};
use crate::framework::{Held, Locks};
use crate::logical::{EventSink, Mount, Storage, StorageError, SystemView};

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

    /// The sole right to change a role. When it is given back the keeper looks at the role, whatever
    /// came of the change: even one that failed may have taken effect.
    pub async fn change(&self, name: &RoleName) -> Changing {
        self.changing(name, self.role_locks.lock(&name.key()).await)
    }

    /// The same, if nobody has it.
    pub fn try_change(&self, name: &RoleName) -> Option<Changing> {
        let held = self.role_locks.try_lock(&name.key())?;
        Some(self.changing(name, held))
    }

    fn changing(&self, name: &RoleName, held: Held) -> Changing {
        Changing {
            keeper: Arc::clone(&self.keeper),
            name: name.clone(),
            _held: held,
        }
    }

    /// Puts a role on the keeper's timetable, by reading it. A role whose entry makes no sense is left
    /// alone, and named in the log.
    pub async fn schedule(&self, name: &RoleName) {
        let task = Task::Tend(name.clone());
        match Role::load(&*self.storage, name).await {
            Ok(Some(role)) => match next_step(&role, self.clock.now()) {
                Step::Wait(None) => self.keeper.forget(&task),
                Step::Wait(Some(at)) => self.keeper.plan(task, at),
                _ => self.keeper.now(task),
            },
            Ok(None) => self.keeper.forget(&task),
            Err(reason @ Error::Storage(StorageError::Malformed { .. })) => {
                tracing::error!(mount = self.mount, role = %name, %reason, "a role is left alone");
            }
            // Storage could not be asked, and will be again.
            Err(_) => self.keeper.now(task),
        }
    }

    /// Whether a key that was ordered through this connection is not confirmed yet.
    pub fn recovering_through(&self, connection: &ConnectionName) -> bool {
        self.intents.any_through(connection)
    }

    /// Whether the connection exists.
    ///
    /// # Errors
    /// [`Error::Missing`] when it does not.
    pub async fn require_connection(&self, name: &ConnectionName) -> Result<(), Error> {
        self.links.open(&*self.storage, name).await.map(|_| ())
    }
}

/// A role is being changed; see [`Engine::change`].
pub struct Changing {
    keeper: Arc<Keeper>,
    name: RoleName,
    _held: Held,
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.keeper.now(Task::Tend(self.name.clone()));
    }
}
