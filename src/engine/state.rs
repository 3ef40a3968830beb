//! What an engine on one mount consists of while it runs.

use std::sync::Arc;

use tokio::sync::{Mutex, OnceCell};

use super::clock::Clock;
use super::connection::{ConnectionName, Links};
use super::dynamic::Leases;
use super::error::Error;
use super::keeper::{Keeper, Task};
use super::minting::Intents;
use super::nonce::{Origin, Randomness};
use super::reconcile::Ledger;
use super::role::{Role, RoleName};
use super::rotation::{Step, next_step};
use crate::framework::{Held, Locks, wal};
use crate::logical::{EventSink, Mount, Storage, StorageError, SystemView};
use crate::openrouter::{KeyHash, Network};

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
    /// The leases on keys of their own.
    pub leases: Arc<Leases>,
    /// Whether the intents and leases of earlier processes are among these.
    pub log_loaded: OnceCell<()>,
    /// What is still to be compared with what is at OpenRouter; `None` when that is over. Whoever
    /// compares keeps it for so long.
    pub ledger: Mutex<Option<Ledger>>,
    /// Who looks after the roles.
    pub keeper: Arc<Keeper>,
    /// One change of a role at a time.
    pub role_locks: Locks,
    /// One change of a connection at a time.
    pub connection_locks: Locks,
    /// The UUID that the server gave the mount for life. It also tells the mount apart in the log:
    /// one process serves many.
    pub mount: String,
}

impl Engine {
    /// The engine of a mount. Uses neither storage nor network yet.
    pub fn new(
        mount: Mount,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        network: Arc<dyn Network>,
    ) -> Self {
        Self {
            storage: mount.storage,
            system: mount.system,
            events: mount.events,
            keeper: Arc::new(Keeper::new(Arc::clone(&clock))),
            clock,
            randomness,
            links: Links::new(network),
            intents: Arc::default(),
            leases: Arc::default(),
            log_loaded: OnceCell::new(),
            ledger: Mutex::default(),
            role_locks: Locks::default(),
            connection_locks: Locks::default(),
            mount: mount.backend_uuid,
        }
    }

    /// Who has the keys of a role made.
    pub fn origin(&self, role: &RoleName) -> Origin {
        Origin::new(&self.mount, &role.to_string())
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

    /// Puts a role on the keeper's timetable, by reading it, and returns it.
    ///
    /// # Errors
    /// Storage's own, with the consequence drawn: a role whose entry makes no sense is left alone, and
    /// named in the log; where storage could not be asked, the keeper will ask again.
    pub async fn schedule(&self, name: &RoleName) -> Result<Option<Role>, Error> {
        let task = Task::Tend(name.clone());
        let role = Role::load(&*self.storage, name).await;
        match &role {
            Ok(Some(Role::Rotating(role))) => match next_step(role, self.clock.now()) {
                Step::Wait(None) => self.keeper.forget(&task),
                Step::Wait(Some(at)) => self.keeper.plan(task, at),
                _ => self.keeper.now(task),
            },
            Ok(Some(Role::Dynamic(_)) | None) => self.keeper.forget(&task),
            Err(reason @ Error::Storage(StorageError::Malformed { .. })) => {
                tracing::error!(mount = self.mount, role = %name, %reason, "a role is left alone");
            }
            Err(_) => self.keeper.now(task),
        }
        role
    }

    /// Reads the intents and leases of earlier processes, if that was not done yet. Only for a node
    /// that may write: the others would not hear of what becomes of them.
    ///
    /// # Errors
    /// Storage's own. An entry that cannot be read costs only itself, and is named in the log.
    pub async fn load_log(&self) -> Result<(), StorageError> {
        let load = async || {
            let logs = [self.intents.log(), self.leases.log()];
            for reason in wal::load(&*self.storage, &logs).await? {
                tracing::error!(mount = self.mount, %reason, "an entry is left alone");
            }
            Ok(())
        };
        self.log_loaded.get_or_try_init(load).await.map(|_| ())
    }

    /// The keys that are not in a role's entry and were ordered through this connection.
    ///
    /// # Errors
    /// Storage's own.
    pub async fn unlisted_keys(&self, connection: &ConnectionName) -> Result<Unlisted, Error> {
        self.load_log().await?;
        let leased = self.leases.all();
        let keys = Unlisted {
            unconfirmed: self.intents.any_through(connection),
            leased: leased
                .filter(|record| record.key.connection == *connection)
                .map(|record| record.key.key_hash)
                .collect(),
        };
        Ok(keys)
    }

    /// Whether the connection exists.
    ///
    /// # Errors
    /// [`Error::Missing`] when it does not.
    pub async fn require_connection(&self, name: &ConnectionName) -> Result<(), Error> {
        self.links.open(&*self.storage, name).await.map(|_| ())
    }
}

/// See [`Engine::unlisted_keys`].
#[derive(Debug, Default)]
pub struct Unlisted {
    /// The keys under leases.
    pub leased: Vec<KeyHash>,
    /// Whether a key was ordered that is not confirmed yet.
    pub unconfirmed: bool,
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
