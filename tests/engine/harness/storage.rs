//! A node's way to the storage that all nodes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use vault_plugin_secrets_openrouter::logical::{Entry, MemoryStorage, Storage, StorageError};

use super::effects::{Effects, Life};

/// Storage as one node sees it.
pub(crate) struct NodeStorage {
    shared: Arc<MemoryStorage>,
    effects: Arc<Effects>,
    life: Arc<Life>,
    calls: AtomicUsize,
    read_only: AtomicBool,
}

impl NodeStorage {
    pub(crate) fn new(
        shared: Arc<MemoryStorage>,
        effects: Arc<Effects>,
        life: Arc<Life>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            effects,
            life,
            calls: AtomicUsize::new(0),
            read_only: AtomicBool::new(false),
        })
    }

    /// How many calls there were, of any kind.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// From now on the node may not write.
    pub(crate) fn make_read_only(&self) {
        self.read_only.store(true, Ordering::Relaxed);
    }

    async fn called(&self) {
        self.life.checkpoint().await;
        self.life.act();
        self.calls.fetch_add(1, Ordering::Relaxed);
        // The real thing is a call to another process: others get their turn.
        tokio::task::yield_now().await;
    }

    async fn look(&self, name: String) -> Result<(), StorageError> {
        self.called().await;
        let reached = self.effects.reach_harmless(&self.life, name).await;
        reached.map_err(|_| StorageError::Failed("cannot be read".to_owned()))
    }

    async fn change(
        &self,
        name: String,
        change: impl Future<Output = Result<(), StorageError>>,
    ) -> Result<(), StorageError> {
        self.called().await;
        if self.read_only.load(Ordering::Relaxed) {
            return Err(StorageError::ReadOnly);
        }
        let failed = |when: &str| StorageError::Failed(format!("lost {when} the effect"));
        let reached = self.effects.reach(&self.life, format!("before {name}"));
        reached.await.map_err(|_| failed("before"))?;
        change.await?;
        let reached = self.effects.reach(&self.life, format!("after {name}"));
        reached.await.map_err(|_| failed("after"))
    }
}

#[async_trait]
impl Storage for NodeStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.look(format!("get {}", without_nonce(key))).await?;
        self.shared.get(key).await
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        let name = format!("put {}", without_nonce(&entry.key));
        self.change(name, self.shared.put(entry)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let name = format!("delete {}", without_nonce(key));
        self.change(name, self.shared.delete(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.look(format!("list {prefix}")).await?;
        self.shared.list(prefix).await
    }
}

fn without_nonce(key: &str) -> &str {
    if key.starts_with("wal/") {
        "wal/*"
    } else {
        key
    }
}
