//! Comparisons of connections with OpenRouter that are in progress.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::names::{ConnectionName, Place};

/// The comparisons of a mount.
#[derive(Default)]
pub struct Passes {
    // A plain mutex: it is never held across an await.
    begun: Mutex<HashMap<ConnectionName, BegunPass>>,
}

/// A comparison that is in progress.
#[derive(Clone, Debug)]
pub struct BegunPass {
    /// When it began.
    pub at: Timestamp,
    /// When a comparison of all places was last begun.
    pub all_at: Timestamp,
    /// The places that were not compared yet.
    pub left: BTreeSet<Place>,
    /// Whether every role could be read at the last try. If not, some keys were not compared, and some places are
    /// unknown: the next try compares everything.
    pub read_all: bool,
    /// Whether another copy of this storage was seen.
    pub saw_a_copy: bool,
}

impl Passes {
    /// The comparison of a connection that is in progress.
    pub fn of(&self, connection: &ConnectionName) -> Option<BegunPass> {
        self.begun().get(connection).cloned()
    }

    /// Records the progress of a comparison.
    pub fn keep(&self, connection: &ConnectionName, pass: BegunPass) {
        self.begun().insert(connection.clone(), pass);
    }

    /// Removes a completed comparison.
    pub fn end(&self, connection: &ConnectionName) {
        self.begun().remove(connection);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.begun().clear();
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<ConnectionName, BegunPass>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_in_progress_until_it_ends_or_another_node_continues() {
        let (passes, first) = (Passes::default(), ConnectionName::default());
        let second = ConnectionName::parse("second").unwrap();
        let begun = BegunPass {
            at: Timestamp::UNIX_EPOCH,
            all_at: Timestamp::UNIX_EPOCH,
            left: BTreeSet::new(),
            read_all: true,
            saw_a_copy: false,
        };
        let is_begun = |connection| passes.of(connection).is_some();
        for connection in [&first, &second] {
            passes.keep(connection, begun.clone());
        }
        passes.end(&first);
        assert!(!is_begun(&first) && is_begun(&second));
        passes.clear();
        assert!(!is_begun(&second));
    }
}
