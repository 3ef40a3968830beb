//! The runs of a mount: jobs that take longer than a request may. Each is stored as one entry when it is
//! ordered and again when it ends. Its progress in between is kept in memory.
//!
//! The progress is not stored, since it shows in the processed objects: a role has a newer key, or a key is
//! gone. A resumed run starts from the beginning and finds most of the work done.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::leases::Record;
use super::run::{Outcome, Run};
use super::unsure::Unsure;
use crate::engine::error::Error;
use crate::engine::names::{RUNS, RunId};
use crate::engine::stored;
use crate::framework::{Held, Locks};
use crate::logical::{Storage, StorageError};

/// The runs of a mount.
#[derive(Default)]
pub struct Runs {
    // A plain mutex: it is never held across an await.
    known: Mutex<HashMap<RunId, Run>>,
    /// Serializes the changes of each entry.
    entries: Locks,
    /// Ensures that one task at a time works on each run.
    workers: Locks,
    changed: Notify,
    unsure: Unsure<RunId>,
}

/// Proof that the mount is being torn down, made by the leader. No key of the mount may be used.
pub struct TornDown {
    /// When the teardown began.
    pub since: Timestamp,
}

impl Runs {
    /// Loads the stored runs: one storage call, plus one for each run that was ever ordered. An unreadable
    /// entry is passed to `unreadable`.
    pub(super) async fn load(
        &self,
        storage: &dyn Storage,
        now: Timestamp,
        unreadable: impl Fn(StorageError),
    ) -> Result<(), StorageError> {
        let names = storage.list(RUNS).await?;
        for id in names.iter().filter_map(|name| RunId::of_entry(name)) {
            let _held = self.lock(&id).await;
            match self.reload(storage, &id).await {
                Ok(Some(_)) => {}
                // It is listed, so it may be stored, and only the server's cache says that it is not.
                Ok(None) => _ = self.unsure.store_begins(&id, now),
                Err(reason @ StorageError::Malformed { .. }) => unreadable(reason),
                Err(reason) => return Err(reason),
            }
        }
        Ok(())
    }

    /// Forgets everything, since another node continues the runs.
    pub(super) fn forget(&self) {
        self.known().clear();
        self.unsure.clear();
        self.changed.notify_waiters();
    }

    /// Locks a run's entry for a change.
    pub async fn lock(&self, id: &RunId) -> Held {
        self.entries.lock(&id.key()).await
    }

    /// The right to work on a run, unless another task has it.
    pub fn try_work(&self, id: &RunId) -> Option<Held> {
        self.workers.try_lock(&id.key())
    }

    /// Reads a run: one storage call, under its [lock](Self::lock). If a failed write may have taken effect
    /// after a later one, the known run is returned and storage is not read.
    ///
    /// # Errors
    /// Errors from storage.
    pub async fn reload(
        &self,
        storage: &dyn Storage,
        id: &RunId,
    ) -> Result<Option<Run>, StorageError> {
        let doubt = self.unsure.of(id);
        if doubt.is_some_and(|doubt| doubt.is_overwritten)
            && let Some(run) = self.get(id)
        {
            return Ok(Some(run));
        }
        let read = stored::load::<Run>(storage, &id.key()).await?;
        let Some(mut run) = read else {
            self.known().remove(id);
            return Ok(None);
        };
        let mut known = self.known();
        // The progress is only in memory.
        if let Some(before) = known.get(id)
            && before.is_active()
            && run.is_active()
            && before.began == run.began
        {
            run.outcome.clone_from(&before.outcome);
        }
        known.insert(id.clone(), run.clone());
        Ok(Some(run))
    }

    /// Writes a run: one storage call, under its [lock](Self::lock).
    ///
    /// # Errors
    /// Errors from storage. The stored content is then unknown, and the known run is unchanged.
    pub async fn store(
        &self,
        storage: &dyn Storage,
        id: &RunId,
        run: Run,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        self.put(storage, id, &run, now).await?;
        self.known().insert(id.clone(), run);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn put(
        &self,
        storage: &dyn Storage,
        id: &RunId,
        run: &Run,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let before = self.unsure.store_begins(id, now);
        stored::store::<Run>(storage, &id.key(), run).await?;
        self.unsure.store_succeeded(id, now, before);
        Ok(())
    }

    /// If a write of a run reported failure, and the run has ended or there is none, writes the run again, or
    /// removes its entry, once the failed write can no longer take effect. Otherwise the next leader could
    /// carry out a run that this one does not see, and that nobody can cancel here. Returns when that is;
    /// `None` if nothing is in doubt. No storage call if no write has failed.
    ///
    /// # Errors
    /// Errors from storage. The caller retries.
    pub async fn confirm(
        &self,
        storage: &dyn Storage,
        id: &RunId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StorageError> {
        let _held = self.lock(id).await;
        let known = self.get(id);
        let Some(doubt) = self.unsure.of(id) else {
            return Ok(None);
        };
        if known.as_ref().is_some_and(Run::is_active) {
            return Ok(None);
        }
        if now < doubt.certain_at() {
            return Ok(Some(doubt.certain_at()));
        }
        match known {
            Some(run) => self.put(storage, id, &run, now).await?,
            None => {
                storage.delete(&id.key()).await?;
                self.unsure.forget(id);
            }
        }
        Ok(None)
    }

    /// The run as this node knows it.
    pub fn get(&self, id: &RunId) -> Option<Run> {
        self.known().get(id).cloned()
    }

    /// The runs that have work left.
    pub fn active(&self) -> Vec<RunId> {
        let known = self.known();
        let mut ids: Vec<_> = known
            .iter()
            .filter(|(_, run)| run.is_active())
            .map(|(id, _)| id.clone())
            .collect();
        ids.sort();
        ids
    }

    /// The runs whose stored content is unknown.
    pub fn in_doubt(&self) -> Vec<RunId> {
        self.unsure.entries()
    }

    /// Whether the run that began at `began` is still in progress.
    pub fn is_active(&self, id: &RunId, began: Timestamp) -> bool {
        let known = self.known();
        let run = known.get(id);
        run.is_some_and(|run| run.began == began && run.is_active())
    }

    /// Records the progress of the run that began at `began`.
    pub fn note(&self, id: &RunId, began: Timestamp, outcome: Outcome) {
        let mut known = self.known();
        if let Some(run) = known.get_mut(id)
            && run.began == began
            && run.is_active()
        {
            run.outcome = outcome;
        }
    }

    /// Resolves when a run is stored after this call.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Since when the mount is torn down, so that no key is handed out or created. No storage call.
    pub fn torn_down_since(&self) -> Option<Timestamp> {
        let known = self.known();
        let run = known.get(&RunId::Teardown)?;
        run.cancelled().is_none().then_some(run.began)
    }

    /// Whether a teardown of the mount, or an emergency about all keys of the connection, was to revoke the key
    /// of this lease. The key may then be gone, although the record exists: the leader that revoked the key may
    /// have been unable to delete the record. No storage call.
    pub fn may_have_revoked(&self, record: &Record) -> bool {
        let requested_at = record.requester.as_ref().map(|requester| requester.at);
        let known = self.known();
        let runs = [
            RunId::Teardown,
            RunId::RotateAll(record.key.connection.clone()),
        ];
        let mut runs = runs.iter().filter_map(|id| known.get(id));
        // A record of the first format does not say when its key was requested.
        runs.any(|run| run.was_to_revoke(requested_at.unwrap_or(Timestamp::MIN)))
    }

    /// Proves that the teardown that began at `began` is still in force, by rewriting its entry, which only
    /// the leader can do. One storage call; `None` if it is no longer in force.
    ///
    /// # Errors
    /// Errors from storage if this node may not write.
    pub async fn prove_torn_down(
        &self,
        storage: &dyn Storage,
        began: Timestamp,
        now: Timestamp,
    ) -> Result<Option<TornDown>, StorageError> {
        let id = RunId::Teardown;
        let _held = self.lock(&id).await;
        let Some(run) = self.get(&id).filter(|_| self.is_active(&id, began)) else {
            return Ok(None);
        };
        // Without the progress: until the run ends, the entry stays as it was ordered.
        let as_ordered = Run {
            outcome: Outcome::default(),
            ..run
        };
        self.put(storage, &id, &as_ordered, now).await?;
        Ok(Some(TornDown { since: began }))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<RunId, Run>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error while a mount is torn down.
pub fn while_torn_down(since: Timestamp) -> Error {
    Error::Unusable(format!(
        "this mount is torn down since {since}: no key is handed out or created; delete \"teardown\" \
         to cancel that"
    ))
}

#[cfg(test)]
mod tests;
