//! Entries of roles and runs whose stored content may differ from what is read.
//!
//! A write that reports failure may still be committed, at once or a little later, and the server's cache
//! does not learn of it. As long as this node is the leader, it keeps reading and using the old content,
//! while its successor reads the new content. So such an entry is remembered until both are the same again:
//! see [`RoleGuard::confirm`](crate::engine::context::RoleGuard::confirm) and
//! [`Runs::confirm`](super::Runs::confirm).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::searches::OUTLIVED;
use crate::engine::clock::after;

/// The entries with a write of unknown outcome. Other entries cost nothing.
pub struct Unsure<K> {
    // A plain mutex: it is never held across an await.
    doubts: Mutex<HashMap<K, Doubt>>,
}

/// The doubt about an entry.
#[derive(Clone, Copy, Debug)]
pub struct Doubt {
    /// When the last write with an unknown outcome began.
    pub begun: Timestamp,
    /// Whether a later write has succeeded, so that the content differs only if the earlier one takes effect
    /// after it.
    pub is_overwritten: bool,
}

impl Doubt {
    /// The time from which the write can no longer take effect.
    pub fn certain_at(&self) -> Timestamp {
        after(self.begun, OUTLIVED)
    }
}

impl<K> Default for Unsure<K> {
    fn default() -> Self {
        let doubts = Mutex::default();
        Self { doubts }
    }
}

impl<K: Clone + Eq + Hash> Unsure<K> {
    /// Records that a write begins. Until it succeeds its outcome is unknown: it may fail, or its caller may
    /// be dropped. Returns the previous doubt.
    pub fn store_begins(&self, entry: &K, now: Timestamp) -> Option<Doubt> {
        let doubt = Doubt {
            begun: now,
            is_overwritten: false,
        };
        self.doubts().insert(entry.clone(), doubt)
    }

    /// Records that the write that began at `begun` has succeeded, which overwrites what was in doubt before.
    pub fn store_succeeded(&self, entry: &K, begun: Timestamp, before: Option<Doubt>) {
        let mut doubts = self.doubts();
        match before.filter(|doubt| begun < doubt.certain_at()) {
            None => _ = doubts.remove(entry),
            Some(doubt) => {
                let is_overwritten = true;
                let doubt = Doubt {
                    is_overwritten,
                    ..doubt
                };
                doubts.insert(entry.clone(), doubt);
            }
        }
    }

    /// The doubt about an entry.
    pub fn of(&self, entry: &K) -> Option<Doubt> {
        self.doubts().get(entry).copied()
    }

    /// Every entry in doubt.
    pub fn entries(&self) -> Vec<K> {
        self.doubts().keys().cloned().collect()
    }

    /// Forgets an entry that this node does not have to confirm.
    pub fn forget(&self, entry: &K) {
        self.doubts().remove(entry);
    }

    /// Forgets all doubts.
    pub fn clear(&self) {
        self.doubts().clear();
    }

    fn doubts(&self) -> MutexGuard<'_, HashMap<K, Doubt>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::names::RoleName;

    fn at(second: u64) -> Timestamp {
        after(Timestamp::UNIX_EPOCH, second)
    }

    fn app() -> RoleName {
        RoleName::new("app").unwrap()
    }

    #[test]
    fn a_store_that_succeeds_leaves_no_doubt() {
        let unsure = Unsure::default();
        let before = unsure.store_begins(&app(), at(0));
        assert!(
            unsure.of(&app()).is_some(),
            "nobody may wait for its answer"
        );
        unsure.store_succeeded(&app(), at(0), before);
        assert!(unsure.of(&app()).is_none());
    }

    #[test]
    fn a_store_that_failed_is_in_doubt_until_one_that_cannot_be_overtaken() {
        let unsure = Unsure::default();
        unsure.store_begins(&app(), at(0));
        for (begun, settles) in [(1, false), (OUTLIVED - 1, false), (OUTLIVED, true)] {
            let before = unsure.store_begins(&app(), at(begun));
            unsure.store_succeeded(&app(), at(begun), before);
            let doubt = unsure.of(&app());
            assert_eq!(doubt.is_none(), settles, "{begun}");
            assert!(doubt.is_none_or(|doubt| doubt.is_overwritten));
        }
    }

    #[test]
    fn every_entry_in_doubt_is_known_until_it_is_forgotten() {
        let (unsure, other) = (Unsure::default(), RoleName::new("other").unwrap());
        unsure.store_begins(&app(), at(0));
        unsure.store_begins(&other, at(0));
        assert_eq!(unsure.entries().len(), 2);
        unsure.forget(&app());
        assert_eq!(unsure.entries(), [other]);
        unsure.clear();
        assert_eq!(unsure.entries(), []);
    }

    #[test]
    fn another_failure_is_a_later_doubt() {
        let unsure = Unsure::default();
        unsure.store_begins(&app(), at(0));
        unsure.store_begins(&app(), at(50));
        let doubt = unsure.of(&app()).unwrap();
        assert_eq!(doubt.certain_at(), at(50 + OUTLIVED));
        assert!(!doubt.is_overwritten);
    }
}
