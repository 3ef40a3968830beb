//! The sole right to change a role, and the proof that this node may still use it.

use jiff::Timestamp;

use super::Engine;
use crate::engine::books::OUTLIVED;
use crate::engine::clock::after;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::RotatingRole;
use crate::engine::task::Task;
use crate::framework::Held;
use crate::logical::Entry;

/// The sole right to change a role: engine, name and lock in one. Whatever may be done only under the
/// role's lock takes it.
pub struct RoleGuard<'a> {
    engine: &'a Engine,
    name: RoleName,
    wakes_the_keeper: bool,
    _held: Held,
}

/// A role as it is stored, proved to be that: this node could still write its entry.
pub struct Fenced {
    /// The role; `None` when there is none.
    pub role: Option<Role>,
}

impl<'a> RoleGuard<'a> {
    pub(super) fn new(engine: &'a Engine, name: &RoleName, held: Held) -> Self {
        Self {
            engine,
            name: name.clone(),
            wakes_the_keeper: false,
            _held: held,
        }
    }

    pub(super) fn waking_the_keeper(mut self) -> Self {
        self.wakes_the_keeper = true;
        self
    }

    /// The engine.
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// The role's name.
    pub fn name(&self) -> &RoleName {
        &self.name
    }

    /// Reads the role: one storage call.
    ///
    /// # Errors
    /// Storage's own.
    pub async fn load(&self) -> Result<Option<Role>, Error> {
        let role = Role::load(&*self.engine.storage, &self.name).await;
        self.note(&role);
        role
    }

    /// Reads the role if it is a rotating one: one storage call.
    ///
    /// # Errors
    /// Storage's own.
    pub async fn load_rotating(&self) -> Result<Option<RotatingRole>, Error> {
        Ok(match self.load().await? {
            Some(Role::Rotating(role)) => Some(*role),
            Some(Role::Dynamic(_)) | None => None,
        })
    }

    /// Writes the role: one storage call.
    ///
    /// # Errors
    /// Storage's own; the write may have happened all the same.
    pub async fn store(&self, role: &RotatingRole) -> Result<(), Error> {
        // Should this task be torn off, nobody knows what is stored.
        self.engine.register.doubt(&self.name);
        role.store(&*self.engine.storage, &self.name).await?;
        self.enter(&Role::Rotating(Box::new(role.clone())));
        Ok(())
    }

    /// Writes the role: one storage call.
    ///
    /// # Errors
    /// Storage's own; the write may have happened all the same.
    pub async fn store_dynamic(&self, role: &DynamicRole) -> Result<(), Error> {
        self.engine.register.doubt(&self.name);
        role.store(&*self.engine.storage, &self.name).await?;
        self.enter(&Role::Dynamic(role.clone()));
        Ok(())
    }

    /// The register follows what is read and written under the lock.
    fn enter(&self, role: &Role) {
        let origin = self.engine.origin(&self.name, role.life());
        self.engine.register.enter(&self.name, origin, role);
    }

    fn note(&self, read: &Result<Option<Role>, Error>) {
        match read {
            Ok(Some(role)) => self.enter(role),
            Ok(None) => self.engine.register.forget(&self.name),
            Err(reason) => self.engine.register.could_not_read(&self.name, reason),
        }
    }

    /// Removes the role's entry: one storage call.
    ///
    /// # Errors
    /// Storage's own; the entry may be gone all the same.
    pub async fn forget(&self) -> Result<(), Error> {
        let (engine, name) = (self.engine, &self.name);
        engine.register.doubt(name);
        engine.storage.delete(&name.key()).await?;
        engine.register.forget(name);
        engine.board.forget(name);
        engine.keeper.forget(&Task::Tend(name.clone()));
        tracing::info!(mount = engine.mount, role = %name, "deleted a role");
        Ok(())
    }

    /// Reads the role and proves that what was read is what is stored: by writing the entry again as
    /// it was read, which a node that has lost its office cannot. It goes on reading its old state for
    /// a while, from its cache too, so that a read proves nothing; nor does a write of another entry.
    ///
    /// Where there is no entry to write again, it is deleted: that, too, only a node in office can. But
    /// not before it is certain what became of a store that may have made one: `last_store` is when it
    /// began.
    ///
    /// # Errors
    /// Storage's own when this node may not write, or the entry is unreadable; [`Error::Conflict`]
    /// while it is too early.
    pub async fn fence(&self, last_store: Option<Timestamp>) -> Result<Fenced, Error> {
        let storage = &*self.engine.storage;
        let key = self.name.key();
        if let Some(value) = storage.get(&key).await? {
            let role = Role::parse(&self.name, &value)?;
            storage.put(Entry { key, value }).await?;
            return Ok(Fenced { role: Some(role) });
        }
        let certain_at = last_store.map_or(Timestamp::MIN, |begun| after(begun, OUTLIVED));
        if self.engine.now() < certain_at {
            return Err(Error::Conflict(format!(
                "it is not certain before {certain_at} whether role {:?} was stored",
                self.name.to_string()
            )));
        }
        // A read that has found nothing proves nothing either: a server's cache remembers what is not
        // there, and goes on doing so after a store that failed by its answer and was committed.
        storage.delete(&key).await?;
        Ok(Fenced { role: None })
    }
}

impl Drop for RoleGuard<'_> {
    fn drop(&mut self) {
        if self.wakes_the_keeper {
            let task = Task::Tend(self.name.clone());
            self.engine.keeper.now(task);
        }
    }
}
