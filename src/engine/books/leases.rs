//! The records of living leases, and their maximum number.
//!
//! A record replaces the intent to make its key in the write-ahead log. This is a single write, so one of the
//! two is stored at any moment.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::room::Room;
use crate::engine::error::Error;
use crate::engine::names::{Nonce, RoleName};
use crate::engine::role::Terms;
use crate::engine::role::budget::Pool;
use crate::engine::role::dynamic::DynamicRole;
use crate::framework::Locks;
use crate::framework::wal::{self, Log};
use crate::logical::{Storage, StorageError};
use crate::openrouter::{GuardrailId, KeyHash};

mod by_role;
mod change;
mod record;

use by_role::ByRole;
pub use change::LeaseGuard;
pub use record::{LeasedKey, Record, Requester};

/// The leases of a mount.
pub struct Leases {
    pub(super) log: Log<Record, ByRole>,
    /// Leases being issued, per role. A plain mutex: it is never held across an await.
    coming: Mutex<HashMap<RoleName, usize>>,
    /// The guardrails of roles, as they were last stored or read to be applied. A key that was ordered with
    /// another one, or without, must not be handed out. A plain mutex, as above.
    expected: Mutex<HashMap<RoleName, GuardrailId>>,
    /// Leases with a record whose keys are gone, or may be. A plain mutex, as above.
    doomed: Mutex<HashSet<Nonce>>,
    /// The remaining room in budgets.
    pub(super) room: Room,
    /// Serializes the changes of each lease.
    locks: Locks,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            // Version 2 adds: the requester, the granted limits and guardrail, the grant from a budget, and
            // when the key was disabled.
            log: Log::new("lease", 2),
            expected: Mutex::default(),
            coming: Mutex::default(),
            doomed: Mutex::default(),
            room: Room::default(),
            locks: Locks::default(),
        }
    }
}

impl Leases {
    /// The log into which the entries of earlier processes are loaded.
    pub(super) fn log(&self) -> &dyn wal::Kind {
        &self.log
    }

    /// Forgets what is also in storage.
    pub(super) fn forget(&self) {
        self.log.forget(|_| false);
        self.expected().clear();
        self.doomed().clear();
        self.room.forget();
    }

    /// Locks a lease for a change, so that a lease that is being ended cannot be extended.
    pub async fn lock(self: &Arc<Self>, nonce: &Nonce) -> LeaseGuard {
        let held = self.locks.lock(nonce.as_str()).await;
        LeaseGuard::new(Arc::clone(self), nonce.clone(), held)
    }

    /// Admits one more lease of a role if there are fewer than `most`, including those being issued. The
    /// lease counts as being issued while the result lives.
    ///
    /// # Errors
    /// [`Error::Full`] if the role has reached its maximum.
    pub fn admit(self: &Arc<Self>, role: &RoleName, most: Option<u32>) -> Result<Admission, Error> {
        let mut coming = self.coming();
        if let Some(most) = most {
            let coming = coming.get(role).copied().unwrap_or(0);
            if self.of_role(role) + coming >= most as usize {
                return Err(Error::Full {
                    message: format!(
                        "role {:?} has as many leases as its max_leases of {most} allows; revoke one, \
                     or wait for one to end",
                        role.to_string()
                    ),
                    retry_after: None,
                });
            }
        }
        *coming.entry(role.clone()).or_default() += 1;
        Ok(Admission {
            leases: Arc::clone(self),
            role: role.clone(),
        })
    }

    /// Stores a record in place of the intent to make its key. If that fails, there is no record, the intent
    /// still leads to the key, and the key must not be handed out.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub async fn begin(
        &self,
        storage: &dyn Storage,
        record: Record,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let id = record.key.nonce.as_str().to_owned();
        self.log.overwrite(storage, &id, record, now).await
    }

    /// The record of a living lease.
    pub fn living(&self, nonce: &Nonce) -> Option<Record> {
        Some(self.log.entry(nonce.as_str())?.data)
    }

    /// The records of all living leases.
    pub fn all(&self) -> impl Iterator<Item = Record> {
        self.log
            .entries()
            .into_iter()
            .map(|(_, written)| written.data)
    }

    /// Whether the key is under a living lease.
    pub fn has(&self, hash: &KeyHash) -> bool {
        self.log.count(|record| record.key.key_hash == *hash) > 0
    }

    /// The leases of a role whose spending is not counted in its pool.
    pub fn uncounted(&self, role: &RoleName, pool: Option<&Pool>) -> Vec<Record> {
        let is_counted =
            |record: &Record| pool.is_some_and(|pool| pool.has_counted(&record.key.nonce));
        let of_role = self.matching(|record| record.key.role == *role);
        of_role.filter(|record| !is_counted(record)).collect()
    }

    /// The number of living leases.
    pub fn count(&self) -> usize {
        self.log.count(|_| true)
    }

    /// The number of living leases of a role.
    pub fn of_role(&self, role: &RoleName) -> usize {
        self.log.inspect(|by_role, _| by_role.living(role))
    }

    /// The records that match, also of leases that have ended and wait for their final readings.
    pub(super) fn matching(
        &self,
        matches: impl Fn(&Record) -> bool,
    ) -> impl Iterator<Item = Record> {
        let matching = self.log.matching(matches).into_iter();
        matching.map(|written| written.data)
    }

    /// The leases that have ended, whose keys wait for their final readings.
    pub fn ended(&self) -> Vec<Record> {
        self.matching(|record| record.ended.is_some()).collect()
    }

    /// The number of a role's leases whose keys were made without a budget.
    pub fn without_grant(&self, role: &RoleName) -> usize {
        self.log
            .count(|record| record.key.role == *role && record.grant.is_none())
    }

    /// The leases of a role whose keys are not proved to have the guardrail that they should have, with that
    /// guardrail. Empty if the role has no guardrail.
    pub fn unguarded(&self, name: &RoleName, role: &DynamicRole) -> Vec<(Record, GuardrailId)> {
        if role.terms.guardrail_id.is_none() {
            return Vec::new();
        }
        let of_role = self.matching(|record| record.key.role == *name);
        let living = of_role.filter(|record| record.ended.is_none());
        let due = living.filter_map(|record| {
            record
                .guardrail_to_assign(role)
                .map(|wanted| (record, wanted))
        });
        due.collect()
    }

    /// Stores with each record what only its role's entry says about it: the workspace of a record of the
    /// first format, and that its guardrail is unproved. Called before the role is moved, loses its guardrail
    /// or is deleted, which would lose this information. No storage call for other records.
    ///
    /// # Errors
    /// If a record cannot be stored.
    pub async fn detach(
        self: &Arc<Self>,
        storage: &dyn Storage,
        name: &RoleName,
        role: &DynamicRole,
    ) -> Result<(), StorageError> {
        let of_role = self.matching(|record| record.key.role == *name);
        let depends =
            |record: &Record| record.is_unplaced() || record.guardrail_to_assign(role).is_some();
        for record in of_role.filter(depends).collect::<Vec<_>>() {
            let lease = self.lock(&record.key.nonce).await;
            let detached = |record: Record| Record {
                guardrail_unproved: record.guardrail_unproved
                    || record.guardrail_to_assign(role).is_some(),
                ..record.placed_by(&role.terms)
            };
            lease.rewrite(storage, detached).await?;
        }
        Ok(())
    }

    /// From now on, no key of the role that was ordered with another guardrail than that of these terms is
    /// handed out. Called before terms with a guardrail are stored, and whenever terms were read or stored under
    /// the role's lock.
    pub fn expect_guardrail(&self, role: &RoleName, terms: &Terms) {
        match &terms.guardrail_id {
            Some(guardrail) => drop(self.expected().insert(role.clone(), guardrail.clone())),
            None => self.forget_guardrail(role),
        }
    }

    /// Forgets a role that is gone.
    pub fn forget_guardrail(&self, role: &RoleName) {
        self.expected().remove(role);
    }

    /// Whether the key of a lease that was just begun may be handed out. Not if its role was given another
    /// guardrail since the key was ordered, wherever the role makes its keys now.
    pub fn is_guarded(&self, record: &Record) -> bool {
        let expected = self.expected();
        let expected = expected.get(&record.key.role);
        expected.is_none_or(|guardrail| record.guardrail_id.as_ref() == Some(guardrail))
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<RoleName, GuardrailId>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doomed(&self) -> MutexGuard<'_, HashSet<Nonce>> {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn coming(&self) -> MutexGuard<'_, HashMap<RoleName, usize>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Permission to make a key for one more lease.
pub struct Admission {
    leases: Arc<Leases>,
    role: RoleName,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut coming = self.leases.coming();
        if let Some(count) = coming.get_mut(&self.role) {
            *count -= 1;
            if *count == 0 {
                coming.remove(&self.role);
            }
        }
    }
}

#[cfg(test)]
mod tests;
