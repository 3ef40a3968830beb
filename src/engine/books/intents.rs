//! What is stored before a key is ordered, and who may act on it.
//!
//! An intent is either *in flight*, with a task of this process that sees the order through, or it is
//! *adrift*: its task died, or does not know what came of the order. Only what is adrift is recovered
//! (see [`keys`](crate::engine::keys)).

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::looks::Looks;
use crate::engine::connection::{InUse, Making};
use crate::engine::keeper::Keeper;
use crate::engine::names::{Nonce, Place, RoleName};
use crate::engine::role::budget::Amount;
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
    /// How long somebody may use the key whose reply this process does not know of, in seconds: a
    /// role's grace period, a lease's `ttl`. `None` is an intent of the first stored format.
    #[serde(default)]
    pub in_use: Option<u64>,
    /// The hash of the key that was made, once its answer has shown that it must not be used. By it
    /// the key is found wherever OpenRouter made it, and under whatever name.
    pub rejected: Option<KeyHash>,
    /// What the key of a lease takes out of its role's budget. Without a version of its own: a build that
    /// would lose it reads no role with a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Amount>,
}

/// Every intent of a mount.
pub struct Intents {
    log: Log<Intent>,
    // Plain mutexes: neither is ever held across an await.
    in_flight: Mutex<HashSet<Nonce>>,
    /// Those that this instance announced itself: no snapshot has brought them back.
    own: Mutex<HashSet<Nonce>>,
    /// What is known of those that are adrift.
    pub looks: Looks,
}

impl Default for Intents {
    fn default() -> Self {
        Self {
            log: Log::new("create-key", 2),
            in_flight: Mutex::default(),
            own: Mutex::default(),
            looks: Looks::default(),
        }
    }
}

impl Intents {
    /// What earlier processes left is read into this.
    pub(super) fn log(&self) -> &dyn wal::Kind {
        &self.log
    }

    /// Forgets what no task of this process sees through.
    pub(super) fn forget_what_is_adrift(&self) {
        let in_flight = lock(&self.in_flight);
        let is_in_flight = |id: &str| in_flight.iter().any(|nonce| nonce.as_str() == id);
        self.log.forget(is_in_flight);
    }

    /// Stores an intent, in flight for as long as the result lives. Only after this has returned `Ok`
    /// may the key be ordered.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn announce(
        self: &Arc<Self>,
        storage: &dyn Storage,
        intent: Intent,
        now: Timestamp,
        keeper: &Arc<Keeper<Task>>,
        room: (Making, InUse),
    ) -> Result<InFlight, StorageError> {
        let nonce = intent.nonce.clone();
        lock(&self.in_flight).insert(nonce.clone());
        lock(&self.own).insert(nonce.clone());
        let in_flight = InFlight {
            intents: Arc::clone(self),
            keeper: Arc::clone(keeper),
            nonce,
            _room: room,
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

    /// Stores an intent once more as it is: only a node that may still write can.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn rewrite(&self, storage: &dyn Storage, nonce: &Nonce) -> Result<(), StorageError> {
        self.log.amend(storage, nonce.as_str(), |_| ()).await
    }

    /// Whether this instance announced the intent itself, so that it cannot have come from a snapshot.
    pub fn is_own(&self, nonce: &Nonce) -> bool {
        lock(&self.own).contains(nonce)
    }

    /// Every intent, and whether a task of this process is seeing it through.
    pub fn all(&self) -> Vec<(Intent, bool)> {
        let in_flight = lock(&self.in_flight);
        let known = self.log.entries().into_iter();
        known
            .map(|(_, Written { data, .. })| {
                let is_in_flight = in_flight.contains(&data.nonce);
                (data, is_in_flight)
            })
            .collect()
    }

    /// The intents that were announced before that, and whether a task of this process is seeing each
    /// through.
    pub fn announced_before(&self, at: Timestamp) -> Vec<(Intent, bool)> {
        let in_flight = lock(&self.in_flight);
        let known = self.log.entries().into_iter();
        known
            .filter(|(_, written)| written.at < at)
            .map(|(_, Written { data, .. })| {
                let is_in_flight = in_flight.contains(&data.nonce);
                (data, is_in_flight)
            })
            .collect()
    }

    /// The intents that are adrift at a place, and when they were announced.
    pub fn adrift(&self, place: &Place) -> Vec<Written<Intent>> {
        let mut adrift = self.all_adrift();
        adrift.retain(|written| written.data.place == *place);
        adrift
    }

    /// The intents of a role that are adrift.
    pub fn adrift_of(&self, role: &RoleName) -> Vec<Written<Intent>> {
        let mut adrift = self.all_adrift();
        adrift.retain(|written| written.data.role == *role);
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
        let in_flight = lock(&self.in_flight);
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

    /// Strikes an intent out: its key is where it belongs, or gone, or was never made.
    ///
    /// # Errors
    /// When it cannot be removed from storage; it then stays known.
    pub async fn strike(&self, storage: &dyn Storage, nonce: &Nonce) -> Result<(), StorageError> {
        self.log.delete(storage, nonce.as_str()).await?;
        self.looks.forget(nonce);
        lock(&self.own).remove(nonce);
        Ok(())
    }

    /// The entry of an intent was overwritten by something else that leads to the key.
    pub fn taken_over(&self, nonce: &Nonce) {
        self.log.overwritten(nonce.as_str());
        self.looks.forget(nonce);
        lock(&self.own).remove(nonce);
    }

    /// Whether it is still in the log.
    pub fn is_known(&self, nonce: &Nonce) -> bool {
        self.log.entry(nonce.as_str()).is_some()
    }
}

/// An intent whose order is being seen through. Dropping it sets the intent adrift, be it because
/// the task gave up or because it was torn off: whatever is then still in the log is recovered.
pub struct InFlight {
    intents: Arc<Intents>,
    keeper: Arc<Keeper<Task>>,
    nonce: Nonce,
    /// Its room among the keys in the making, and its hold on the connection; given back with it.
    _room: (Making, InUse),
}

impl InFlight {
    /// The nonce that the order bears.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The key is about to be stored in its role's entry. Unless the intent is struck out after that,
    /// nobody looks for the key before it is certain what became of the store.
    pub fn is_being_stored(&self, now: Timestamp) {
        self.intents.looks.store_begins(&self.nonce, now);
    }

    /// Strikes the intent out: its key is where it belongs, or gone, or was never made.
    ///
    /// # Errors
    /// When it cannot be removed from storage; the recovery will do it.
    pub async fn strike(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        self.intents.strike(storage, &self.nonce).await
    }

    /// See [`Intents::reject`].
    ///
    /// # Errors
    /// When it cannot be stored; this process knows it all the same.
    pub async fn reject(&self, storage: &dyn Storage, hash: &KeyHash) -> Result<(), StorageError> {
        self.intents.reject(storage, &self.nonce, hash).await
    }

    /// The intent's entry was overwritten by something else that leads to the key.
    pub fn taken_over(self) {
        self.intents.taken_over(&self.nonce);
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InFlight").field(&self.nonce).finish()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.intents.in_flight).remove(&self.nonce);
        if let Some(written) = self.intents.log.entry(self.nonce.as_str()) {
            self.keeper.now(Task::Recover(written.data.place));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
