//! A hundred readers of the role `app`, half of them without a lease. They compare everything that they are
//! told with OpenRouter's state and with what the other readers were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use vault_plugin_secrets_openrouter::logical::Data;

use crate::harness::{World, hash_of};

/// Active readers.
pub(super) struct Readers {
    world: Arc<World>,
    over: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    tasks: JoinSet<Seen>,
}

/// What they saw.
#[derive(Default)]
pub(super) struct Seen {
    /// By version, everything except the `ttl`.
    pub(super) keys: BTreeMap<u64, Data>,
    /// The reasons why there was no key.
    pub(super) refusals: BTreeSet<String>,
}

impl Readers {
    pub(super) fn of(world: &Arc<World>) -> Self {
        let mut readers = Self {
            world: Arc::clone(world),
            over: Arc::default(),
            reads: Arc::default(),
            tasks: JoinSet::new(),
        };
        for number in 0..100 {
            let (world, over) = (Arc::clone(world), Arc::clone(&readers.over));
            let reads = Arc::clone(&readers.reads);
            readers.tasks.spawn(async move {
                let mut seen = Seen::default();
                while !over.load(Ordering::Relaxed) {
                    seen.read(&world, number % 2 == 0).await;
                    reads.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                seen
            });
        }
        readers
    }

    /// Runs `something` while they read: there are reads before it, during it and after it.
    pub(super) async fn during<T>(&self, something: impl Future<Output = T>) -> T {
        self.read_on().await;
        let result = tokio::time::timeout(DEADLOCK, something).await;
        self.read_on().await;
        result.expect("nobody waits for ever")
    }

    /// Stops reading. All readers of a version were told the same about it.
    pub(super) async fn finish(mut self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        while let Some(seen) = self.tasks.join_next().await {
            let seen = seen.expect("a reader found something wrong");
            all.refusals.extend(seen.refusals);
            for (version, key) in seen.keys {
                all.note(version, key);
            }
        }
        assert!(all.keys.len() <= self.world.orders());
        all
    }

    /// Every reader had time to read.
    async fn read_on(&self) {
        let enough = self.reads.load(Ordering::Relaxed) + 200;
        let reading = async {
            while self.reads.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let read = tokio::time::timeout(DEADLOCK, reading).await;
        read.expect("the readers are not held up");
    }
}

impl Seen {
    async fn read(&mut self, world: &World, leased: bool) {
        let dead = dead_keys(world);
        let answer = if leased {
            world.key("app").await
        } else {
            let answer = world.read("static-creds/app").await;
            let answer = answer.map_err(|reason| reason.to_string());
            answer.and_then(|answer| Ok(answer.ok_or("there is no key")?.data))
        };
        match answer {
            Ok(mut key) => {
                assert!(key.remove("ttl").is_some());
                let hash = key["key_hash"].as_str().unwrap();
                assert!(
                    !dead.contains(hash),
                    "revoked before the read began: {hash}"
                );
                assert_eq!(hash_of(key["api_key"].as_str().unwrap()), hash);
                let made = world.openrouter.account().key(hash).expect("it was made");
                assert_eq!(key["key_name"], made.name);
                self.note(key["key_version"].as_u64().unwrap(), key);
            }
            Err(reason) => {
                self.refusals.insert(reason);
            }
        }
    }

    fn note(&mut self, version: u64, key: Data) {
        let known = self.keys.entry(version).or_insert_with(|| key.clone());
        assert_eq!(*known, key, "two keys of one version, or parts of two");
    }
}

fn dead_keys(world: &World) -> BTreeSet<String> {
    let keys = world.openrouter.account().all_keys().into_iter();
    keys.filter(|key| key.deleted_at.is_some())
        .map(|key| key.hash)
        .collect()
}

/// Far longer than anything takes on the busiest machine.
pub(super) const DEADLOCK: Duration = Duration::from_secs(120);
