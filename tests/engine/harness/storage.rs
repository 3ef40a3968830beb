//! A node's access to the storage that all nodes share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use vault_plugin_secrets_openrouter::logical::{Entry, MemoryStorage, Storage, StorageError};

use super::effects::{Effects, Life};

/// A put that waits.
#[derive(Clone, Default)]
pub(crate) struct HeldPut {
    /// Cancelled when the put has arrived.
    pub(crate) has_come: CancellationToken,
    /// Cancelled to let the put continue.
    pub(crate) let_go: CancellationToken,
}

/// Storage as one node sees it.
pub(crate) struct NodeStorage {
    shared: Arc<MemoryStorage>,
    effects: Arc<Effects>,
    life: Arc<Life>,
    calls: AtomicUsize,
    read_only: AtomicBool,
    /// The key whose next put the other nodes commit without this node's knowledge.
    deposed_at: Mutex<Option<String>>,
    /// What a deposed node keeps reading.
    old_state: OnceLock<MemoryStorage>,
    /// The key whose next put is reported as failed and takes effect later.
    late_at: Mutex<Option<String>>,
    late: Mutex<Option<Entry>>,
    /// Whether its key has been put since.
    late_is_overtaken: AtomicBool,
    /// The key whose next put is committed and reported as failed.
    unheard_at: Mutex<Option<String>>,
    /// This node's server's cache of the keys whose stored content it does not know.
    stale: Mutex<BTreeMap<String, Option<Vec<u8>>>>,
    /// After how many more reads of them the server drops them from its cache.
    stale_reads: AtomicUsize,
    /// The key whose next put waits.
    held_at: Mutex<Option<(String, HeldPut)>>,
    /// The key during whose next put the caller gives up.
    gone_at: Mutex<Option<(String, CancellationToken)>>,
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
            deposed_at: Mutex::default(),
            old_state: OnceLock::new(),
            late_at: Mutex::default(),
            late: Mutex::default(),
            late_is_overtaken: AtomicBool::new(false),
            unheard_at: Mutex::default(),
            stale: Mutex::default(),
            stale_reads: AtomicUsize::new(usize::MAX),
            held_at: Mutex::default(),
            gone_at: Mutex::default(),
        })
    }

    /// The number of calls of any kind.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// From now on the node may not write.
    pub(crate) fn make_read_only(&self) {
        self.read_only.store(true, Ordering::Relaxed);
    }

    /// The next put of a key with this prefix is the moment when the node is deposed: the other nodes commit
    /// it, and the node is told that it failed. From then on it reads the earlier state, and cannot write.
    pub(crate) fn deposed_when_putting(&self, key: &str) {
        *self.deposed_at.lock().unwrap() = Some(key.to_owned());
    }

    /// The next put of this key is reported as failed, and takes effect with
    /// [`commit_what_is_late`](Self::commit_what_is_late).
    pub(crate) fn late_when_putting(&self, key: &str) {
        *self.late_at.lock().unwrap() = Some(key.to_owned());
    }

    /// The next put of this key is committed and reported as failed. This node remains the leader, and its
    /// server's cache keeps the earlier content until a write of the key succeeds.
    pub(crate) fn unheard_when_putting(&self, key: &str) {
        *self.unheard_at.lock().unwrap() = Some(key.to_owned());
    }

    /// The server's cache drops its stale content after this many reads.
    pub(crate) fn drop_from_cache_after(&self, reads: usize) {
        self.stale_reads.store(reads, Ordering::Relaxed);
    }

    /// This node's plugin runs on the same server as that of another node. The server has kept its cache.
    pub(super) fn inherit_cache(&self, of: &Self) {
        self.stale
            .lock()
            .unwrap()
            .clone_from(&of.stale.lock().unwrap());
    }

    /// The caller gives up during the next put of a key with this prefix.
    pub(crate) fn gone_when_putting(&self, key: &str, caller: CancellationToken) {
        *self.gone_at.lock().unwrap() = Some((key.to_owned(), caller));
    }

    /// The next put of a key with this prefix waits before it has any effect.
    pub(crate) fn hold_when_putting(&self, key: &str) -> HeldPut {
        let held = HeldPut::default();
        *self.held_at.lock().unwrap() = Some((key.to_owned(), held.clone()));
        held
    }

    /// Whether a later put of its key has succeeded before the late one.
    pub(crate) fn is_late_overtaken(&self) -> bool {
        self.late_is_overtaken.load(Ordering::Relaxed)
    }

    /// The late put takes effect.
    pub(crate) async fn commit_what_is_late(&self) {
        let late = self.late.lock().unwrap().take();
        let late = late.expect("a put was late");
        self.shared.put(late).await.unwrap();
    }

    /// The content of the server's cache for a key whose stored content is unknown.
    fn cached(&self, key: &str) -> Option<Option<Vec<u8>>> {
        let value = self.stale.lock().unwrap().get(key).cloned()?;
        let left = self.stale_reads.load(Ordering::Relaxed);
        self.stale_reads
            .store(left.saturating_sub(1), Ordering::Relaxed);
        (left > 0).then_some(value)
    }

    /// What the node reads.
    fn seen(&self) -> &MemoryStorage {
        self.old_state.get().unwrap_or(&self.shared)
    }

    fn require_office(&self) -> Result<(), StorageError> {
        match self.old_state.get() {
            None => Ok(()),
            Some(_) => Err(StorageError::Failed("node is not the leader".to_owned())),
        }
    }

    /// Whether this node does not learn the outcome of this put, and what it is told instead.
    async fn put_unheard(&self, entry: &Entry) -> Result<(), StorageError> {
        if taken(&self.late_at, &entry.key) {
            *self.late.lock().unwrap() = Some(entry.clone());
            self.late_is_overtaken.store(false, Ordering::Relaxed);
            let failed = "context deadline exceeded".to_owned();
            return Err(StorageError::Failed(failed));
        }
        if taken(&self.unheard_at, &entry.key) {
            let before = self.shared.get(&entry.key).await?;
            self.shared.put(entry.clone()).await?;
            self.stale.lock().unwrap().insert(entry.key.clone(), before);
            return Err(StorageError::Failed("timed out".to_owned()));
        }
        if !taken(&self.deposed_at, &entry.key) {
            return Ok(());
        }
        let old = MemoryStorage::default();
        for key in self.shared.keys() {
            let value = self.shared.get(&key).await?.expect("it is listed");
            old.put(Entry { key, value }).await?;
        }
        self.shared.put(entry.clone()).await?;
        self.old_state.get_or_init(|| old);
        let lost = "leadership lost while committing log".to_owned();
        Err(StorageError::Failed(lost))
    }

    async fn called(&self) {
        self.life.checkpoint().await;
        self.life.act();
        self.calls.fetch_add(1, Ordering::Relaxed);
        // The real storage is a call to another process: other tasks run meanwhile.
        tokio::task::yield_now().await;
    }

    async fn before_read(&self, name: String) -> Result<(), StorageError> {
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
        self.effects.written();
        let reached = self.effects.reach(&self.life, format!("after {name}"));
        reached.await.map_err(|_| failed("after"))
    }
}

#[async_trait]
impl Storage for NodeStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.before_read(format!("get {}", without_nonce(key)))
            .await?;
        if self.effects.loses_reads_of(key) {
            return Err(StorageError::Failed("cannot be read".to_owned()));
        }
        match self.cached(key) {
            Some(value) => Ok(value),
            None => self.seen().get(key).await,
        }
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        self.require_office()?;
        let held = {
            let mut held = self.held_at.lock().unwrap();
            held.take_if(|(key, _)| entry.key.starts_with(&**key))
        };
        if let Some((_, held)) = held {
            held.has_come.cancel();
            held.let_go.cancelled().await;
        }
        self.put_unheard(&entry).await?;
        let gone = {
            let mut gone = self.gone_at.lock().unwrap();
            gone.take_if(|(key, _)| entry.key.starts_with(&**key))
        };
        if let Some((_, caller)) = gone {
            caller.cancel();
        }
        let (key, name) = (entry.key.clone(), without_nonce(&entry.key));
        let name = format!("put {name}");
        self.change(name, self.shared.put(entry)).await?;
        self.stale.lock().unwrap().remove(&key);
        let late = self.late.lock().unwrap();
        if late.as_ref().is_some_and(|late| late.key == key) {
            self.late_is_overtaken.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.require_office()?;
        let name = format!("delete {}", without_nonce(key));
        self.change(name, self.shared.delete(key)).await?;
        self.stale.lock().unwrap().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.before_read(format!("list {prefix}")).await?;
        self.seen().list(prefix).await
    }
}

/// Whether the key has this prefix, which is then removed.
fn taken(wanted: &Mutex<Option<String>>, key: &str) -> bool {
    let mut wanted = wanted.lock().unwrap();
    wanted
        .take_if(|wanted| key.starts_with(&**wanted))
        .is_some()
}

fn without_nonce(key: &str) -> &str {
    if key.starts_with("wal/") {
        "wal/*"
    } else {
        key
    }
}
