//! Caches what readers need of stored entries for at most one minute, so that most reads make no storage
//! call.
//!
//! # Who uses it
//! Only reads of a key ([`paths::creds`](super::paths)) use cached values. For everything else [`Cache`] is a
//! plain [`Storage`]: each `get` goes to the server, so that changes are decided on what is stored.
//!
//! # Why it is correct
//! A value that [`Cache::cached`] returns was stored at the time of the call, unless the entry was changed
//! without this instance's knowledge. Who can change an entry:
//!
//! | who | what happens to the cached value |
//! |---|---|
//! | this instance | Every write goes through this cache. The value is dropped before the write begins, and
//! none is kept or used until it has ended |
//! | this instance, by a write that the server refuses, because the node is read-only | Nothing was written. But
//! the node may have been the leader when it read, and is not any more: everything is dropped |
//! | this instance, by a write that fails | The write may still take effect later, so its entry is not cached
//! until the outcome is certain ([`IN_DOUBT`]). Also, this node may no longer be the leader: everything is
//! dropped, and nothing is cached for that time, or until a later write of any entry has succeeded |
//! | another node, whose server tells this one | [`Cache::invalidate`] drops it |
//! | another node, whose server does not tell this one; a replaced process of the same mount with a write in
//! flight; a write to the server's raw storage; a snapshot that is restored or installed while this node is a
//! standby of OpenBao, which serves reads | No one is told, so the value is used for at most [`LONGEST`] |
//! | a snapshot that is restored on this node, a new leader, a seal, a reload | The server ends the instance:
//! [`Cache::close`]. The next instance starts with an empty cache |
//!
//! Storage writes and deletes one entry at a time, so a failed write cannot change any other entry.
//!
//! If an entry changes while storage is being read, the result is not kept: [`Pending`] remembers the number
//! of changes at the start of the read.
//!
//! An entry's age counts from before storage was read, not from its last use. It is measured by two clocks:
//! one may be set, and the other stops when a virtual machine is paused. The higher age counts, and a clock
//! that was set back ends the entry. If a virtual machine is paused and its time is set only later, neither
//! clock shows the pause at first: a leader that was deposed meanwhile uses a value for the rest of its minute.
//!
//! The promise of a `ttl` also holds for a value that has become stale without notice:
//! [`SharedKey::lifetime`](super::role::rotating::SharedKey::lifetime) is half of what a rotation leaves
//! between the end of a lease and the end of its key.
//!
//! # What it costs
//! A mount caches at most [`MAX_VALUES`] values and [`MAX_BYTES`] bytes. A value that does not fit is not kept.
//! The number of mounts of a process is not limited. A task drops expired values, and exists only while there
//! are values. So a secret is dropped a minute after it was read from storage, even if nobody reads it again.

mod sweep;
#[cfg(test)]
mod tests;
mod values;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::clock::Clock;
use crate::logical::{Entry, Storage, StorageError};
use values::{Begun, Ended, Moment, Values};

pub use values::Cacheable;

/// A mount's storage with a cache.
pub struct Cache<T> {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    // A plain mutex: it is never held across an await.
    values: Arc<Mutex<Values<T>>>,
}

impl<T: Cacheable> Cache<T> {
    /// An empty cache.
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Self {
        Self {
            storage,
            clock,
            values: Arc::default(),
        }
    }

    /// The value made from the entry under `key`, if it was read recently.
    pub fn cached(&self, key: &str) -> Option<Arc<T>> {
        let now = Moment::of(&*self.clock);
        self.values().get(key, now)
    }

    /// Must be called before the entry under `key` is read from storage to be cached.
    pub fn about_to_read<'a>(&'a self, key: &'a str) -> Pending<'a, T> {
        Pending {
            cache: self,
            key,
            asked: Moment::of(&*self.clock),
            changes: self.values().changes(key),
        }
    }

    /// Drops the value under `key`, which was changed elsewhere.
    pub fn invalidate(&self, key: &str) {
        self.values().invalidate(key);
    }

    /// Drops everything, since what this node has read may be stale.
    pub fn clear(&self) {
        self.values().clear();
    }

    /// Drops everything, and caches nothing from now on.
    pub fn close(&self) {
        self.values().close();
    }

    fn values(&self) -> MutexGuard<'_, Values<T>> {
        lock(&self.values)
    }

    fn begin_write(&self, key: &str) -> Writing<'_, T> {
        let begun = self.values().begin_write(key);
        Writing {
            cache: self,
            key: key.to_owned(),
            begun,
            ended: None,
        }
    }
}

impl<T> Drop for Cache<T> {
    fn drop(&mut self) {
        // Otherwise the task that drops expired values would wait until its next sweep.
        lock(&self.values).end_sweep();
    }
}

#[async_trait]
impl<T: Cacheable> Storage for Cache<T> {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.storage.get(key).await
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        let writing = self.begin_write(&entry.key);
        writing.end(self.storage.put(entry).await)
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let writing = self.begin_write(key);
        writing.end(self.storage.delete(key).await)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.storage.list(prefix).await
    }
}

/// A read of an entry that is in progress.
#[must_use = "what is read is cached by `keep`"]
pub struct Pending<'a, T> {
    cache: &'a Cache<T>,
    key: &'a str,
    asked: Moment,
    changes: u64,
}

impl<T: Cacheable> Pending<'_, T> {
    /// Caches the value made from the entry that storage returned, unless the entry has changed in the
    /// meantime.
    pub fn keep(self, value: &Arc<T>) {
        let Self {
            cache,
            key,
            asked,
            changes,
        } = self;
        let now = Moment::of(&*cache.clock);
        let mut values = cache.values();
        if values.keep(key, value, (asked, now), changes) {
            values.sweep_with(|| sweep::begin(&cache.values, &cache.clock));
        }
    }
}

/// A write in progress. However it ends, even by being dropped, the entry may have changed.
struct Writing<'a, T: Cacheable> {
    cache: &'a Cache<T>,
    key: String,
    begun: Begun,
    /// `None` while the outcome is unknown.
    ended: Option<Ended>,
}

impl<T: Cacheable> Writing<'_, T> {
    fn end(mut self, outcome: Result<(), StorageError>) -> Result<(), StorageError> {
        self.ended = match outcome {
            Ok(()) => Some(Ended::Written),
            // A node that may not write has written nothing.
            Err(StorageError::ReadOnly) => Some(Ended::Refused),
            Err(_) => None,
        };
        outcome
    }
}

impl<T: Cacheable> Drop for Writing<'_, T> {
    fn drop(&mut self) {
        let now = Moment::of(&*self.cache.clock);
        let ended = self.ended.unwrap_or(Ended::Unknown(now));
        let mut values = self.cache.values();
        values.end_write(&self.key, self.begun, ended);
    }
}

fn lock<T>(values: &Mutex<Values<T>>) -> MutexGuard<'_, Values<T>> {
    values.lock().unwrap_or_else(PoisonError::into_inner)
}
