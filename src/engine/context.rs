//! What an engine on one mount consists of while it runs, and the sole right to change a role.

mod role_guard;

use std::sync::Arc;

use jiff::Timestamp;
pub use role_guard::{Fenced, RoleGuard};

use super::books::{Board, Books, OpenBooks, Passes, Register};
use super::clock::Clock;
use super::connection::Links;
use super::error::Error;
use super::keeper::Keeper;
use super::names::{ConnectionName, Life, Origin, RoleName, Series};
use super::randomness::Randomness;
use super::role::Role;
use super::role::rotating::{Circumstances, Step, next_step};
use super::task::Task;
use crate::framework::Locks;
use crate::logical::{EventSink, Mount, Storage, StorageError, SystemView};
use crate::openrouter::Network;

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
    /// Intents and leases; see [`Engine::books`].
    books: Books,
    /// What is known of all roles and their keys.
    pub register: Register,
    /// What the comparisons with OpenRouter have found.
    pub board: Board,
    /// Comparisons with OpenRouter that are not over.
    pub passes: Passes,
    /// By what the keys are marked that this instance orders.
    pub series: Series,
    /// Wakes what is due.
    pub keeper: Arc<Keeper<Task>>,
    /// One change of a role at a time; see [`RoleGuard`].
    role_locks: Locks,
    /// One adoption of a key at a time.
    pub adoption_locks: Locks,
    /// One change of a connection at a time.
    pub connection_locks: Locks,
    /// The UUID that the server gave the mount for good. It also tells the mount apart in the log:
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
            links: Links::new(network),
            books: Books::default(),
            register: Register::default(),
            board: Board::default(),
            passes: Passes::default(),
            series: Series::new(&*randomness),
            randomness,
            role_locks: Locks::default(),
            adoption_locks: Locks::default(),
            connection_locks: Locks::default(),
            mount: mount.backend_uuid,
        }
    }

    /// By what the keys of one life of a role are known.
    pub fn origin(&self, role: &RoleName, life: &Life) -> Origin {
        Origin::new(&self.mount, role, life)
    }

    /// The sole right to change a role. When it is given back the keeper looks at the role, whatever
    /// came of the change: even one that failed may have taken effect.
    pub async fn change(&self, name: &RoleName) -> RoleGuard<'_> {
        let held = self.role_locks.lock(&name.key()).await;
        RoleGuard::new(self, name, held).waking_the_keeper()
    }

    /// The same, if nobody has it.
    pub fn try_change(&self, name: &RoleName) -> Option<RoleGuard<'_>> {
        let held = self.role_locks.try_lock(&name.key())?;
        Some(RoleGuard::new(self, name, held).waking_the_keeper())
    }

    /// The same for the keeper, which knows when to look again.
    pub async fn tend(&self, name: &RoleName) -> RoleGuard<'_> {
        let held = self.role_locks.lock(&name.key()).await;
        RoleGuard::new(self, name, held)
    }

    /// The same for who must not wait for it: whoever waits for this task may have it.
    pub fn try_tend(&self, name: &RoleName) -> Option<RoleGuard<'_>> {
        let held = self.role_locks.try_lock(&name.key())?;
        Some(RoleGuard::new(self, name, held))
    }

    /// Puts a role on the keeper's timetable, by reading it, and returns it.
    ///
    /// # Errors
    /// Storage's own. An unreadable role is reported in the log and left alone; where storage could
    /// not be asked, the keeper will ask again.
    pub async fn schedule(&self, name: &RoleName) -> Result<Option<Role>, Error> {
        let task = Task::Tend(name.clone());
        let role = Role::load(&*self.storage, name).await;
        match &role {
            Ok(Some(role)) => {
                let origin = self.origin(name, role.life());
                self.register.enter_if_new(name, origin, role);
            }
            Ok(None) => {}
            Err(reason) => self.register.could_not_read(name, reason),
        }
        match &role {
            Ok(Some(Role::Rotating(role))) => match next_step(role, self.now()) {
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

    /// The intents and leases of the mount, those of earlier processes included. Only for a node that
    /// may write. Costs storage calls the first time.
    ///
    /// # Errors
    /// Storage's own. An unreadable entry costs only itself, and is reported in the log.
    pub async fn books(&self) -> Result<OpenBooks, StorageError> {
        let now = || self.clock.now();
        let report = |reason| {
            tracing::error!(mount = self.mount, %reason, "an entry is left alone");
        };
        self.books.open(&*self.storage, now, report).await
    }

    /// The same, if this node has read them: one that only serves reads has not.
    pub fn books_if_open(&self) -> Option<OpenBooks> {
        self.books.if_open()
    }

    /// This node may not write any more: stops looking after things, and forgets what it knew of
    /// them. The next periodic call begins anew, should the node be allowed to by then.
    pub async fn resign(&self) {
        self.keeper.resign();
        self.books.close().await;
        self.register.clear();
        self.board.clear();
    }

    /// What counts for the next step of a role besides the role itself, on a node that may write.
    ///
    /// # Errors
    /// Storage's own.
    pub async fn circumstances(&self) -> Result<Circumstances, Error> {
        Ok(Circumstances {
            now: self.now(),
            work_began: Some(self.books().await?.since),
            two_copies: self.board.copies().is_some(),
        })
    }

    /// Checks that the connection exists.
    ///
    /// # Errors
    /// [`Error::Missing`] when it does not.
    pub async fn require_connection(&self, name: &ConnectionName) -> Result<(), Error> {
        self.links.open(&*self.storage, name).await.map(|_| ())
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
