//! Snapshots of everything that a server stores, and what becomes of a world in which one is restored.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use openrouter_simulator::{Account, Key};
use vault_plugin_secrets_openrouter::logical::{Entry, MemoryStorage, Storage};

use super::leases::ServerLease;
use super::world::{ROLE, World};

/// Everything that the server has stored: what the engine has written, and the leases.
#[derive(Clone)]
pub(crate) struct Snapshot {
    entries: Vec<Entry>,
    leases: Vec<ServerLease>,
    /// The keys that were dead at OpenRouter.
    dead: BTreeSet<String>,
}

/// What a restored snapshot does not know of the keys at OpenRouter.
#[derive(Default)]
pub(crate) struct Forgotten {
    /// Living keys that neither it nor a role in it leads to.
    pub(crate) strays: Vec<Key>,
    /// Keys that live by the snapshot, and are dead.
    pub(crate) ended: BTreeSet<String>,
}

impl Snapshot {
    fn of(storage: &MemoryStorage, leases: &Mutex<Vec<ServerLease>>, account: &Account) -> Self {
        let dead = account.all_keys().into_iter();
        let dead = dead.filter(|key| key.deleted_at.is_some());
        Self {
            entries: entries(storage),
            leases: leases.lock().unwrap().clone(),
            dead: dead.map(|key| key.hash).collect(),
        }
    }

    fn mentions(&self, text: &str) -> bool {
        let mut values = self.entries.iter().map(|entry| &entry.value);
        values.any(|value| String::from_utf8_lossy(value).contains(text))
    }
}

/// Everything that is stored.
pub(super) fn entries(storage: &MemoryStorage) -> Vec<Entry> {
    let read = |key: String| {
        let value = storage.get(&key).now_or_never().expect("it is in memory");
        let value = value.unwrap().expect("it is listed");
        Entry { key, value }
    };
    storage.keys().into_iter().map(read).collect()
}

impl World {
    /// Takes a snapshot now, and one after each write until one is restored.
    pub(crate) fn keep_snapshots(&self) -> Arc<Mutex<Vec<Snapshot>>> {
        let kept = Arc::new(Mutex::new(vec![self.whole_snapshot()]));
        let (storage, leases) = (Arc::clone(&self.storage), Arc::clone(&self.leases));
        let (account, keep) = (self.openrouter.account().clone(), Arc::clone(&kept));
        self.effects.do_after_writes(move || {
            let snapshot = Snapshot::of(&storage, &leases, &account);
            keep.lock().unwrap().push(snapshot);
        });
        kept
    }

    /// A snapshot of now.
    pub(crate) fn whole_snapshot(&self) -> Snapshot {
        Snapshot::of(&self.storage, &self.leases, self.openrouter.account())
    }

    /// The node dies, and the server has stored what it had when the snapshot was taken; for the next node.
    ///
    /// Keys that nothing in the snapshot leads to are nobody's, and so is what keys have spent that ended
    /// since. A lease that was renewed since is as long as it was.
    pub(crate) async fn restore_all(&self, snapshot: Snapshot) -> Forgotten {
        let has_role = snapshot.entries.iter().any(|entry| entry.key == ROLE);
        let mut forgotten = Forgotten::default();
        for key in self.openrouter.account().all_keys() {
            if !key.name.contains(" vault-") || self.is_unowned(&key.hash) {
                continue;
            }
            let is_known = snapshot.mentions(&key.hash) || snapshot.mentions(&key.name);
            let is_dead = key.deleted_at.is_some();
            if is_dead && is_known && !snapshot.dead.contains(&key.hash) {
                forgotten.ended.insert(key.hash);
            } else if is_dead && !is_known && !snapshot.dead.contains(&key.hash) {
                self.disown(&key.hash);
            } else if !is_dead && !is_known && !has_role {
                self.disown(&key.hash);
                forgotten.strays.push(key);
            }
        }
        for promise in self.promises.lock().unwrap().iter_mut() {
            let mut leases = snapshot.leases.iter();
            if let Some(lease) = leases.find(|lease| lease.key_hash == promise.hash) {
                promise.until = promise.until.min(lease.until);
            }
        }
        self.effects.do_after_writes(|| ());
        *self.leases.lock().unwrap() = snapshot.leases;
        self.restore(snapshot.entries).await;
        forgotten
    }
}
