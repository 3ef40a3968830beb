//! The running engine of one mount, and the exclusive right to change a role.

mod adoptions;
mod node;
mod role_guard;

use std::sync::Arc;

use adoptions::Adoptions;
use jiff::Timestamp;
use node::{Knowledge, NodeState};
pub use role_guard::{Fenced, RoleGuard};

use super::books::{
    Board, Books, OpenBooks, Passes, Readings, Register, Roster, Runs, Unsure, while_torn_down,
};
use super::cache::Cache;
use super::clock::Clock;
use super::connection::Links;
use super::error::Error;
use super::keeper::Keeper;
use super::meters::Meters;
use super::names::{Life, Origin, RoleName, Series};
use super::randomness::Randomness;
use super::role::Role;
use super::role::dynamic::DynamicRole;
use super::role::rotating::{Circumstances, SharedKey, Step, next_step};
use super::task::Task;
use crate::framework::Locks;
use crate::logical::{EventSink, Mount, ReplicationState, Storage, StorageError, SystemView};
use crate::openrouter::Network;

/// The engine of one mount.
pub struct Engine {
    /// The mount's storage.
    pub storage: Arc<dyn Storage>,
    /// The same storage, with a cache for readers.
    pub cache: Arc<Cache<SharedKey>>,
    /// The server's view of the mount.
    pub system: Arc<dyn SystemView>,
    /// The server's event bus.
    pub events: Arc<dyn EventSink>,
    /// The server's last answer about this node.
    node: NodeState,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub randomness: Arc<dyn Randomness>,
    /// The links to OpenRouter.
    pub links: Links,
    /// Intents and leases; see [`Engine::books`].
    books: Books,
    /// What is known about all roles and their keys.
    pub register: Register,
    /// The roles as they were last seen.
    pub roster: Roster,
    /// What OpenRouter last reported about the roles' keys.
    pub readings: Readings,
    /// The findings of the comparisons with OpenRouter.
    pub board: Board,
    /// The comparisons with OpenRouter in progress.
    pub passes: Passes,
    /// The marks of the keys that this instance orders.
    pub series: Series,
    /// The counters.
    pub meters: Arc<Meters>,
    /// Starts tasks when they are due.
    pub keeper: Arc<Keeper<Task>>,
    /// Serializes the changes of each role; see [`RoleGuard`].
    role_locks: Locks,
    /// The keys that are being adopted.
    pub adoptions: Adoptions,
    /// Roles whose last store has an unknown outcome.
    unsure: Unsure<RoleName>,
    /// Serializes the changes of each connection.
    pub connection_locks: Locks,
    /// The permanent UUID of the mount. It also identifies the mount in the log, since one process serves
    /// many mounts.
    pub mount: String,
}

impl Engine {
    /// The engine of a mount. This uses neither storage nor the network.
    pub fn new(
        mount: Mount,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        network: Arc<dyn Network>,
    ) -> Self {
        let cache = Arc::new(Cache::new(mount.storage, Arc::clone(&clock)));
        let meters = Arc::<Meters>::default();
        Self {
            storage: Arc::clone(&cache) as _,
            cache,
            system: mount.system,
            node: NodeState::default(),
            events: mount.events,
            keeper: Arc::new(Keeper::new(Arc::clone(&clock))),
            links: Links::new(network, Arc::clone(&meters), Arc::clone(&clock)),
            clock,
            roster: Roster::default(),
            meters,
            books: Books::default(),
            register: Register::default(),
            readings: Readings::default(),
            board: Board::default(),
            passes: Passes::default(),
            series: Series::new(&*randomness),
            randomness,
            role_locks: Locks::default(),
            adoptions: Adoptions::default(),
            unsure: Unsure::default(),
            connection_locks: Locks::default(),
            mount: mount.backend_uuid,
        }
    }

    /// The origin of the keys of one life of a role.
    pub fn origin(&self, role: &RoleName, life: &Life) -> Origin {
        Origin::new(&self.mount, role, life)
    }

    /// The exclusive right to change a role. When it is dropped, the keeper checks the role, whatever the
    /// outcome of the change: even a change that failed may have taken effect.
    pub async fn change(&self, name: &RoleName) -> RoleGuard<'_> {
        let held = self.role_locks.lock(&name.key()).await;
        RoleGuard::new(self, name, held).waking_the_keeper()
    }

    /// The same, if it is free.
    pub fn try_change(&self, name: &RoleName) -> Option<RoleGuard<'_>> {
        let held = self.role_locks.try_lock(&name.key())?;
        Some(RoleGuard::new(self, name, held).waking_the_keeper())
    }

    /// The same for the keeper, which schedules the role itself.
    pub async fn tend(&self, name: &RoleName) -> RoleGuard<'_> {
        let held = self.role_locks.lock(&name.key()).await;
        RoleGuard::new(self, name, held)
    }

    /// The same for a task that must not wait for it, because the holder may be waiting for that task.
    pub fn try_tend(&self, name: &RoleName) -> Option<RoleGuard<'_>> {
        let held = self.role_locks.try_lock(&name.key())?;
        Some(RoleGuard::new(self, name, held))
    }

    /// Reads a role, puts it on the keeper's timetable, and returns it.
    ///
    /// # Errors
    /// Errors from storage. An unreadable role is logged and skipped. If storage could not be read, the
    /// keeper retries.
    pub async fn schedule(&self, name: &RoleName) -> Result<Option<Role>, Error> {
        let task = Task::Tend(name.clone());
        let role = Role::load(&*self.storage, name).await;
        self.roster.note(name, &role, self.clock.now());
        match &role {
            Ok(Some(role)) => {
                let origin = self.origin(name, role.life());
                self.register.enter_if_new(name, origin, role);
            }
            Ok(None) => {}
            Err(reason) => self.register.could_not_read(name, reason),
        }
        match &role {
            _ if self.unsure.of(name).is_some() => self.keeper.now(task),
            Ok(Some(Role::Rotating(role))) => match next_step(role, self.now()) {
                Step::Wait(None) => self.keeper.forget(&task),
                Step::Wait(Some(at)) => self.keeper.plan(task, at),
                _ => self.keeper.now(task),
            },
            Ok(Some(Role::Dynamic(role))) => match self.guarding_due(name, role) {
                Some(at) => self.keeper.plan(task, at),
                None => self.keeper.forget(&task),
            },
            Ok(None) => self.keeper.forget(&task),
            Err(reason @ Error::Storage(StorageError::Malformed { .. })) => {
                tracing::error!(mount = self.mount, role = %name, %reason, "an unreadable role is \
                                                                            skipped");
            }
            Err(_) => self.keeper.now(task),
        }
        role
    }

    /// Handles a role that is listed and cannot be read: the server's cache still says that it does not
    /// exist, although a store by an earlier process, which was reported as failed, has created it. The
    /// keeper [confirms](RoleGuard::confirm) it.
    pub fn doubt(&self, name: &RoleName) {
        if self.unsure.of(name).is_none() {
            self.unsure.store_begins(name, self.clock.now());
        }
        self.keeper.now(Task::Tend(name.clone()));
    }

    /// When the keys under a role's leases are due to be assigned to its guardrail; `None` if all are
    /// assigned.
    fn guarding_due(&self, name: &RoleName, role: &DynamicRole) -> Option<Timestamp> {
        let Some(OpenBooks { leases, .. }) = self.books_if_open() else {
            // Not read yet.
            let is_guarded = role.terms.guardrail_id.is_some();
            return is_guarded.then_some(Timestamp::MIN);
        };
        if leases.unguarded(name, role).is_empty() {
            return None;
        }
        let failure = role.guardrail_failure.as_ref();
        Some(failure.map_or(Timestamp::MIN, |failure| failure.retry_at))
    }

    /// The intents and leases of the mount, including those of earlier processes. Only for a node that may
    /// write. The first call makes storage calls.
    ///
    /// # Errors
    /// Errors from storage. An unreadable entry is logged and skipped.
    pub async fn books(&self) -> Result<OpenBooks, StorageError> {
        let now = || self.clock.now();
        let report = |reason| {
            tracing::error!(mount = self.mount, %reason, "an unreadable entry is skipped");
        };
        self.books.open(&*self.storage, now, report).await
    }

    /// The same, if this node has read them. A node that only serves reads has not.
    pub fn books_if_open(&self) -> Option<OpenBooks> {
        self.books.if_open()
    }

    /// The runs of the mount. Complete once the [books](Self::books) are open.
    pub fn runs(&self) -> &Runs {
        self.books.runs()
    }

    /// Rejects handing out or creating a key while the mount is torn down. Uses memory only: a node that has
    /// not opened its books creates no keys, and each role's entry says that its key was revoked.
    ///
    /// # Errors
    /// [`Error::Unusable`] if the mount is torn down.
    pub fn require_in_service(&self) -> Result<(), Error> {
        match self.runs().torn_down_since() {
            None => Ok(()),
            Some(since) => Err(while_torn_down(since)),
        }
    }

    /// Asks the server about the state of this node. Called by the life cycle, so that reads do not have to.
    ///
    /// # Errors
    /// If the call to the server fails.
    pub async fn refresh_node(&self) -> Result<ReplicationState, Error> {
        let state = self.system.replication_state().await?;
        self.node.learn(state.is_standby(), self.clock.uptime());
        Ok(state)
    }

    /// Whether this node is a standby, by the server's last answer. The server is asked only if nothing is
    /// known. On a standby, a background task asks again now and then.
    ///
    /// # Errors
    /// If the server had to be asked and the call failed.
    pub async fn is_standby(self: &Arc<Self>) -> Result<bool, Error> {
        match self.node.read(self.clock.uptime()) {
            Knowledge::NoStandby => Ok(false),
            Knowledge::Nothing => Ok(self.refresh_node().await?.is_standby()),
            Knowledge::Standby { ask } => {
                if ask {
                    let engine = Arc::clone(self);
                    tokio::spawn(async move {
                        if let Err(reason) = engine.refresh_node().await {
                            tracing::debug!(
                                mount = engine.mount,
                                %reason,
                                "failed to ask the server about this node"
                            );
                        }
                    });
                }
                Ok(true)
            }
        }
    }

    /// Stops all work and forgets its state, because this node may no longer write. A later periodic call
    /// starts again if the node may write by then.
    pub async fn resign(&self) {
        self.node.forget();
        self.cache.clear();
        self.keeper.resign();
        self.roster.clear();
        self.books.close().await;
        self.register.clear();
        self.readings.clear();
        self.board.clear();
    }

    /// The circumstances that affect the next step of a role, on a node that may write.
    ///
    /// # Errors
    /// Errors from storage.
    pub async fn circumstances(&self) -> Result<Circumstances, Error> {
        Ok(Circumstances {
            now: self.now(),
            work_began: Some(self.books().await?.since),
            two_copies: self.board.copies().is_some(),
        })
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
