//! Serializes what happens to keys that belong to nobody in this mount: a role may adopt such a key, and a
//! person may order its deletion. Only one of these can run at a time, and the other one then sees the
//! result.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::books::OUTLIVED;
use crate::engine::clock::after;
use crate::engine::names::{ConnectionName, RoleName};
use crate::framework::{Held, Locks};
use crate::openrouter::KeyHash;

/// The adoptions of a mount.
#[derive(Default)]
pub struct Adoptions {
    locks: Locks,
    /// Stores that make a key a role's, and whose outcome is unknown. A plain mutex: it is never held across
    /// an await.
    unsure: Mutex<HashMap<KeyHash, Store>>,
}

/// A store that makes a key this role's.
struct Store {
    role: RoleName,
    connection: ConnectionName,
    begun: Timestamp,
}

impl Store {
    /// From when on it can no longer take effect.
    fn certain_at(&self) -> Timestamp {
        after(self.begun, OUTLIVED)
    }
}

impl Adoptions {
    /// The exclusive right to adopt a key, or to end it because it belongs to nobody. A caller that also
    /// needs a role's lock takes that first.
    pub async fn lock(&self, hash: &KeyHash) -> Held {
        self.locks.lock(hash.as_str()).await
    }

    /// Records that a role that adopts the key through this connection is about to be stored. The outcome is
    /// unknown until [`succeeded`](Self::succeeded) is called.
    pub fn store_begins(
        &self,
        hash: &KeyHash,
        role: &RoleName,
        connection: &ConnectionName,
        now: Timestamp,
    ) {
        let mut unsure = self.unsure();
        unsure.retain(|_, store| now < store.certain_at());
        let store = Store {
            role: role.clone(),
            connection: connection.clone(),
            begun: now,
        };
        unsure.insert(hash.clone(), store);
    }

    /// Records that the role is stored.
    pub fn succeeded(&self, hash: &KeyHash) {
        self.unsure().remove(hash);
    }

    /// Until when a store that reported failure may still make the key a role's; `None` if there is no such
    /// store.
    pub fn unsure_until(&self, hash: &KeyHash, now: Timestamp) -> Option<Timestamp> {
        let certain_at = self.unsure().get(hash)?.certain_at();
        Some(certain_at).filter(|certain_at| now < *certain_at)
    }

    /// The same for any role but this one.
    pub fn unsure_for_another(
        &self,
        hash: &KeyHash,
        role: &RoleName,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let is_another = self.unsure().get(hash)?.role != *role;
        self.unsure_until(hash, now).filter(|_| is_another)
    }

    /// Whether a role that adopts a key is being stored, or may still become stored by a write that reported
    /// failure.
    pub fn are_open(&self, now: Timestamp) -> bool {
        let unsure = self.unsure();
        unsure.values().any(|store| now < store.certain_at())
    }

    /// The roles that adopt a key through this connection and are being stored, or may still become stored.
    pub fn open_through(&self, connection: &ConnectionName, now: Timestamp) -> Vec<RoleName> {
        let unsure = self.unsure();
        let open = unsure.values().filter(|store| now < store.certain_at());
        let open = open.filter(|store| store.connection == *connection);
        open.map(|store| store.role.clone()).collect()
    }

    fn unsure(&self) -> MutexGuard<'_, HashMap<KeyHash, Store>> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
