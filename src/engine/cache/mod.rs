//! What readers need of stored entries, cached for a minute at most, so that a read asks the server for
//! nothing.
//!
//! # Who uses it
//! Only reads of a key ([`paths::creds`](super::paths)) take anything from here. To everybody else
//! [`Cache`] is a [`Storage`] like any other: each `get` goes to the server, so whoever changes something
//! decides on what is stored.
//!
//! # Why it is right
//! What [`Cache::cached`] returns was stored when that call was made, unless somebody has changed the entry
//! without this instance's knowledge. Who can change an entry:
//!
//! | who | what becomes of the cached value |
//! |---|---|
//! | this instance | Every write comes by here. The value is dropped before the write begins, and none is kept or used until it has ended |
//! | this instance, by a write that fails | It may happen all the same, even later: its entry is not cached until that is certain ([`IN_DOUBT`]). Or this node is no leader any more: everything is dropped, and nothing cached for as long, or until a later write, of whatever entry, has shown that it is |
//! | another node, whose server tells this one | [`Cache::invalidate`] drops it |
//! | another node, whose server does not; a process of the same mount that was replaced and has a write under way; a write to the server's raw storage | It ages: nobody is told, so it is used for [`LONGEST`] at most |
//! | a restored snapshot, a new leader, a seal, a reload | The server ends the instance: [`Cache::close`]. The next one begins with nothing |
//!
//! Storage writes and deletes one entry at a time, so no other entry can change by a write that fails. A seal
//! ends the instance; where it is under way, writes fail and nothing is cached any more.
//!
//! A reply of storage that was under way while its entry changed is never kept: [`Pending`] remembers how
//! many changes there had been when it was asked for.
//!
//! An entry's age counts from before storage was asked for it, and not from its last reader. It is measured
//! by two clocks, of which one may be set and the other stops with a virtual machine; the older age counts,
//! and a clock that was set back ends it.
//!
//! The promise of a `ttl` holds for a value that nobody was told is old, since
//! [`SharedKey::lifetime`](super::role::rotating::SharedKey::lifetime) is half of what a rotation leaves
//! between the end of a lease and the end of its key.
//!
//! # What it costs
//! At most [`MOST`] values and [`MOST_BYTES`] for a mount; a value that does not fit is not kept. Values
//! are dropped when their time is over by a task that exists only while there are any, so that no secret
//! stays in memory because nobody reads it any more.

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

/// A mount's storage, and what is cached of it.
pub struct Cache<T> {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    // A plain mutex: it is never held across an await.
    values: Arc<Mutex<Values<T>>>,
}

impl<T: Cacheable> Cache<T> {
    /// A cache with nothing in it.
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Self {
        Self {
            storage,
            clock,
            values: Arc::default(),
        }
    }

    /// What was made of the entry under `key`, if it was read a short while ago.
    pub fn cached(&self, key: &str) -> Option<Arc<T>> {
        let now = Moment::of(&*self.clock);
        self.values().get(key, now)
    }

    /// To be called before storage is asked for the entry under `key`, which may be cached then.
    pub fn about_to_read<'a>(&'a self, key: &'a str) -> Pending<'a, T> {
        Pending {
            cache: self,
            key,
            asked: Moment::of(&*self.clock),
            changes: self.values().changes(key),
        }
    }

    /// Somebody else has changed the entry under `key`.
    pub fn invalidate(&self, key: &str) {
        self.values().invalidate(key);
    }

    /// Drops everything: what this node has read may be old.
    pub fn clear(&self) {
        self.values().clear();
    }

    /// Drops everything, and keeps nothing from now on.
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
        // The task that drops old values would otherwise wait until then.
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

/// An entry that storage is being asked for.
#[must_use = "what is read is cached by `keep`"]
pub struct Pending<'a, T> {
    cache: &'a Cache<T>,
    key: &'a str,
    asked: Moment,
    changes: u64,
}

impl<T: Cacheable> Pending<'_, T> {
    /// Caches what was made of the entry that storage returned, unless that has changed meanwhile.
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

/// A write that is under way. However it ends, by being dropped too, the entry may have changed.
struct Writing<'a, T: Cacheable> {
    cache: &'a Cache<T>,
    key: String,
    begun: Begun,
    /// `None` while nobody knows.
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
