//! The records of the leases that are alive, and how many there may be.
//!
//! A record begins as the intent to make its key, and takes the intent's place in the write-ahead
//! log: one write, with no moment at which neither is stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Nonce, Place, RoleName};
use crate::framework::wal::{self, Log};
use crate::framework::{Held, Locks};
use crate::logical::{Storage, StorageError};
use crate::openrouter::{KeyHash, Limits, WorkspaceId};

/// A key under a lease: all that its end needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedKey {
    /// What its name ends in, and what it is known by here.
    pub nonce: Nonce,
    /// Of which role.
    pub role: RoleName,
    /// Through which connection it was made.
    pub connection: ConnectionName,
    /// By what OpenRouter knows it.
    pub key_hash: KeyHash,
}

/// A lease that the server has, or is about to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// On what.
    #[serde(flatten)]
    pub key: LeasedKey,
    /// Until when the server may hold it.
    pub until: Timestamp,
    /// In which workspace it was made; `None` is the account's default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<WorkspaceId>,
    /// The limits that it was given; `None` for leases of the first stored format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Limits>,
}

impl Record {
    /// Where the key is.
    pub fn place(&self) -> Place {
        Place {
            connection: self.key.connection.clone(),
            workspace_id: self.workspace_id.clone(),
        }
    }
}

/// The leases of a mount.
pub struct Leases {
    log: Log<Record>,
    /// Leases being issued, per role. A plain mutex: it is never held across an await.
    coming: Mutex<HashMap<RoleName, usize>>,
    /// One change of a lease at a time.
    locks: Locks,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            log: Log::new("lease", 2),
            coming: Mutex::default(),
            locks: Locks::default(),
        }
    }
}

impl Leases {
    /// What earlier processes left is read into this.
    pub(super) fn log(&self) -> &dyn wal::Kind {
        &self.log
    }

    /// Forgets what storage has as well.
    pub(super) fn forget(&self) {
        self.log.forget(|_| false);
    }

    /// The sole right to change a lease: a lease that ends cannot be extended meanwhile.
    pub async fn lock(self: &Arc<Self>, nonce: &Nonce) -> LeaseGuard {
        LeaseGuard {
            leases: Arc::clone(self),
            nonce: nonce.clone(),
            _held: self.locks.lock(nonce.as_str()).await,
        }
    }

    /// Admits one more lease of a role, if there are fewer than `most` with those that are coming.
    /// It is coming for as long as the result lives.
    ///
    /// # Errors
    /// [`Error::Full`] when there are not.
    pub fn admit(self: &Arc<Self>, role: &RoleName, most: Option<u32>) -> Result<Admission, Error> {
        let mut coming = self.coming();
        if let Some(most) = most {
            let coming = coming.get(role).copied().unwrap_or(0);
            if self.of_role(role) + coming >= most as usize {
                return Err(Error::Full(format!(
                    "role {:?} has as many leases as its max_leases of {most} allows; revoke one, \
                     or wait for one to end",
                    role.to_string()
                )));
            }
        }
        *coming.entry(role.clone()).or_default() += 1;
        Ok(Admission {
            leases: Arc::clone(self),
            role: role.clone(),
        })
    }

    /// Stores a record in the place of the intent to make its key. If that fails there is none, and
    /// the intent still leads to the key, which must not be handed out.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn begin(
        &self,
        storage: &dyn Storage,
        record: Record,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let id = record.key.nonce.as_str().to_owned();
        self.log.overwrite(storage, &id, record, now).await
    }

    /// A lease that is alive.
    pub fn living(&self, nonce: &Nonce) -> Option<Record> {
        Some(self.log.entry(nonce.as_str())?.data)
    }

    /// Every lease that is alive.
    pub fn all(&self) -> impl Iterator<Item = Record> {
        self.log
            .entries()
            .into_iter()
            .map(|(_, written)| written.data)
    }

    /// How many leases of a role are alive.
    pub fn of_role(&self, role: &RoleName) -> usize {
        self.log.count(|record| record.key.role == *role)
    }

    fn coming(&self) -> MutexGuard<'_, HashMap<RoleName, usize>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sole right to change a lease; see [`Leases::lock`].
pub struct LeaseGuard {
    leases: Arc<Leases>,
    nonce: Nonce,
    _held: Held,
}

impl LeaseGuard {
    /// By what the lease is known here.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The lease's record, if it is alive.
    pub fn record(&self) -> Option<Record> {
        self.leases.living(&self.nonce)
    }

    /// Postpones the end of the lease; never brings it forward. `false` when there is no such lease.
    ///
    /// # Errors
    /// When it cannot be stored; the end is then as it was.
    pub async fn extend(
        &self,
        storage: &dyn Storage,
        until: Timestamp,
    ) -> Result<bool, StorageError> {
        let (log, id) = (&self.leases.log, self.nonce.as_str());
        let Some(written) = log.entry(id) else {
            return Ok(false);
        };
        if until > written.data.until {
            let later = Record {
                until,
                ..written.data
            };
            log.overwrite(storage, id, later, written.at).await?;
        }
        Ok(true)
    }

    /// Brings the end of a lease forward of which nobody has heard.
    ///
    /// # Errors
    /// When it cannot be stored; the end is then as it was.
    pub async fn abandon(
        &self,
        storage: &dyn Storage,
        until: Timestamp,
    ) -> Result<(), StorageError> {
        let (log, id) = (&self.leases.log, self.nonce.as_str());
        let Some(written) = log.entry(id) else {
            return Ok(());
        };
        let ended = Record {
            until,
            ..written.data
        };
        log.overwrite(storage, id, ended, written.at).await
    }

    /// Strikes the record out: the key is gone.
    ///
    /// # Errors
    /// When it cannot be removed; it then stays known.
    pub async fn end(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        self.leases.log.delete(storage, self.nonce.as_str()).await
    }
}

/// The right to make a key for one more lease.
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::logical::MemoryStorage;

    fn record(number: u64, role: &str) -> Record {
        let nonce = format!("{number:032x}");
        serde_json::from_value(json!({
            "nonce": nonce,
            "role": role,
            "connection": "default",
            "key_hash": format!("{number:064x}"),
            "until": "2026-11-21T12:00:00Z",
        }))
        .unwrap()
    }

    fn role(name: &str) -> RoleName {
        RoleName::new(name).unwrap()
    }

    async fn with(records: u64) -> (Arc<Leases>, MemoryStorage) {
        let (leases, storage) = (Arc::<Leases>::default(), MemoryStorage::default());
        for number in 0..records {
            let begun = leases.begin(&storage, record(number, "ci"), Timestamp::UNIX_EPOCH);
            begun.await.unwrap();
        }
        (leases, storage)
    }

    #[tokio::test]
    async fn those_that_are_coming_count_until_they_are_given_up() {
        let (leases, _) = with(1).await;
        let coming = leases.admit(&role("ci"), Some(2)).ok().unwrap();
        let full = leases.admit(&role("ci"), Some(2)).err().unwrap();
        assert!(full.to_string().contains("max_leases of 2"), "{full}");
        assert!(leases.admit(&role("other"), Some(1)).is_ok());
        assert!(leases.admit(&role("ci"), None).is_ok());
        drop(coming);
        assert!(leases.admit(&role("ci"), Some(2)).is_ok());
    }

    #[tokio::test]
    async fn an_end_is_put_off_and_never_brought_forward() {
        let (leases, storage) = with(1).await;
        let nonce = record(0, "ci").key.nonce;
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        for until in ["2026-11-21T13:00:00Z", "2026-11-21T12:30:00Z"] {
            let lease = leases.lock(&nonce).await;
            assert!(lease.extend(&storage, at(until)).await.unwrap());
        }
        let later = Arc::new(Leases::default());
        wal::load(&storage, &[later.log()]).await.unwrap();
        for leases in [leases, later] {
            let until = leases.living(&nonce).unwrap().until;
            assert_eq!(until, at("2026-11-21T13:00:00Z"));
        }
    }

    #[tokio::test]
    async fn a_lease_that_has_ended_cannot_be_extended() {
        let (leases, storage) = with(1).await;
        let nonce = record(0, "ci").key.nonce;
        let lease = leases.lock(&nonce).await;
        lease.end(&storage).await.unwrap();
        let until = "2026-11-21T13:00:00Z".parse().unwrap();
        assert!(!lease.extend(&storage, until).await.unwrap());
        assert_eq!(leases.of_role(&role("ci")), 0);
        assert!(storage.keys().is_empty());
    }
}
