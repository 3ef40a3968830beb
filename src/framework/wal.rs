//! A write-ahead log in the mount's storage. An entry is stored before the engine acts on the outside
//! world, so that recovery finds it after a crash.
//!
//! The format is that of Vault's Go SDK (`wal/<id>` with kind, data and time). Unlike the SDK's, this
//! log keeps its entries in memory: once loaded, an idle log makes no storage calls. Go's framework
//! reads the whole log every minute, in the server's periodic call and under its state lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::logical::{Entry, Storage, StorageError};

mod known;

use known::Known;
pub use known::Summary;

/// The storage prefix of the entries, for the special paths.
pub const PREFIX: &str = "wal/";

/// The log of one kind of entry, with a [summary](Summary) of them if one is needed.
pub struct Log<T, S = ()> {
    kind: &'static str,
    version: u32,
    // A plain mutex: it is never held across an await.
    known: Mutex<Known<T, S>>,
}

/// An entry and the time when it was written.
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

/// The version of entries that were written before entries had versions.
fn first_version() -> u32 {
    1
}

/// Loads the entries of earlier processes, each into the log of its kind. Entries of other kinds are
/// skipped; unreadable ones are skipped and returned. Changes that this process makes to the logs
/// during the load are kept. Only one load may run at a time.
///
/// # Errors
/// If storage cannot be read.
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
                    reason: format!("version {} is newer than this plugin's", stored.version),
                }),
                Some(log) => log.discover(&id, stored.data, stored.created_at),
                None => Ok(()),
            }
        });
        unreadable.extend(discovered.err());
    }
    Ok(unreadable)
}

/// A log of any kind, as [`load`] fills it.
pub trait Kind: Send + Sync {
    /// The kind of its entries.
    fn kind(&self) -> &'static str;

    /// The newest version that can be read.
    fn version(&self) -> u32;

    /// Starts recording which entries are removed.
    fn begin_load(&self);

    /// An entry was read. It is older than anything that this process has written or removed.
    ///
    /// # Errors
    /// [`StorageError::Malformed`] if the data is not of this kind.
    fn discover(&self, id: &str, data: Value, created_at: i64) -> Result<(), StorageError>;

    /// The load is complete.
    fn end_load(&self);
}

impl<T: DeserializeOwned + Send, S: Summary<T>> Kind for Log<T, S> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn begin_load(&self) {
        self.known().removed = Some(BTreeSet::new());
    }

    fn discover(&self, id: &str, data: Value, created_at: i64) -> Result<(), StorageError> {
        let data = serde_json::from_value(data).map_err(|reason| StorageError::Malformed {
            key: format!("{PREFIX}{id}"),
            reason: reason.to_string(),
        })?;
        let mut known = self.known();
        let is_removed = known.removed.as_ref().is_some_and(|ids| ids.contains(id));
        if !is_removed && !known.entries.contains_key(id) {
            known.insert(id, Written::new(data, created_at));
        }
        Ok(())
    }

    fn end_load(&self) {
        self.known().removed = None;
    }
}

impl<T: Clone + Serialize + DeserializeOwned, S: Summary<T>> Log<T, S> {
    /// An empty log of entries of `kind`, in this version. Raise the version if an older build would
    /// lose a field.
    pub fn new(kind: &'static str, version: u32) -> Self {
        Self {
            kind,
            version,
            known: Mutex::default(),
        }
    }

    /// Writes an entry. After `Ok`, any later process will find it. If it fails or never returns, the
    /// entry may or may not be stored, and the caller must not act yet. On a node that may not write,
    /// it is certainly not stored.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub async fn put(
        &self,
        storage: &dyn Storage,
        id: &str,
        data: T,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let entry = self.form(id, &data, now)?;
        // Remembered before it is stored: if the reply is lost, it may be stored nevertheless.
        self.remember(id, data, now);
        let put = storage.put(entry).await;
        if put == Err(StorageError::ReadOnly) {
            self.known().forget(id);
        }
        put
    }

    /// Replaces the data of an entry and keeps its time. Does nothing if there is no such entry.
    ///
    /// # Errors
    /// If it cannot be stored. Storage then has the entry before or after the change; this process
    /// keeps the changed one.
    pub async fn amend(
        &self,
        storage: &dyn Storage,
        id: &str,
        change: impl FnOnce(&mut T),
    ) -> Result<(), StorageError> {
        let changed = self.known().change(id, change).cloned();
        let Some(Written { data, at }) = changed else {
            return Ok(());
        };
        storage.put(self.form(id, &data, at)?).await
    }

    /// Writes an entry over an existing one, of this kind or another. If that fails, this log does not
    /// know the entry, and the previous one remains valid.
    ///
    /// # Errors
    /// If it cannot be stored.
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

    /// Forgets an entry that was overwritten with another kind. Makes no storage call.
    pub fn overwritten(&self, id: &str) {
        self.known().remove(id);
    }

    /// Forgets all entries but those to keep. Makes no storage call: [`load`] reads the others again.
    pub fn forget(&self, is_kept: impl Fn(&str) -> bool) {
        self.known().retain(is_kept);
    }

    /// How many entries match. Makes no storage call.
    pub fn count(&self, matches: impl Fn(&T) -> bool) -> usize {
        let known = self.known();
        let entries = known.entries.values();
        entries.filter(|written| matches(&written.data)).count()
    }

    /// The entries that match. Makes no storage call.
    pub fn matching(&self, matches: impl Fn(&T) -> bool) -> Vec<Written<T>> {
        let known = self.known();
        let entries = known.entries.values();
        let matching = entries.filter(|written| matches(&written.data));
        matching.cloned().collect()
    }

    /// Shows the summary and single entries by id, all at the same moment. Makes no storage call.
    pub fn inspect<R>(&self, inspect: impl FnOnce(&S, &BTreeMap<String, Written<T>>) -> R) -> R {
        let known = self.known();
        inspect(&known.summary, &known.entries)
    }

    /// Removes an entry: the announced action is complete, or undone.
    ///
    /// # Errors
    /// If it cannot be removed. It then stays in the log and can be removed later.
    pub async fn delete(&self, storage: &dyn Storage, id: &str) -> Result<(), StorageError> {
        storage.delete(&format!("{PREFIX}{id}")).await?;
        self.known().remove(id);
        Ok(())
    }

    /// Every known entry, by id. Makes no storage call.
    pub fn entries(&self) -> Vec<(String, Written<T>)> {
        self.known()
            .entries
            .iter()
            .map(|(id, written)| (id.clone(), written.clone()))
            .collect()
    }

    /// One entry, if it is known. Makes no storage call.
    pub fn entry(&self, id: &str) -> Option<Written<T>> {
        self.known().entries.get(id).cloned()
    }

    fn remember(&self, id: &str, data: T, now: Timestamp) {
        let written = Written::new(data, now.as_second());
        self.known().insert(id, written);
    }

    /// An entry in its stored form.
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

impl<T, S> Log<T, S> {
    fn known(&self) -> std::sync::MutexGuard<'_, Known<T, S>> {
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
