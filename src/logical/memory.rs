//! In-memory storage for tests of engines.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Entry, Storage, StorageError};

/// Storage that lives as long as this value. Behaves as Vault's in-memory storage does.
#[derive(Default)]
pub struct MemoryStorage {
    // A plain mutex: it is never held across an await.
    entries: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStorage {
    /// Every stored key, in order.
    pub fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.lock().get(key).cloned())
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        self.lock().insert(entry.key, entry.value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut names: Vec<String> = self
            .lock()
            .keys()
            .filter_map(|key| key.strip_prefix(prefix))
            .map(|rest| match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest.to_owned(),
            })
            .collect();
        names.dedup();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn with(keys: &[&str]) -> MemoryStorage {
        let storage = MemoryStorage::default();
        for key in keys {
            let entry = Entry {
                key: (*key).to_owned(),
                value: b"{}".to_vec(),
            };
            storage.put(entry).await.unwrap();
        }
        storage
    }

    #[tokio::test]
    async fn a_list_names_direct_children_and_folders_once() {
        let storage = with(&["roles/a", "roles/b/1", "roles/b/2", "config/default"]).await;
        assert_eq!(storage.list("roles/").await.unwrap(), ["a", "b/"]);
        assert_eq!(storage.list("").await.unwrap(), ["config/", "roles/"]);
    }

    #[tokio::test]
    async fn a_missing_entry_is_none_and_may_be_deleted() {
        let storage = with(&[]).await;
        assert_eq!(storage.get("nothing").await.unwrap(), None);
        storage.delete("nothing").await.unwrap();
    }
}
