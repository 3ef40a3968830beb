//! A write-ahead log in the mount's storage: what is about to happen in the outside world is
//! written down first, so that whoever finds it there after a crash can put things right.
//!
//! The format is that of Vault's Go SDK (`wal/<id>` holding kind, data and time), but the log
//! remembers what it wrote: once read, an idle log costs no storage call. Go's framework reads the
//! whole log every minute, inside the server's periodic call and under its state lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::logical::{Entry, Storage, StorageError};

/// Where the entries are, for the special paths.
pub const PREFIX: &str = "wal/";

/// The log of one kind of entry.
pub struct Log<T> {
    kind: &'static str,
    version: u32,
    // A plain mutex: it is never held across an await.
    known: Mutex<Known<T>>,
}

struct Known<T> {
    entries: BTreeMap<String, Written<T>>,
    /// What was struck out while a [`Log::load`] is under way, which may have read it before.
    struck: Option<BTreeSet<String>>,
}

impl<T> Known<T> {
    fn strike(&mut self, id: &str) {
        self.entries.remove(id);
        if let Some(struck) = &mut self.struck {
            struck.insert(id.to_owned());
        }
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            struck: None,
        }
    }
}

/// An entry, and when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written<T> {
    /// What is about to happen, or may have happened.
    pub data: T,
    /// When it was written.
    pub at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "first_version")]
    version: u32,
    data: T,
    created_at: i64,
}

/// Of entries that were written before entries had versions.
fn first_version() -> u32 {
    1
}

/// Reads what earlier processes left, each entry into the log of its kind. Entries of other kinds are
/// skipped; unreadable ones are skipped and named in the result. What this process does to the logs
/// meanwhile stays done. One load at a time.
///
/// # Errors
/// When storage cannot be read.
pub async fn load(
    storage: &dyn Storage,
    logs: &[&dyn Kind],
) -> Result<Vec<StorageError>, StorageError> {
    logs.iter().for_each(|log| log.begin_load());
    let loaded = load_entries(storage, logs).await;
    logs.iter().for_each(|log| log.end_load());
    loaded
}

async fn load_entries(
    storage: &dyn Storage,
    logs: &[&dyn Kind],
) -> Result<Vec<StorageError>, StorageError> {
    let mut unreadable = Vec::new();
    for id in storage.list(PREFIX).await? {
        let key = format!("{PREFIX}{id}");
        let Some(value) = storage.get(&key).await? else {
            continue;
        };
        let discovered = Entry::parse(&key, &value).and_then(|stored: Stored<Value>| {
            match logs.iter().find(|log| log.kind() == stored.kind) {
                Some(log) if stored.version > log.version() => Err(StorageError::Malformed {
                    key: key.clone(),
                    reason: format!("it is of a newer version of its kind, {}", stored.version),
                }),
                Some(log) => log.discover(&id, stored.data, stored.created_at),
                None => Ok(()),
            }
        });
        unreadable.extend(discovered.err());
    }
    Ok(unreadable)
}

/// A log of whatever kind, as [`load`] fills it.
pub trait Kind: Send + Sync {
    /// What its entries are called.
    fn kind(&self) -> &'static str;

    /// The newest version of them that can be read.
    fn version(&self) -> u32;

    /// From now on it is remembered what is struck out.
    fn begin_load(&self);

    /// An entry was read: an older word than what this process wrote or struck out since.
    ///
    /// # Errors
    /// [`StorageError::Malformed`] when the data is not of this kind.
    fn discover(&self, id: &str, data: Value, created_at: i64) -> Result<(), StorageError>;

    /// Everything is read.
    fn end_load(&self);
}

impl<T: DeserializeOwned + Send> Kind for Log<T> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn begin_load(&self) {
        self.known().struck = Some(BTreeSet::new());
    }

    fn discover(&self, id: &str, data: Value, created_at: i64) -> Result<(), StorageError> {
        let data = serde_json::from_value(data).map_err(|reason| StorageError::Malformed {
            key: format!("{PREFIX}{id}"),
            reason: reason.to_string(),
        })?;
        let mut known = self.known();
        if !known.struck.as_ref().is_some_and(|ids| ids.contains(id)) {
            let written = Written::new(data, created_at);
            known.entries.entry(id.to_owned()).or_insert(written);
        }
        Ok(())
    }

    fn end_load(&self) {
        self.known().struck = None;
    }
}

impl<T: Clone + Serialize + DeserializeOwned> Log<T> {
    /// A log of entries called `kind`, in this version, of which nothing is known yet. The version is
    /// raised when an older build would lose a field.
    pub fn new(kind: &'static str, version: u32) -> Self {
        Self {
            kind,
            version,
            known: Mutex::default(),
        }
    }

    /// Writes an entry down. Once this has returned `Ok`, whoever comes next will find it; if it
    /// fails or never returns, the entry may or may not be there, and nothing must be done yet. On
    /// a node that may not write it is certainly not there.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn put(
        &self,
        storage: &dyn Storage,
        id: &str,
        data: T,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let entry = self.form(id, &data, now)?;
        // Known before it is stored: if the reply is lost it may be there all the same.
        self.remember(id, data, now);
        let put = storage.put(entry).await;
        if put == Err(StorageError::ReadOnly) {
            self.known().entries.remove(id);
        }
        put
    }

    /// Writes an entry anew, changed; its time stays. Does nothing if there is none.
    ///
    /// # Errors
    /// When it cannot be stored: storage then has the entry before or after the change, and this
    /// process knows it after.
    pub async fn amend(
        &self,
        storage: &dyn Storage,
        id: &str,
        change: impl FnOnce(&mut T),
    ) -> Result<(), StorageError> {
        let changed = self.known().entries.get_mut(id).map(|written| {
            change(&mut written.data);
            written.clone()
        });
        let Some(Written { data, at }) = changed else {
            return Ok(());
        };
        storage.put(self.form(id, &data, at)?).await
    }

    /// Writes an entry in the place of one that is there, of this kind or another. If that fails it is
    /// not known here, and whatever was there before is what holds.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn overwrite(
        &self,
        storage: &dyn Storage,
        id: &str,
        data: T,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        storage.put(self.form(id, &data, now)?).await?;
        self.remember(id, data, now);
        Ok(())
    }

    /// Forgets an entry that was overwritten by one of another kind. No storage call.
    pub fn overwritten(&self, id: &str) {
        self.known().strike(id);
    }

    /// Forgets what is known but for the entries that are to be kept. No storage call: [`load`] reads
    /// the rest again.
    pub fn forget(&self, is_kept: impl Fn(&str) -> bool) {
        self.known().entries.retain(|id, _| is_kept(id));
    }

    /// How many of the known entries are such. No storage call.
    pub fn count(&self, is_such: impl Fn(&T) -> bool) -> usize {
        let known = self.known();
        let such = known.entries.values();
        such.filter(|written| is_such(&written.data)).count()
    }

    /// Strikes an entry out: what it announced is done, or undone.
    ///
    /// # Errors
    /// When it cannot be removed; it is then still known, and can be struck out later.
    pub async fn delete(&self, storage: &dyn Storage, id: &str) -> Result<(), StorageError> {
        storage.delete(&format!("{PREFIX}{id}")).await?;
        self.known().strike(id);
        Ok(())
    }

    /// Every entry that is known, by id. No storage call.
    pub fn entries(&self) -> Vec<(String, Written<T>)> {
        self.known()
            .entries
            .iter()
            .map(|(id, written)| (id.clone(), written.clone()))
            .collect()
    }

    /// One entry, if it is known. No storage call.
    pub fn entry(&self, id: &str) -> Option<Written<T>> {
        self.known().entries.get(id).cloned()
    }

    fn remember(&self, id: &str, data: T, now: Timestamp) {
        let written = Written::new(data, now.as_second());
        self.known().entries.insert(id.to_owned(), written);
    }

    /// An entry as it is stored.
    fn form(&self, id: &str, data: &T, at: Timestamp) -> Result<Entry, StorageError> {
        let stored = Stored {
            kind: self.kind.to_owned(),
            version: self.version,
            data,
            created_at: at.as_second(),
        };
        Entry::json(format!("{PREFIX}{id}"), &stored)
    }
}

impl<T> Log<T> {
    fn known(&self) -> std::sync::MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Written<T> {
    fn new(data: T, created_at: i64) -> Self {
        let at = Timestamp::from_second(created_at).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { data, at }
    }
}

#[cfg(test)]
mod tests;
