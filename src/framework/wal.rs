//! A write-ahead log in the mount's storage: what is about to happen in the outside world is
//! written down first, so that whoever finds it there after a crash can put things right.
//!
//! The format is that of Vault's Go SDK (`wal/<id>` holding kind, data and time), but the log
//! remembers what it wrote: once read, an idle log costs no storage call. Go's framework reads the
//! whole log every minute, inside the server's periodic call and under its state lock.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::logical::{Entry, Storage, StorageError};

/// Where the entries are, for the special paths.
pub const PREFIX: &str = "wal/";

/// The log of one kind of entry.
pub struct Log<T> {
    kind: &'static str,
    // A plain mutex: it is never held across an await.
    known: Mutex<BTreeMap<String, Written<T>>>,
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
    data: T,
    created_at: i64,
}

impl<T: Clone + Serialize + DeserializeOwned> Log<T> {
    /// A log of entries called `kind`, of which nothing is known yet.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            known: Mutex::default(),
        }
    }

    /// Reads what earlier processes left. Entries of other kinds, and such that cannot be read,
    /// are left alone; the latter are named in the result.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub async fn load(&self, storage: &dyn Storage) -> Result<Vec<StorageError>, StorageError> {
        let mut unreadable = Vec::new();
        for id in storage.list(PREFIX).await? {
            let key = format!("{PREFIX}{id}");
            let Some(value) = storage.get(&key).await? else {
                continue;
            };
            match Entry::parse::<Stored<serde_json::Value>>(&key, &value) {
                Ok(stored) if stored.kind != self.kind => continue,
                Ok(_) => {}
                Err(reason) => {
                    unreadable.push(reason);
                    continue;
                }
            }
            match Entry::parse::<Stored<T>>(&key, &value) {
                Ok(stored) => self.remember(id, stored.data, stored.created_at),
                Err(reason) => unreadable.push(reason),
            }
        }
        Ok(unreadable)
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
        let stored = Stored {
            kind: self.kind.to_owned(),
            data,
            created_at: now.as_second(),
        };
        let entry = Entry::json(format!("{PREFIX}{id}"), &stored)?;
        // Known before it is stored: if the reply is lost it may be there all the same.
        self.remember(id.to_owned(), stored.data, stored.created_at);
        let put = storage.put(entry).await;
        if put == Err(StorageError::ReadOnly) {
            self.known().remove(id);
        }
        put
    }

    /// Strikes an entry out: what it announced is done, or undone.
    ///
    /// # Errors
    /// When it cannot be removed; it is then still known, and can be struck out later.
    pub async fn delete(&self, storage: &dyn Storage, id: &str) -> Result<(), StorageError> {
        storage.delete(&format!("{PREFIX}{id}")).await?;
        self.known().remove(id);
        Ok(())
    }

    /// Every entry that is known, by id. No storage call.
    pub fn entries(&self) -> Vec<(String, Written<T>)> {
        self.known()
            .iter()
            .map(|(id, written)| (id.clone(), written.clone()))
            .collect()
    }

    /// One entry, if it is known. No storage call.
    pub fn entry(&self, id: &str) -> Option<Written<T>> {
        self.known().get(id).cloned()
    }

    fn remember(&self, id: String, data: T, created_at: i64) {
        let at = Timestamp::from_second(created_at).unwrap_or(Timestamp::UNIX_EPOCH);
        self.known().insert(id, Written { data, at });
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Written<T>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logical::MemoryStorage;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn an_entry_outlives_the_process_until_it_is_struck_out() {
        let storage = MemoryStorage::default();
        let log = Log::<String>::new("create");
        let data = "app".to_owned();
        log.put(&storage, "n1", data, at(1_000)).await.unwrap();

        let later = Log::<String>::new("create");
        assert!(later.load(&storage).await.unwrap().is_empty());
        let written = later.entry("n1").unwrap();
        assert_eq!((written.data.as_str(), written.at), ("app", at(1_000)));

        later.delete(&storage, "n1").await.unwrap();
        assert!(later.entries().is_empty());
        assert!(storage.keys().is_empty());
    }

    struct ReadOnly;

    #[async_trait::async_trait]
    impl Storage for ReadOnly {
        async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, StorageError> {
            Ok(None)
        }
        async fn put(&self, _: Entry) -> Result<(), StorageError> {
            Err(StorageError::ReadOnly)
        }
        async fn delete(&self, _: &str) -> Result<(), StorageError> {
            Err(StorageError::ReadOnly)
        }
        async fn list(&self, _: &str) -> Result<Vec<String>, StorageError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn what_a_node_that_may_not_write_announced_is_not_known() {
        let log = Log::<String>::new("create");
        let put = log.put(&ReadOnly, "n1", "app".to_owned(), at(1)).await;
        assert_eq!(put, Err(StorageError::ReadOnly));
        assert!(log.entries().is_empty());
    }

    #[tokio::test]
    async fn other_kinds_and_broken_entries_are_left_alone() {
        let storage = MemoryStorage::default();
        let other = Log::<String>::new("other");
        let data = "x".to_owned();
        other.put(&storage, "n1", data, at(1)).await.unwrap();
        let broken = Entry {
            key: "wal/n2".to_owned(),
            value: b"{".to_vec(),
        };
        storage.put(broken).await.unwrap();

        let log = Log::<String>::new("create");
        let unreadable = log.load(&storage).await.unwrap();
        assert_eq!(unreadable.len(), 1);
        assert!(log.entries().is_empty());
        assert_eq!(storage.keys(), ["wal/n1", "wal/n2"]);
    }

    #[tokio::test]
    async fn the_stored_form_is_that_of_vaults_own_framework() {
        let storage = MemoryStorage::default();
        let log = Log::<String>::new("create");
        let data = "app".to_owned();
        log.put(&storage, "n1", data, at(1_000)).await.unwrap();
        let stored = storage.get("wal/n1").await.unwrap().unwrap();
        assert_eq!(
            String::from_utf8(stored).unwrap(),
            r#"{"type":"create","data":"app","created_at":1000}"#
        );
    }
}
