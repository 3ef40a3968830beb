//! Comparisons of connections with OpenRouter that have begun and are not over.

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

/// A comparison that has begun.
#[derive(Clone, Debug)]
pub struct BegunPass {
    /// When.
    pub at: Timestamp,
    /// When all places were last to be compared.
    pub all_at: Timestamp,
    /// Where nothing was compared yet.
    pub left: BTreeSet<Place>,
    /// Whether another copy of this storage was seen.
    pub saw_a_copy: bool,
}

impl Passes {
    /// The comparison of a connection that has begun.
    pub fn of(&self, connection: &ConnectionName) -> Option<BegunPass> {
        self.begun().get(connection).cloned()
    }

    /// A comparison has got so far.
    pub fn keep(&self, connection: &ConnectionName, pass: BegunPass) {
        self.begun().insert(connection.clone(), pass);
    }

    /// A comparison is over.
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
