//! The records of living leases, and their maximum number.
//!
//! A record replaces the intent to make its key in the write-ahead log. This is a single write, so one of the
//! two is stored at any moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::room::Room;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Nonce, Place, RoleName};
use crate::engine::role::Terms;
use crate::engine::role::budget::{Amount, Counting, Report, Spans};
use crate::engine::role::dynamic::DynamicRole;
use crate::framework::wal::{self, Log};
use crate::framework::{Held, Locks};
use crate::logical::{Storage, StorageError};
use crate::openrouter::{GuardrailId, KeyHash, Limits, WorkspaceId};

/// A key under a lease: the data needed to end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedKey {
    /// The end of the key's name, which also identifies the lease.
    pub nonce: Nonce,
    /// The role.
    pub role: RoleName,
    /// The connection through which the key was made.
    pub connection: ConnectionName,
    /// The hash that identifies the key at OpenRouter.
    pub key_hash: KeyHash,
}

/// Who asked for the key of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requester {
    /// The display name of the token.
    pub display_name: String,
    /// The identity entity of the token; empty if there is none.
    pub entity_id: String,
    /// The id of the request, as in the server's audit log.
    pub request_id: String,
    /// When the key was requested.
    pub at: Timestamp,
}

/// A lease that the server has, or is about to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key.
    #[serde(flatten)]
    pub key: LeasedKey,
    /// The time until which the server may hold the lease.
    pub until: Timestamp,
    /// The key's workspace. `None` is the account's default workspace; in a record of the first format it is
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<WorkspaceId>,
    /// The granted limits; `None` for leases of the first stored format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Limits>,
    /// Whether the workspace was added to a record of the first format.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub placed: bool,
    /// The guardrail that the key is assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<GuardrailId>,
    /// Who requested the key; `None` for a record of the first format.
    #[serde(default)]
    pub requester: Option<Requester>,
    /// What the key takes out of the role's budget; `None` if it was made without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Amount>,
    /// Whether its final reading is to be taken without a budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tracked: bool,
    /// If it is to be counted: when the lease ended and its key was disabled. The key is still to be read and deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl Record {
    /// The place of the key.
    pub fn place(&self) -> Place {
        Place {
            connection: self.key.connection.clone(),
            workspace_id: self.workspace_id.clone(),
        }
    }

    /// Whether what the key has spent is to be counted when it ends.
    pub fn is_to_be_counted(&self) -> bool {
        self.grant.is_some() || self.tracked
    }

    /// What the key has spent in the budget's window, and in each span, by a report about it.
    pub fn spent(&self, report: &Report, counting: Counting) -> (Amount, Spans) {
        let spans = report.spans(counting);
        // The key's remaining limit shows what was spent only since the limit's own window began.
        let same = self
            .granted
            .is_some_and(|granted| granted.reset == counting.reset);
        let in_window = match same {
            true => report.reading(counting).spent,
            false => spans.within(counting.reset),
        };
        (in_window, spans)
    }

    /// The guardrail of these terms, if the key should have it and does not.
    pub fn lacks<'a>(&self, terms: &'a Terms) -> Option<&'a GuardrailId> {
        let wanted = terms.guardrail_id.as_ref()?;
        let is_there = || self.clone().placed_by(terms).place() == terms.place();
        let lacks = self.guardrail_id.as_ref() != Some(wanted) && is_there();
        lacks.then_some(wanted)
    }

    /// Adds the workspace to a record of the first format. The key is in the workspace of its role, which has
    /// these terms: this is stored before the role is moved.
    #[must_use]
    fn placed_by(mut self, terms: &Terms) -> Self {
        if self.is_unplaced() && self.key.connection == terms.connection {
            self.workspace_id.clone_from(&terms.workspace_id);
            self.placed = true;
        }
        self
    }

    fn is_unplaced(&self) -> bool {
        self.requester.is_none() && !self.placed
    }
}

/// The leases of a mount.
pub struct Leases {
    log: Log<Record>,
    /// Leases being issued, per role. A plain mutex: it is never held across an await.
    coming: Mutex<HashMap<RoleName, usize>>,
    /// The terms of roles that were given another guardrail during the life of this process. A key that was
    /// ordered earlier must not be handed out without that guardrail. A plain mutex, as above.
    guarded: Mutex<HashMap<RoleName, Terms>>,
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
            guarded: Mutex::default(),
            coming: Mutex::default(),
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
        self.guarded().clear();
        self.room.forget();
    }

    /// Locks a lease for a change, so that a lease that is being ended cannot be extended.
    pub async fn lock(self: &Arc<Self>, nonce: &Nonce) -> LeaseGuard {
        LeaseGuard {
            leases: Arc::clone(self),
            nonce: nonce.clone(),
            _held: self.locks.lock(nonce.as_str()).await,
        }
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

    /// The number of living leases.
    pub fn count(&self) -> usize {
        self.log.count(|_| true)
    }

    /// The number of living leases of a role.
    pub fn of_role(&self, role: &RoleName) -> usize {
        let is_alive = |record: &Record| record.ended.is_none();
        self.log
            .count(|record| record.key.role == *role && is_alive(record))
    }

    /// The leases that have ended, whose keys wait for their final readings.
    pub fn ended(&self) -> Vec<Record> {
        let is_over = |record: &Record| record.ended.is_some();
        match self.log.count(is_over) {
            0 => Vec::new(),
            _ => self.all().filter(is_over).collect(),
        }
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
        let of_role = self.all().filter(|record| record.key.role == *name);
        let living = of_role.filter(|record| record.ended.is_none());
        let wanted = living.filter_map(|record| {
            let unproved = record.guardrail_id.as_ref().filter(|_| role.unproved);
            let wanted = record.lacks(&role.terms).or(unproved)?.clone();
            Some((record, wanted))
        });
        wanted.collect()
    }

    /// Adds the place of the key to each record of the first format, before its role is moved or deleted,
    /// which would lose this information. No storage call for other records.
    ///
    /// # Errors
    /// If a record cannot be stored.
    pub async fn place_by(
        self: &Arc<Self>,
        storage: &dyn Storage,
        name: &RoleName,
        terms: &Terms,
    ) -> Result<(), StorageError> {
        let is_unplaced = |record: &Record| record.key.role == *name && record.is_unplaced();
        let unplaced: Vec<Record> = self.all().filter(is_unplaced).collect();
        for record in unplaced {
            let lease = self.lock(&record.key.nonce).await;
            let placed = |record: Record| record.placed_by(terms);
            lease.rewrite(storage, placed).await?;
        }
        Ok(())
    }

    /// From now on, no key of the role that was made under other terms is handed out without the guardrail of
    /// these terms. Called before the terms are stored, and whenever they are read to be applied.
    pub fn expect_guardrail(&self, role: &RoleName, terms: &Terms) {
        let mut guarded = self.guarded();
        if terms.guardrail_id.is_some() {
            guarded.insert(role.clone(), terms.clone());
        } else {
            guarded.remove(role);
        }
    }

    /// Forgets a role that is gone.
    pub fn forget_guardrail(&self, role: &RoleName) {
        self.guarded().remove(role);
    }

    /// Whether the key of a lease that was just begun may be handed out.
    pub fn is_guarded(&self, record: &Record) -> bool {
        let guarded = self.guarded();
        let terms = guarded.get(&record.key.role);
        terms.is_none_or(|terms| record.lacks(terms).is_none())
    }

    fn guarded(&self) -> MutexGuard<'_, HashMap<RoleName, Terms>> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn coming(&self) -> MutexGuard<'_, HashMap<RoleName, usize>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lock on a lease; see [`Leases::lock`].
pub struct LeaseGuard {
    leases: Arc<Leases>,
    nonce: Nonce,
    _held: Held,
}

impl LeaseGuard {
    /// The nonce that identifies the lease.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The lease's record, if the lease is alive.
    pub fn record(&self) -> Option<Record> {
        self.leases.living(&self.nonce)
    }

    /// Postpones the end of the lease; never brings it forward. Returns `false` if there is no such lease.
    ///
    /// # Errors
    /// If it cannot be stored; the end is then unchanged.
    pub async fn extend(
        &self,
        storage: &dyn Storage,
        until: Timestamp,
    ) -> Result<bool, StorageError> {
        let (log, id) = (&self.leases.log, self.nonce.as_str());
        let Some(written) = log.entry(id) else {
            return Ok(false);
        };
        if written.data.ended.is_some() {
            return Ok(false);
        }
        if until > written.data.until {
            let later = Record {
                until,
                ..written.data
            };
            log.overwrite(storage, id, later, written.at).await?;
        }
        Ok(true)
    }

    /// Records that the key is now assigned to this guardrail. The terms are those of its role.
    ///
    /// # Errors
    /// If it cannot be stored; the key is then assigned again.
    pub async fn note_guarded(
        &self,
        storage: &dyn Storage,
        guardrail_id: &GuardrailId,
        terms: &Terms,
    ) -> Result<(), StorageError> {
        let guarded = |record: Record| Record {
            guardrail_id: Some(guardrail_id.clone()),
            ..record.placed_by(terms)
        };
        self.rewrite(storage, guarded).await
    }

    /// Changes the lease's record, if the lease is alive. No storage call if nothing changes.
    async fn rewrite(
        &self,
        storage: &dyn Storage,
        change: impl FnOnce(Record) -> Record,
    ) -> Result<(), StorageError> {
        let (log, id) = (&self.leases.log, self.nonce.as_str());
        let Some(written) = log.entry(id) else {
            return Ok(());
        };
        let changed = change(written.data.clone());
        if changed == written.data {
            return Ok(());
        }
        log.overwrite(storage, id, changed, written.at).await
    }

    /// Records that the lease has ended and its key is disabled.
    ///
    /// # Errors
    /// If it cannot be stored; the key is then disabled again.
    pub async fn disabled(
        &self,
        storage: &dyn Storage,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let ended = |record| Record {
            ended: Some(now),
            ..record
        };
        self.rewrite(storage, ended).await
    }

    /// Brings forward the end of a lease that was never handed out.
    ///
    /// # Errors
    /// If it cannot be stored; the end is then unchanged.
    pub async fn abandon(
        &self,
        storage: &dyn Storage,
        until: Timestamp,
    ) -> Result<(), StorageError> {
        let ended = |record| Record { until, ..record };
        self.rewrite(storage, ended).await
    }

    /// Deletes the record of a key that is gone.
    ///
    /// # Errors
    /// If it cannot be removed; it then stays known.
    pub async fn end(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        self.leases.log.delete(storage, self.nonce.as_str()).await
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
