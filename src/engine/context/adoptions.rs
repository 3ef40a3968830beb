//! Serializes what happens to keys that belong to nobody in this mount: a role may adopt such a key, and a
//! person may order its deletion. Only one of these can run at a time, and the other one then sees the
//! result.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::books::OUTLIVED;
use crate::engine::clock::after;
use crate::framework::{Held, Locks};
use crate::openrouter::KeyHash;

/// The adoptions of a mount.
#[derive(Default)]
pub struct Adoptions {
    locks: Locks,
    /// When a store began that makes the key a role's, and whose outcome is unknown. A plain mutex: it is
    /// never held across an await.
    unsure: Mutex<HashMap<KeyHash, Timestamp>>,
}

impl Adoptions {
    /// The exclusive right to adopt a key, or to end it because it belongs to nobody. A caller that also
    /// needs a role's lock takes that first.
    pub async fn lock(&self, hash: &KeyHash) -> Held {
        self.locks.lock(hash.as_str()).await
    }

    /// Records that a role that adopts the key is about to be stored. The outcome is unknown until
    /// [`succeeded`](Self::succeeded) is called.
    pub fn store_begins(&self, hash: &KeyHash, now: Timestamp) {
        let mut unsure = self.unsure();
        unsure.retain(|_, begun| now < after(*begun, OUTLIVED));
        unsure.insert(hash.clone(), now);
    }

    /// Records that the role is stored.
    pub fn succeeded(&self, hash: &KeyHash) {
        self.unsure().remove(hash);
    }

    /// Until when a store that reported failure may still make the key a role's; `None` if there is no such
    /// store.
    pub fn unsure_until(&self, hash: &KeyHash, now: Timestamp) -> Option<Timestamp> {
        let begun = self.unsure().get(hash).copied()?;
        Some(after(begun, OUTLIVED)).filter(|certain_at| now < *certain_at)
    }

    /// Whether a role that adopts a key is being stored, or may still become stored by a write that reported
    /// failure.
    pub fn are_open(&self, now: Timestamp) -> bool {
        let unsure = self.unsure();
        let mut begun = unsure.values();
        begun.any(|begun| now < after(*begun, OUTLIVED))
    }

    fn unsure(&self) -> MutexGuard<'_, HashMap<KeyHash, Timestamp>> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
