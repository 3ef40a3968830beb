//! How the record of a living lease changes: only under the lease's lock.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Leases, Record};
use crate::engine::names::Nonce;
use crate::engine::role::Terms;
use crate::framework::Held;
use crate::logical::{Storage, StorageError};
use crate::openrouter::{GuardrailId, WorkspaceId};

/// The lock on a lease; see [`Leases::lock`].
pub struct LeaseGuard {
    leases: Arc<Leases>,
    nonce: Nonce,
    _held: Held,
}

impl LeaseGuard {
    pub(super) fn new(leases: Arc<Leases>, nonce: Nonce, held: Held) -> Self {
        Self {
            leases,
            nonce,
            _held: held,
        }
    }

    /// The nonce that identifies the lease.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The lease's record, if the lease is alive.
    pub fn record(&self) -> Option<Record> {
        self.leases.living(&self.nonce)
    }

    /// From now on the lease is not [extended](Self::extend), since its key is gone or may be. Its record stays
    /// until it is [deleted](Self::end). Another process does not know of this until it has found the key gone.
    pub fn doom(&self) {
        self.leases.doomed().insert(self.nonce.clone());
    }

    /// Postpones the end of the lease; never brings it forward. Returns `false` if there is no such lease, or if
    /// its key may be gone.
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
        if written.data.ended.is_some() || self.leases.doomed().contains(&self.nonce) {
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
            guardrail_unproved: false,
            ..record.placed_by(terms)
        };
        self.rewrite(storage, guarded).await
    }

    /// Records that it is no longer proved that the key has this guardrail, if it has it by its record. The
    /// terms are those of its role.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub async fn note_unproved(
        &self,
        storage: &dyn Storage,
        guardrail_id: &GuardrailId,
        terms: &Terms,
    ) -> Result<(), StorageError> {
        let unproved = |record: Record| Record {
            guardrail_unproved: record.guardrail_unproved
                || record.guardrail_id.as_ref() == Some(guardrail_id),
            ..record.placed_by(terms)
        };
        self.rewrite(storage, unproved).await
    }

    /// Records that the key was moved to another workspace; `None` is the account's default workspace.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub async fn note_moved(
        &self,
        storage: &dyn Storage,
        workspace_id: Option<WorkspaceId>,
    ) -> Result<(), StorageError> {
        let moved = |record| Record {
            workspace_id,
            placed: true,
            ..record
        };
        self.rewrite(storage, moved).await
    }

    /// Changes the lease's record, if the lease is alive. No storage call if nothing changes.
    pub(super) async fn rewrite(
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
        self.leases.log.delete(storage, self.nonce.as_str()).await?;
        self.leases.doomed().remove(&self.nonce);
        Ok(())
    }
}
