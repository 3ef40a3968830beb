//! Entries that may differ from what is read of them: of roles, and of runs.
//!
//! A store that fails by its answer may have been committed all the same, at once or a little later,
//! and the server's cache does not learn of it: this node goes on reading, and handing out, what was
//! there before, for as long as it is in office. Its successor reads the other. So such an entry is
//! remembered until both are the same again: see [`RoleGuard::confirm`](crate::engine::context::RoleGuard::confirm)
//! and [`Runs::confirm`](super::Runs::confirm).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::looks::OUTLIVED;
use crate::engine::clock::after;

/// The entries that have had a store of unknown outcome, each by what it is of. Those of which none is known cost
/// nothing.
pub struct Unsure<K> {
    // A plain mutex: it is never held across an await.
    doubts: Mutex<HashMap<K, Doubt>>,
}

/// What is unknown of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Doubt {
    /// When the last store of unknown outcome began.
    pub begun: Timestamp,
    /// Whether a store has succeeded since, so that only one that overtakes it could still differ.
    pub is_overwritten: bool,
}

impl Doubt {
    /// From then on the store takes no effect any more that it has not taken.
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
    /// A store begins. Until it has succeeded its outcome is unknown, be it that it fails or that nobody
    /// waits for its answer. Returns what was in doubt before.
    pub fn store_begins(&self, entry: &K, now: Timestamp) -> Option<Doubt> {
        let doubt = Doubt {
            begun: now,
            is_overwritten: false,
        };
        self.doubts().insert(entry.clone(), doubt)
    }

    /// The store that began at `begun` has succeeded: what was in doubt before it is overwritten.
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

    /// What is in doubt of an entry.
    pub fn of(&self, entry: &K) -> Option<Doubt> {
        self.doubts().get(entry).copied()
    }

    /// The entry is not this node's to confirm.
    pub fn forget(&self, entry: &K) {
        self.doubts().remove(entry);
    }

    /// None is.
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
    fn another_failure_is_a_later_doubt() {
        let unsure = Unsure::default();
        unsure.store_begins(&app(), at(0));
        unsure.store_begins(&app(), at(50));
        let doubt = unsure.of(&app()).unwrap();
        assert_eq!(doubt.certain_at(), at(50 + OUTLIVED));
        assert!(!doubt.is_overwritten);
    }
}
