//! What is written down before a key is ordered, and who may act on it.
//!
//! An intent is either *in flight*, with a task of this process that will see the order through, or
//! it is *adrift*: its task died, or does not know what came of the order. Only what is adrift is
//! recovered (see [`super::recover`]).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::connection::ConnectionName;
use crate::engine::keeper::{Keeper, Task};
use crate::engine::nonce::Nonce;
use crate::engine::role::RoleName;
use crate::framework::wal::{Log, Written};
use crate::logical::{Storage, StorageError};
use crate::openrouter::WorkspaceId;

/// A key is about to be ordered, or may have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What the key's name ends in.
    pub nonce: Nonce,
    /// For which role.
    pub role: RoleName,
    /// Which of the role's keys it would be.
    pub version: u64,
    /// The whole name, for people.
    pub key_name: String,
    /// Through which connection.
    pub connection: ConnectionName,
    /// In which workspace; `None` is the account's default one.
    pub workspace_id: Option<WorkspaceId>,
}

/// Every intent of a mount.
pub struct Intents {
    log: Log<Intent>,
    // A plain mutex: it is never held across an await.
    in_flight: Mutex<HashSet<Nonce>>,
}

impl Default for Intents {
    fn default() -> Self {
        Self {
            log: Log::new("create-key"),
            in_flight: Mutex::default(),
        }
    }
}

impl Intents {
    /// Reads what earlier processes left. See [`Log::load`].
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn load(&self, storage: &dyn Storage) -> Result<Vec<StorageError>, StorageError> {
        self.log.load(storage).await
    }

    /// Writes an intent down, in flight for as long as the result lives. Only after this has
    /// returned `Ok` may the key be ordered.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn announce(
        self: &Arc<Self>,
        storage: &dyn Storage,
        intent: Intent,
        now: Timestamp,
        keeper: &Arc<Keeper>,
    ) -> Result<InFlight, StorageError> {
        let nonce = intent.nonce.clone();
        self.in_flight().insert(nonce.clone());
        let in_flight = InFlight {
            intents: Arc::clone(self),
            keeper: Arc::clone(keeper),
            nonce,
        };
        let id = in_flight.nonce.as_str();
        self.log.put(storage, id, intent, now).await?;
        Ok(in_flight)
    }

    /// An intent that is adrift.
    pub fn adrift(&self, nonce: &Nonce) -> Option<Written<Intent>> {
        if self.in_flight().contains(nonce) {
            return None;
        }
        self.log.entry(nonce.as_str())
    }

    /// Every intent that is known.
    pub fn all(&self) -> impl Iterator<Item = Intent> {
        self.log
            .entries()
            .into_iter()
            .map(|(_, written)| written.data)
    }

    /// Strikes an intent out: its key is in service, or gone, or was never made.
    ///
    /// # Errors
    /// When it cannot be removed from storage; it then stays known.
    pub async fn strike(&self, storage: &dyn Storage, nonce: &Nonce) -> Result<(), StorageError> {
        self.log.delete(storage, nonce.as_str()).await
    }

    fn in_flight(&self) -> std::sync::MutexGuard<'_, HashSet<Nonce>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// An intent whose order is being seen through. Dropping it sets the intent adrift, be it because
/// the task gave up or because it was torn off: whatever is then still in the log is recovered.
pub struct InFlight {
    intents: Arc<Intents>,
    keeper: Arc<Keeper>,
    nonce: Nonce,
}

impl InFlight {
    /// The nonce that the order bears.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.intents.in_flight().remove(&self.nonce);
        if self.intents.log.entry(self.nonce.as_str()).is_some() {
            self.keeper.now(Task::Recover(self.nonce.clone()));
        }
    }
}
