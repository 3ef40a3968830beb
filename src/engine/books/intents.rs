//! What is written down before a key is ordered, and who may act on it.
//!
//! An intent is either *in flight*, with a task of this process that will see the order through, or
//! it is *adrift*: its task died, or does not know what came of the order. Only what is adrift is
//! recovered (see [`mod@super::recover`]).

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::books::Looks;
use crate::engine::connection::Making;
use crate::engine::keeper::Keeper;
use crate::engine::names::{ConnectionName, Nonce, Place, RoleName};
use crate::engine::task::Task;
use crate::framework::wal::{self, Log, Written};
use crate::logical::{Storage, StorageError};
use crate::openrouter::KeyHash;

/// What a key is made for, which decides how it is proved and where it may be in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It is to be in its role's entry, as the key of this version. Once it is stored there, striking
    /// out its intent may fail without harm: the recovery looks into the entry first.
    Rotation {
        /// Which of the role's keys it is.
        version: u64,
    },
    /// It is to be handed out under a lease of its own, and no role's entry has it. So it may be
    /// handed out only after the record of the lease has taken the intent's place, see
    /// [`InFlight::taken_over`]: the recovery deletes whatever key it finds.
    Lease,
}

/// A key is about to be ordered, or may have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What the key's name ends in.
    pub nonce: Nonce,
    /// For which role.
    pub role: RoleName,
    /// What for.
    pub purpose: Purpose,
    /// The whole name, for people.
    pub key_name: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The hash of the key that was made, once its answer has shown that it must not be used. By it
    /// the key is found wherever OpenRouter made it, and under whatever name.
    pub rejected: Option<KeyHash>,
}

/// Every intent of a mount.
pub struct Intents {
    log: Log<Intent>,
    // A plain mutex: it is never held across an await.
    in_flight: Mutex<HashSet<Nonce>>,
    /// What is known of those that are adrift.
    pub looks: Looks,
}

impl Default for Intents {
    fn default() -> Self {
        Self {
            log: Log::new("create-key"),
            in_flight: Mutex::default(),
            looks: Looks::default(),
        }
    }
}

impl Intents {
    /// What earlier processes left is read into this.
    pub fn log(&self) -> &dyn wal::Kind {
        &self.log
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
        making: Making,
    ) -> Result<InFlight, StorageError> {
        let nonce = intent.nonce.clone();
        self.in_flight().insert(nonce.clone());
        let in_flight = InFlight {
            intents: Arc::clone(self),
            keeper: Arc::clone(keeper),
            nonce,
            _making: making,
        };
        let id = in_flight.nonce.as_str();
        self.log.put(storage, id, intent, now).await?;
        Ok(in_flight)
    }

    /// Stores with an intent that its key was made, and must not be used.
    ///
    /// # Errors
    /// When it cannot be stored; this process knows it all the same.
    pub async fn reject(
        &self,
        storage: &dyn Storage,
        nonce: &Nonce,
        hash: &KeyHash,
    ) -> Result<(), StorageError> {
        let rejected = Some(hash.clone());
        let note = |intent: &mut Intent| intent.rejected = rejected;
        self.log.amend(storage, nonce.as_str(), note).await
    }

    /// The intents that are adrift at a place, and when they were announced.
    pub fn adrift(&self, place: &Place) -> Vec<Written<Intent>> {
        let mut adrift = self.all_adrift();
        adrift.retain(|written| written.data.place == *place);
        adrift
    }

    /// Where intents are adrift.
    pub fn places_adrift(&self) -> BTreeSet<Place> {
        let adrift = self.all_adrift().into_iter();
        adrift.map(|written| written.data.place).collect()
    }

    fn all_adrift(&self) -> Vec<Written<Intent>> {
        // Held while the log is read: else an intent that is struck out and let go of in between,
        // whose key is in service, would pass for one that is adrift.
        let in_flight = self.in_flight();
        let known = self.log.entries().into_iter();
        known
            .map(|(_, written)| written)
            .filter(|written| !in_flight.contains(&written.data.nonce))
            .collect()
    }

    /// When the next look at a place is due; `None` when nothing is adrift there.
    pub fn next_look(&self, place: &Place, now: Timestamp) -> Option<Timestamp> {
        let adrift = self.adrift(place);
        let next = adrift
            .iter()
            .map(|written| self.looks.of(&written.data.nonce).next)
            .min()?;
        Some(next.max(self.looks.rested(place, now)))
    }

    /// Whether a key was ordered through this connection of which it is not known yet what came of it.
    pub fn any_through(&self, connection: &ConnectionName) -> bool {
        let through = |intent: &Intent| intent.place.connection == *connection;
        self.log.count(through) > 0
    }

    /// Strikes an intent out: its key is where it belongs, or gone, or was never made.
    ///
    /// # Errors
    /// When it cannot be removed from storage; it then stays known.
    pub async fn strike(&self, storage: &dyn Storage, nonce: &Nonce) -> Result<(), StorageError> {
        self.log.delete(storage, nonce.as_str()).await?;
        self.looks.forget(nonce);
        Ok(())
    }

    /// Whether it is still in the log.
    pub fn is_known(&self, nonce: &Nonce) -> bool {
        self.log.entry(nonce.as_str()).is_some()
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
    /// Its room among the keys in the making, given back with it.
    _making: Making,
}

impl InFlight {
    /// The intent's entry was overwritten by something else that leads to the key.
    pub fn taken_over(self) {
        self.intents.log.overwritten(self.nonce.as_str());
    }

    /// The nonce that the order bears.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InFlight").field(&self.nonce).finish()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.intents.in_flight().remove(&self.nonce);
        if let Some(written) = self.intents.log.entry(self.nonce.as_str()) {
            self.keeper.now(Task::Recover(written.data.place));
        }
    }
}
