//! What an engine on one mount consists of while it runs, and the sole right to change a role.

mod adoptions;
mod role_guard;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adoptions::Adoptions;
use jiff::Timestamp;
pub use role_guard::{Fenced, RoleGuard};

use super::books::{
    Board, Books, OpenBooks, Passes, Register, Roster, Runs, Unsure, while_torn_down,
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
    /// What readers need of it. The same storage to whoever writes.
    pub cache: Arc<Cache<SharedKey>>,
    /// What the server knows of the mount.
    pub system: Arc<dyn SystemView>,
    /// The server's event bus.
    pub events: Arc<dyn EventSink>,
    /// Whether the server has said last that this node is no standby.
    is_no_standby: AtomicBool,
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
    /// The roles as they were seen last.
    pub roster: Roster,
    /// What the comparisons with OpenRouter have found.
    pub board: Board,
    /// Comparisons with OpenRouter that are not over.
    pub passes: Passes,
    /// By what the keys are marked that this instance orders.
    pub series: Series,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// Wakes what is due.
    pub keeper: Arc<Keeper<Task>>,
    /// One change of a role at a time; see [`RoleGuard`].
    role_locks: Locks,
    /// Which keys are being adopted.
    pub adoptions: Adoptions,
    /// Roles whose last store may not have done what it was answered.
    unsure: Unsure<RoleName>,
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
        let cache = Arc::new(Cache::new(mount.storage, Arc::clone(&clock)));
        let meters = Arc::<Meters>::default();
        Self {
            storage: Arc::clone(&cache) as _,
            cache,
            system: mount.system,
            is_no_standby: AtomicBool::new(false),
            events: mount.events,
            keeper: Arc::new(Keeper::new(Arc::clone(&clock))),
            links: Links::new(network, Arc::clone(&meters), Arc::clone(&clock)),
            clock,
            roster: Roster::default(),
            meters,
            books: Books::default(),
            register: Register::default(),
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
                tracing::error!(mount = self.mount, role = %name, %reason, "a role is left alone");
            }
            Err(_) => self.keeper.now(task),
        }
        role
    }

    /// A role is listed and cannot be found: a server's cache remembers that it was not there, although
    /// a store of an earlier process, which failed by its answer, has made it. Has the keeper
    /// [confirm](RoleGuard::confirm) it.
    pub fn doubt(&self, name: &RoleName) {
        self.unsure.store_begins(name, self.clock.now());
        self.keeper.now(Task::Tend(name.clone()));
    }

    /// When keys under a role's leases are to be held to its guardrail; `None` when all are.
    fn guarding_due(&self, name: &RoleName, role: &DynamicRole) -> Option<Timestamp> {
        let leases = self.books_if_open()?.leases;
        if leases.unguarded(name, role).is_empty() {
            return None;
        }
        let failure = role.guardrail_failure.as_ref();
        Some(failure.map_or(Timestamp::MIN, |failure| failure.retry_at))
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

    /// The long jobs of the mount: all of them, once the [books](Self::books) are open.
    pub fn runs(&self) -> &Runs {
        self.books.runs()
    }

    /// Refuses to hand a key out, or to make one, while the mount is torn down. From memory: a node that
    /// has not opened its books makes no keys, and finds in each role's entry that its key was revoked.
    ///
    /// # Errors
    /// [`Error::Unusable`] then.
    pub fn require_in_service(&self) -> Result<(), Error> {
        match self.runs().torn_down_since() {
            None => Ok(()),
            Some(since) => Err(while_torn_down(since)),
        }
    }

    /// Asks the server what this node is. For the life cycle, so that reads need not ask.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn look_at_node(&self) -> Result<ReplicationState, Error> {
        let state = self.system.replication_state().await?;
        let is_no_standby = !state.is_standby();
        self.is_no_standby.store(is_no_standby, Ordering::Relaxed);
        Ok(state)
    }

    /// Whether this node is a standby: as it was when the server was last asked, unless it was one.
    /// A standby forwards what depends on it, which costs more than to ask; and a server that makes
    /// another thing of a node begins with new instances of its engines.
    ///
    /// # Errors
    /// When the server had to be asked, and could not be.
    pub async fn is_standby(&self) -> Result<bool, Error> {
        if self.is_no_standby.load(Ordering::Relaxed) {
            return Ok(false);
        }
        Ok(self.look_at_node().await?.is_standby())
    }

    /// This node may not write any more: stops looking after things, and forgets what it knew of
    /// them. The next periodic call begins anew, should the node be allowed to by then.
    pub async fn resign(&self) {
        self.is_no_standby.store(false, Ordering::Relaxed);
        self.cache.clear();
        self.keeper.resign();
        self.roster.clear();
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

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
