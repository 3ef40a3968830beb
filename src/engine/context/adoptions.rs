//! Whose a key becomes that nobody of this mount has: a role may adopt it, and a person may order that it be
//! ended. One of the two at a time, and the other then sees what came of it.

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
    /// When a store began that makes the key a role's, and of which it is not known whether it did. A plain
    /// mutex: it is never held across an await.
    unsure: Mutex<HashMap<KeyHash, Timestamp>>,
}

impl Adoptions {
    /// The sole right to adopt a key, or to end it because nobody has it. Whoever needs the lock of a role too
    /// takes that first.
    pub async fn lock(&self, hash: &KeyHash) -> Held {
        self.locks.lock(hash.as_str()).await
    }

    /// A role that adopts the key is about to be stored. Until that has [succeeded](Self::succeeded), its outcome is
    /// unknown.
    pub fn store_begins(&self, hash: &KeyHash, now: Timestamp) {
        let mut unsure = self.unsure();
        unsure.retain(|_, begun| now < after(*begun, OUTLIVED));
        unsure.insert(hash.clone(), now);
    }

    /// The role is stored.
    pub fn succeeded(&self, hash: &KeyHash) {
        self.unsure().remove(hash);
    }

    /// Until when a role may come to have the key by a store that failed by its answer; `None` when there is no
    /// such store.
    pub fn unsure_until(&self, hash: &KeyHash, now: Timestamp) -> Option<Timestamp> {
        let begun = self.unsure().get(hash).copied()?;
        Some(after(begun, OUTLIVED)).filter(|certain_at| now < *certain_at)
    }

    fn unsure(&self) -> MutexGuard<'_, HashMap<KeyHash, Timestamp>> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
