//! The exclusive right to change a role, and the proof that this node may still use it.

use jiff::Timestamp;

use super::Engine;
use crate::engine::books::OUTLIVED;
use crate::engine::clock::after;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::RotatingRole;
use crate::engine::role::{Role, Terms};
use crate::engine::task::Task;
use crate::framework::Held;
use crate::logical::{Entry, StorageError};

/// The exclusive right to change a role: engine, name and lock in one. Every function that requires the
/// role's lock takes this type.
pub struct RoleGuard<'a> {
    engine: &'a Engine,
    name: RoleName,
    wakes_the_keeper: bool,
    _held: Held,
}

/// A role that is proved to be as stored: this node was still able to write its entry.
pub struct Fenced {
    /// The role; `None` if there is none.
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

    /// Reads the role: one storage call. If a store of it has failed, the role is
    /// [confirmed](Self::confirm) first, since two reads by one task must not differ. Otherwise the result of
    /// the first could be stored over the confirmed one.
    ///
    /// # Errors
    /// Errors from storage.
    pub async fn load(&self) -> Result<Option<Role>, Error> {
        self.confirm().await?;
        let read = Role::load(&*self.engine.storage, &self.name).await;
        self.note(&read);
        read
    }

    /// The same for a rotating role. `None` also stands for a dynamic one.
    ///
    /// # Errors
    /// Errors from storage.
    pub async fn load_rotating(&self) -> Result<Option<RotatingRole>, Error> {
        Ok(match self.load().await? {
            Some(Role::Rotating(role)) => Some(*role),
            Some(Role::Dynamic(_)) | None => None,
        })
    }

    /// Writes the role: one storage call.
    ///
    /// # Errors
    /// Errors from storage. The write may still have taken effect, see [`confirm`](Self::confirm).
    pub async fn store(&self, role: &RotatingRole) -> Result<(), Error> {
        let engine = self.engine;
        let stored = role.store(&*engine.storage, &self.name);
        self.changing(stored).await?;
        engine.roster.note_rotating(&self.name, role, engine.now());
        self.enter(&Role::Rotating(Box::new(role.clone())));
        Ok(())
    }

    /// Writes the role: one storage call.
    ///
    /// # Errors
    /// Errors from storage. The write may still have taken effect, see [`confirm`](Self::confirm).
    pub async fn store_dynamic(&self, role: &DynamicRole) -> Result<(), Error> {
        let stored = role.store(&*self.engine.storage, &self.name);
        self.changing(stored).await?;
        let engine = self.engine;
        engine.roster.note_dynamic(&self.name, role, engine.now());
        self.enter(&Role::Dynamic(Box::new(role.clone())));
        Ok(())
    }

    /// Updates the register with what is read and written under the lock. Also the guardrail that is expected of
    /// new leases: a write of another one may have failed, or been committed although it was reported as failed.
    fn enter(&self, role: &Role) {
        let (engine, name) = (self.engine, &self.name);
        let origin = engine.origin(name, role.life());
        engine.register.enter(name, origin, role);
        if let Role::Dynamic(role) = role
            && let Some(books) = engine.books_if_open()
        {
            books.leases.expect_guardrail(name, &role.terms);
        }
    }

    /// Updates the roster.
    fn note(&self, read: &Result<Option<Role>, Error>) {
        let (engine, name) = (self.engine, &self.name);
        engine.roster.note(name, read, engine.now());
        match read {
            Ok(Some(role)) => self.enter(role),
            Ok(None) => engine.register.forget(name),
            Err(reason) => engine.register.could_not_read(name, reason),
        }
    }

    /// Checks that a role with these terms, whose keys live this many seconds, is within the bounds of its
    /// connection. The bounds cannot change while the result exists, so that the role can be stored.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the role exceeds them; [`Error::Missing`] if there is no such connection.
    pub async fn within_bounds(&self, terms: &Terms, lifetime: Option<u64>) -> Result<Held, Error> {
        let (engine, connection) = (self.engine, &terms.connection);
        let held = engine.connection_locks.lock(&connection.key()).await;
        let link = engine.links.open(&*engine.storage, connection).await?;
        let (bounds, limit) = (link.bounds(), terms.ceiling());
        bounds.check_role(connection, &self.name, limit, lifetime)?;
        Ok(held)
    }

    /// Removes the role's entry: one storage call.
    ///
    /// # Errors
    /// Errors from storage. The entry may still be gone, see [`confirm`](Self::confirm).
    pub async fn forget(&self) -> Result<(), Error> {
        let (engine, name) = (self.engine, &self.name);
        self.delete().await?;
        engine.register.forget(name);
        engine.board.forget(name);
        engine.readings.retain(name, |_| false);
        engine.keeper.forget(&Task::Tend(name.clone()));
        engine.roster.remove(name);
        if let Some(books) = engine.books_if_open() {
            books.leases.forget_guardrail(name);
        }
        tracing::info!(mount = engine.mount, role = %name, "deleted a role");
        Ok(())
    }

    /// Reads the role and proves that it is stored as it was read, by writing the entry again unchanged. A
    /// deposed leader cannot do that. It keeps reading its old state for a while, also from its cache, so a
    /// read alone proves nothing, and neither does a write of another entry.
    ///
    /// If there is no entry to write, it is deleted, which a deposed leader cannot do either. That has to
    /// wait until a store that may have created the entry can no longer take effect. `last_store` is when
    /// that store began.
    ///
    /// # Errors
    /// Errors from storage if this node may not write or the entry is unreadable; [`Error::Conflict`] if it
    /// is too early.
    pub async fn fence(&self, last_store: Option<Timestamp>) -> Result<Fenced, Error> {
        let storage = &*self.engine.storage;
        let key = self.name.key();
        if let Some(value) = storage.get(&key).await? {
            let role = Role::parse(&self.name, &value)?;
            let put = async { Ok(storage.put(Entry { key, value }).await?) };
            self.changing(put).await?;
            self.enter(&role);
            return Ok(Fenced { role: Some(role) });
        }
        let certain_at = last_store.map_or(Timestamp::MIN, |begun| after(begun, OUTLIVED));
        if self.engine.now() < certain_at {
            return Err(Error::Conflict(format!(
                "it is not certain before {certain_at} whether role {:?} was stored",
                self.name.to_string()
            )));
        }
        // A read that found nothing proves nothing either. The server also caches that an entry does not
        // exist, and keeps doing so after a store that was reported as failed but was committed.
        self.delete().await?;
        self.engine.register.forget(&self.name);
        Ok(Fenced { role: None })
    }

    /// Resolves a store of this role's entry that failed, or whose caller was dropped: passes the
    /// [`fence`](Self::fence), so that the role is stored as it is read. Otherwise this node could hand out a
    /// key for days that its successor, which reads the other state, revokes.
    ///
    /// This happens immediately, and once more when that store can no longer take effect. Returns that time,
    /// or `None` if nothing is in doubt. Makes no storage call if no store has failed.
    ///
    /// # Errors
    /// Errors from storage. The caller retries.
    pub async fn confirm(&self) -> Result<Option<Timestamp>, Error> {
        let unsure = &self.engine.unsure;
        let Some(doubt) = unsure.of(&self.name) else {
            return Ok(None);
        };
        let certain_at = doubt.certain_at();
        if doubt.is_overwritten && self.engine.now() < certain_at {
            return Ok(Some(certain_at));
        }
        match self.fence(Some(doubt.begun)).await {
            Ok(_) => Ok(unsure.of(&self.name).map(|doubt| doubt.certain_at())),
            Err(Error::Conflict(_)) => Ok(Some(certain_at)),
            // The entry cannot be read, so it misleads no reader.
            Err(Error::Storage(StorageError::Malformed { .. })) => {
                unsure.forget(&self.name);
                Ok(None)
            }
            Err(reason) => Err(reason),
        }
    }

    async fn delete(&self) -> Result<(), Error> {
        let key = self.name.key();
        let deleted = async { Ok(self.engine.storage.delete(&key).await?) };
        self.changing(deleted).await
    }

    /// Changes the role's entry. The outcome is unknown until the change has succeeded.
    async fn changing(&self, change: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        let (engine, name) = (self.engine, &self.name);
        let begun = engine.now();
        let before = engine.unsure.store_begins(name, begun);
        // If this task is dropped, it is unknown what is stored.
        engine.register.doubt(name);
        let changed = change.await;
        match &changed {
            Ok(()) => engine.unsure.store_succeeded(name, begun, before),
            // After repeated failures the keeper retries.
            Err(_) if before.is_none() => engine.keeper.now(Task::Tend(name.clone())),
            Err(_) => {}
        }
        changed
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
