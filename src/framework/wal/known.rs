//! The entries that a log keeps in memory, and what is kept up to date about all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::Written;

/// What is kept up to date about all entries of a log, so that nobody has to go through them.
pub trait Summary<T>: Default + Send {
    /// An entry is known from now on.
    fn add(&mut self, data: &T);

    /// An entry that was added is no longer known.
    fn remove(&mut self, data: &T);
}

impl<T> Summary<T> for () {
    fn add(&mut self, _: &T) {}
    fn remove(&mut self, _: &T) {}
}

pub(super) struct Known<T, S> {
    pub(super) entries: BTreeMap<String, Written<T>>,
    pub(super) summary: S,
    /// The ids removed during a [`load`](super::load), which may have read them earlier.
    pub(super) removed: Option<BTreeSet<String>>,
}

impl<T, S: Summary<T>> Known<T, S> {
    pub(super) fn insert(&mut self, id: &str, written: Written<T>) {
        self.summary.add(&written.data);
        if let Some(before) = self.entries.insert(id.to_owned(), written) {
            self.summary.remove(&before.data);
        }
    }

    /// A load in progress may still read it.
    pub(super) fn forget(&mut self, id: &str) {
        if let Some(before) = self.entries.remove(id) {
            self.summary.remove(&before.data);
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.forget(id);
        if let Some(removed) = &mut self.removed {
            removed.insert(id.to_owned());
        }
    }

    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut T)) -> Option<&Written<T>> {
        let written = self.entries.get_mut(id)?;
        self.summary.remove(&written.data);
        change(&mut written.data);
        self.summary.add(&written.data);
        Some(written)
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        let Self {
            entries, summary, ..
        } = self;
        entries.retain(|id, written| {
            let is_kept = is_kept(id);
            if !is_kept {
                summary.remove(&written.data);
            }
            is_kept
        });
    }
}

impl<T, S: Default> Default for Known<T, S> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            summary: S::default(),
            removed: None,
        }
    }
}
