//! Intents: what is stored before a key is ordered, and who may act on it.
//!
//! An intent is *in flight* while a task of this process is completing its order. Otherwise it is *adrift*:
//! its task has died, or does not know the outcome of the order. Only intents that are adrift are recovered
//! (see [`keys`](crate::engine::keys)).

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::searches::Searches;
use crate::engine::connection::{InUse, Making};
use crate::engine::keeper::Keeper;
use crate::engine::names::{Nonce, Place, RoleName};
use crate::engine::role::budget::Amount;
use crate::engine::task::Task;
use crate::framework::wal::{self, Log, Written};
use crate::logical::{Storage, StorageError};
use crate::openrouter::KeyHash;

/// The purpose of a key. It decides how the key is proved and where it may be in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The key of this version, to be stored in its role's entry. Once it is stored there, deleting its
    /// intent may fail without harm: the recovery checks the entry first.
    Rotation {
        /// The version of the role's key.
        version: u64,
    },
    /// A key to be handed out under its own lease. No role's entry contains it, and the recovery deletes
    /// every key that it finds. So the key may be handed out only after the record of the lease has replaced
    /// the intent, see [`InFlight::taken_over`].
    Lease,
}

/// An order for a key that is about to be sent, or may have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The end of the key's name.
    pub nonce: Nonce,
    /// The role.
    pub role: RoleName,
    /// The purpose.
    pub purpose: Purpose,
    /// The full name of the key, for people.
    pub key_name: String,
    /// The place.
    #[serde(flatten)]
    pub place: Place,
    /// How long someone may use the key if this process does not know the outcome of its order, in seconds: a
    /// role's grace period, or a lease's `ttl`. `None` for an intent of the first stored format.
    #[serde(default)]
    pub in_use: Option<u64>,
    /// The hash of the key, once OpenRouter's answer has shown that the key must not be used. The hash
    /// identifies the key wherever OpenRouter made it, and under any name.
    pub rejected: Option<KeyHash>,
    /// What the key of a lease takes out of its role's budget. The stored version is unchanged: builds that
    /// would lose this field cannot read roles with a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Amount>,
}

/// Every intent of a mount.
pub struct Intents {
    log: Log<Intent>,
    // Plain mutexes: neither is ever held across an await.
    in_flight: Mutex<HashSet<Nonce>>,
    /// Intents that this instance announced itself, which cannot come from a snapshot.
    own: Mutex<HashSet<Nonce>>,
    /// The results of searches for intents that are adrift.
    pub searches: Searches,
}

impl Default for Intents {
    fn default() -> Self {
        Self {
            log: Log::new("create-key", 2),
            in_flight: Mutex::default(),
            own: Mutex::default(),
            searches: Searches::default(),
        }
    }
}

impl Intents {
    /// The log into which the entries of earlier processes are loaded.
    pub(super) fn log(&self) -> &dyn wal::Kind {
        &self.log
    }

    /// Forgets the intents that are not in flight in this process.
    pub(super) fn forget_adrift(&self) {
        let in_flight = lock(&self.in_flight);
        let is_in_flight = |id: &str| in_flight.iter().any(|nonce| nonce.as_str() == id);
        self.log.forget(is_in_flight);
    }

    /// Stores an intent. It is in flight while the result lives. The key may be ordered only after this has
    /// returned `Ok`.
    ///
    /// # Errors
    /// If it cannot be stored.
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

    /// Stores with an intent that its key was made and must not be used.
    ///
    /// # Errors
    /// If it cannot be stored; this process remembers it anyway.
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

    /// Rewrites an intent unchanged, which only a node that may write can do.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub async fn rewrite(&self, storage: &dyn Storage, nonce: &Nonce) -> Result<(), StorageError> {
        self.log.amend(storage, nonce.as_str(), |_| ()).await
    }

    /// Whether this instance announced the intent itself, so that it cannot have come from a snapshot.
    pub fn is_own(&self, nonce: &Nonce) -> bool {
        lock(&self.own).contains(nonce)
    }

    /// Every intent, and whether it is in flight in this process.
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

    /// The intents that were announced before `at`, and whether each is in flight in this process.
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

    /// The intents that are adrift at a place, with the time when each was announced.
    pub fn adrift(&self, place: &Place) -> Vec<Written<Intent>> {
        self.adrift_where(|intent| intent.place == *place)
    }

    /// The intents of a role that are adrift.
    pub fn adrift_of(&self, role: &RoleName) -> Vec<Written<Intent>> {
        self.adrift_where(|intent| intent.role == *role)
    }

    /// The places with intents that are adrift.
    pub fn places_adrift(&self) -> BTreeSet<Place> {
        let adrift = self.adrift_where(|_| true).into_iter();
        adrift.map(|written| written.data.place).collect()
    }

    fn adrift_where(&self, matches: impl Fn(&Intent) -> bool) -> Vec<Written<Intent>> {
        // Locked while the log is read. Otherwise an intent that is deleted and released in between, whose
        // key is in service, would appear to be adrift.
        let in_flight = lock(&self.in_flight);
        self.log
            .matching(|intent| !in_flight.contains(&intent.nonce) && matches(intent))
    }

    /// When the next search at a place is due; `None` if nothing is adrift there.
    pub fn next_search(&self, place: &Place, now: Timestamp) -> Option<Timestamp> {
        let adrift = self.adrift(place);
        let next = adrift
            .iter()
            .map(|written| self.searches.of(&written.data.nonce).next)
            .min()?;
        Some(next.max(self.searches.rested(place, now)))
    }

    /// Deletes an intent: its key is in service, or gone, or was never made.
    ///
    /// # Errors
    /// If it cannot be removed from storage; it then stays known.
    pub async fn delete(&self, storage: &dyn Storage, nonce: &Nonce) -> Result<(), StorageError> {
        self.log.delete(storage, nonce.as_str()).await?;
        self.searches.forget(nonce);
        lock(&self.own).remove(nonce);
        Ok(())
    }

    /// Forgets an intent whose entry was overwritten by something else that leads to the key.
    pub fn taken_over(&self, nonce: &Nonce) {
        self.log.overwritten(nonce.as_str());
        self.searches.forget(nonce);
        lock(&self.own).remove(nonce);
    }

    /// Whether the intent is still in the log.
    pub fn is_known(&self, nonce: &Nonce) -> bool {
        self.log.entry(nonce.as_str()).is_some()
    }
}

/// An intent in flight. Dropping it sets the intent adrift, whether the task gave up or was aborted. If the
/// intent is still in the log then, it is recovered.
pub struct InFlight {
    intents: Arc<Intents>,
    keeper: Arc<Keeper<Task>>,
    nonce: Nonce,
    /// Its place among the keys being made, and its use of the connection; released with it.
    _room: (Making, InUse),
}

impl InFlight {
    /// The nonce in the order.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Records that the key is about to be stored in its role's entry. Unless the intent is deleted
    /// afterwards, the recovery ignores the key until the outcome of that store is certain.
    pub fn is_being_stored(&self, now: Timestamp) {
        self.intents.searches.store_begins(&self.nonce, now);
    }

    /// Deletes the intent: its key is in service, or gone, or was never made.
    ///
    /// # Errors
    /// If it cannot be removed from storage; the recovery deletes it later.
    pub async fn delete(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        self.intents.delete(storage, &self.nonce).await
    }

    /// See [`Intents::reject`].
    ///
    /// # Errors
    /// If it cannot be stored; this process remembers it anyway.
    pub async fn reject(&self, storage: &dyn Storage, hash: &KeyHash) -> Result<(), StorageError> {
        self.intents.reject(storage, &self.nonce, hash).await
    }

    /// Records that the intent's entry was overwritten by something else that leads to the key.
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

#[cfg(test)]
mod tests;
