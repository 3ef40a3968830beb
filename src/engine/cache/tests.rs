use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::values::{IN_DOUBT, LONGEST, MAX_BYTES, MAX_IN_DOUBT, MAX_VALUES};
use super::*;
use crate::logical::MemoryStorage;

const KEY: &str = "roles/app";

/// A value made from an entry: its bytes, how long it may be used, and its size.
struct Made(Vec<u8>, Duration, usize);

impl Cacheable for Made {
    fn lifetime(&self) -> Duration {
        self.1
    }

    fn weight(&self) -> usize {
        self.2
    }
}

/// The wall clock, and the machine's uptime.
struct Hands(watch::Sender<(Timestamp, Duration)>);

impl Hands {
    fn pass(&self, time: Duration) {
        self.0.send_modify(|(now, uptime)| {
            *now += time;
            *uptime += time;
        });
    }

    fn set_back(&self, time: Duration) {
        self.0.send_modify(|(now, _)| *now -= time);
    }
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        self.0.borrow().0
    }

    fn uptime(&self) -> Duration {
        self.0.borrow().1
    }

    async fn sleep_until(&self, until: Timestamp) {
        let mut hands = self.0.subscribe();
        hands.wait_for(|(now, _)| *now >= until).await.unwrap();
    }
}

/// Storage whose writes can be delayed, or can fail after they took effect.
#[derive(Default)]
struct Slow {
    stored: MemoryStorage,
    waits: AtomicBool,
    fails: AtomicBool,
    forbids: AtomicBool,
    written: Notify,
    go_on: Notify,
}

#[async_trait]
impl Storage for Slow {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.stored.get(key).await
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        if self.forbids.load(Ordering::Relaxed) {
            return Err(StorageError::ReadOnly);
        }
        self.stored.put(entry).await?;
        if self.waits.load(Ordering::Relaxed) {
            self.written.notify_one();
            self.go_on.notified().await;
        }
        match self.fails.load(Ordering::Relaxed) {
            true => Err(StorageError::Failed("the answer was lost".to_owned())),
            false => Ok(()),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.stored.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.stored.list(prefix).await
    }
}

struct World {
    clock: Arc<Hands>,
    storage: Arc<Slow>,
    cache: Arc<Cache<Made>>,
}

impl World {
    /// Storage that contains an entry.
    async fn new() -> Self {
        let noon = "2026-11-20T12:00:00Z".parse().unwrap();
        let clock = Arc::new(Hands(watch::channel((noon, Duration::from_secs(5))).0));
        let storage = Arc::new(Slow::default());
        let cache = Arc::new(Cache::new(
            Arc::clone(&storage) as _,
            Arc::clone(&clock) as _,
        ));
        let world = Self {
            clock,
            storage,
            cache,
        };
        world.put("one").await.unwrap();
        world
    }

    async fn put(&self, value: &str) -> Result<(), StorageError> {
        self.cache.put(entry(value)).await
    }

    /// Reads as the paths do: from the cache, or else from storage.
    async fn read(&self) -> String {
        self.read_for(LONGEST).await
    }

    async fn read_for(&self, lifetime: Duration) -> String {
        if let Some(cached) = self.cached() {
            return cached;
        }
        let pending = self.cache.about_to_read(KEY);
        let value = self.cache.storage.get(KEY).await.unwrap().unwrap();
        let made = Arc::new(Made(value, lifetime, 0));
        pending.keep(&made);
        String::from_utf8(made.0.clone()).unwrap()
    }

    fn cached(&self) -> Option<String> {
        let cached = self.cache.cached(KEY)?;
        Some(String::from_utf8(cached.0.clone()).unwrap())
    }

    /// The number of values, and whether the sweep is running.
    fn held(&self) -> (usize, bool) {
        self.cache.values().held()
    }
}

fn other(key: &str) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Vec::new(),
    }
}

fn entry(value: &str) -> Entry {
    Entry {
        key: KEY.to_owned(),
        value: value.as_bytes().to_vec(),
    }
}

/// Returns when everything has happened that does not depend on the clock.
async fn quiet() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_value_is_used_for_a_minute_from_when_it_was_read_and_not_from_its_last_reader() {
    let world = World::new().await;
    world.read_for(Duration::MAX).await;
    for _ in 0..59 {
        world.clock.pass(Duration::from_millis(1_016));
        assert!(world.cached().is_some());
    }
    world.clock.pass(Duration::from_millis(100));
    assert_eq!(world.cached(), None);
}

#[tokio::test]
async fn the_time_that_storage_took_to_answer_counts() {
    let world = World::new().await;
    let pending = world.cache.about_to_read(KEY);
    world.clock.pass(Duration::from_secs(50));
    pending.keep(&Arc::new(Made(b"one".to_vec(), LONGEST, 0)));
    world.clock.pass(Duration::from_secs(9));
    assert!(world.cached().is_some());
    world.clock.pass(Duration::from_secs(1));
    assert_eq!(world.cached(), None);
}

#[tokio::test]
async fn a_value_is_used_for_no_longer_than_it_allows() {
    let world = World::new().await;
    world.read_for(Duration::from_millis(500)).await;
    world.clock.pass(Duration::from_millis(499));
    assert!(world.cached().is_some());
    world.clock.pass(Duration::from_millis(1));
    assert_eq!(world.cached(), None);
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_value_last_longer() {
    let world = World::new().await;
    world.read().await;
    world.clock.set_back(Duration::from_secs(3_600));
    assert_eq!(world.cached(), None);

    let world = World::new().await;
    world.read().await;
    world.clock.pass(Duration::from_secs(40));
    world.clock.set_back(Duration::from_secs(39));
    world.clock.pass(Duration::from_secs(20));
    assert_eq!(world.cached(), None, "a minute by the other clock");
}

#[tokio::test]
async fn values_are_dropped_when_their_time_is_over_and_nothing_goes_on_then() {
    let world = World::new().await;
    world.read().await;
    assert_eq!(world.held(), (1, true));
    quiet().await;
    world.clock.pass(Duration::from_secs(58));
    quiet().await;
    assert_eq!(world.held(), (1, true));
    world.clock.pass(Duration::from_secs(2));
    quiet().await;
    assert_eq!(world.held(), (0, false));
    world.read().await;
    assert_eq!(world.held(), (1, true), "it begins anew");
}

#[tokio::test]
async fn a_value_with_a_short_life_is_gone_after_a_minute_too() {
    let world = World::new().await;
    world.read_for(Duration::from_secs(2)).await;
    quiet().await;
    world.clock.pass(Duration::from_secs(1));
    quiet().await;
    world.clock.pass(Duration::from_secs(1));
    quiet().await;
    assert_eq!(world.held(), (0, false));
}

#[tokio::test]
async fn a_write_drops_the_value_before_it_begins_and_lets_nothing_in_until_it_has_ended() {
    let world = Arc::new(World::new().await);
    world.read().await;
    world.storage.waits.store(true, Ordering::Relaxed);
    let writing = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.put("two").await })
    };
    world.storage.written.notified().await;
    assert_eq!(world.cached(), None);
    assert_eq!(world.read().await, "two");
    assert_eq!(world.cached(), None, "it may not last");
    // Requested before the write ended; arrives after it.
    let pending = world.cache.about_to_read(KEY);
    world.storage.go_on.notify_one();
    writing.await.unwrap().unwrap();
    pending.keep(&Arc::new(Made(b"one".to_vec(), LONGEST, 0)));
    assert_eq!(world.cached(), None);
    assert_eq!(world.read().await, "two");
    assert_eq!(world.cached().as_deref(), Some("two"));
}

#[tokio::test]
async fn a_deletion_drops_the_value() {
    let world = World::new().await;
    world.read().await;
    world.cache.delete(KEY).await.unwrap();
    assert_eq!(world.cached(), None);
}

#[tokio::test]
async fn an_invalidation_drops_the_value_and_the_reply_that_is_under_way() {
    let world = World::new().await;
    world.read().await;
    world.storage.stored.put(entry("two")).await.unwrap();
    let pending = world.cache.about_to_read(KEY);
    world.cache.invalidate(KEY);
    assert_eq!(world.cached(), None);
    pending.keep(&Arc::new(Made(b"one".to_vec(), LONGEST, 0)));
    assert_eq!(world.read().await, "two");
}

#[tokio::test]
async fn after_a_write_that_failed_nothing_is_cached_while_nobody_knows_who_is_in_office() {
    let world = World::new().await;
    world.read().await;
    world.storage.fails.store(true, Ordering::Relaxed);
    world.cache.put(other("wal/1")).await.unwrap_err();
    assert_eq!(world.held().0, 0, "whatever it was that failed");
    world.clock.pass(IN_DOUBT - Duration::from_secs(1));
    world.read().await;
    assert_eq!(world.cached(), None);
    world.clock.pass(Duration::from_secs(1));
    world.read().await;
    assert!(world.cached().is_some());
}

#[tokio::test]
async fn a_later_write_that_succeeds_ends_the_doubt_of_all_but_the_entry_that_was_written() {
    for (failed, is_cached) in [(KEY, false), ("wal/1", true)] {
        let world = World::new().await;
        world.storage.fails.store(true, Ordering::Relaxed);
        world.cache.put(other(failed)).await.unwrap_err();
        world.storage.fails.store(false, Ordering::Relaxed);
        // This includes writes of the same entry: the failed write may overtake them.
        for written in ["wal/2", failed] {
            world.cache.put(other(written)).await.unwrap();
            world.read().await;
            assert_eq!(world.cached().is_some(), is_cached, "{failed}");
        }
        world.clock.pass(IN_DOUBT - Duration::from_secs(1));
        world.read().await;
        assert_eq!(world.cached().is_some(), is_cached, "{failed}");
        world.clock.pass(Duration::from_secs(1));
        world.read().await;
        assert!(world.cached().is_some(), "{failed}");
    }
}

#[tokio::test]
async fn a_write_that_began_before_another_failed_shows_nothing() {
    let world = Arc::new(World::new().await);
    world.storage.waits.store(true, Ordering::Relaxed);
    let earlier = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.cache.put(other("wal/2")).await })
    };
    world.storage.written.notified().await;
    world.storage.waits.store(false, Ordering::Relaxed);
    world.storage.fails.store(true, Ordering::Relaxed);
    world.cache.put(other("wal/1")).await.unwrap_err();
    world.storage.fails.store(false, Ordering::Relaxed);
    world.storage.go_on.notify_one();
    earlier.await.unwrap().unwrap();
    world.read().await;
    assert_eq!(world.cached(), None);
    // A write that this node may not make does not end the doubt either.
    world.storage.forbids.store(true, Ordering::Relaxed);
    world.cache.put(other("wal/3")).await.unwrap_err();
    world.read().await;
    assert_eq!(world.cached(), None);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_any_more_counts_as_one_that_failed() {
    let world = World::new().await;
    world.storage.waits.store(true, Ordering::Relaxed);
    tokio::select! {
        _ = world.put("two") => panic!("it waits"),
        () = world.storage.written.notified() => {}
    }
    world.read().await;
    assert_eq!(world.cached(), None);
}

#[tokio::test]
async fn a_node_that_finds_that_it_may_not_write_drops_what_it_has_read_and_goes_on_caching() {
    let world = World::new().await;
    world.read().await;
    let pending = world.cache.about_to_read(KEY);
    world.storage.forbids.store(true, Ordering::Relaxed);
    world.cache.put(other("roles/other")).await.unwrap_err();
    assert_eq!(world.held().0, 0);
    pending.keep(&Arc::new(Made(b"one".to_vec(), LONGEST, 0)));
    assert_eq!(world.cached(), None, "it was asked for before");
    world.read().await;
    assert!(world.cached().is_some());
}

#[tokio::test]
async fn failed_writes_of_other_entries_leave_an_entry_alone_unless_there_are_too_many() {
    let world = World::new().await;
    for (failures, is_cached) in [(MAX_IN_DOUBT, true), (1, false)] {
        world.storage.fails.store(true, Ordering::Relaxed);
        for number in 0..failures {
            let key = format!("wal/{failures}-{number}");
            world.cache.put(other(&key)).await.unwrap_err();
        }
        world.storage.fails.store(false, Ordering::Relaxed);
        world.cache.put(other("wal/after")).await.unwrap();
        world.read().await;
        assert_eq!(world.cached().is_some(), is_cached, "{failures}");
    }
    world.clock.pass(IN_DOUBT);
    world.read().await;
    assert!(world.cached().is_some());
}

#[tokio::test]
async fn a_change_of_another_entry_leaves_the_reply_that_is_under_way_alone() {
    let world = World::new().await;
    // They cannot all be in the same bucket.
    let mut kept = 0;
    for other in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let pending = world.cache.about_to_read(KEY);
        let key = other.to_owned();
        let value = Vec::new();
        world.cache.put(Entry { key, value }).await.unwrap();
        pending.keep(&Arc::new(Made(Vec::new(), LONGEST, 0)));
        kept += usize::from(world.cached().is_some());
        world.cache.invalidate(KEY);
    }
    assert!(kept > 0);
}

#[tokio::test]
async fn a_closed_cache_holds_nothing_any_more() {
    let world = World::new().await;
    world.read().await;
    let pending = world.cache.about_to_read(KEY);
    world.cache.close();
    assert_eq!(world.held(), (0, false));
    pending.keep(&Arc::new(Made(Vec::new(), LONGEST, 0)));
    world.read().await;
    assert_eq!(world.held(), (0, false));
}

#[tokio::test]
async fn there_is_room_for_so_many_values_and_so_many_bytes() {
    let world = World::new().await;
    for number in 0..=MAX_VALUES {
        let made = Arc::new(Made(Vec::new(), LONGEST, 1));
        world.cache.about_to_read(&number.to_string()).keep(&made);
    }
    assert_eq!(world.held().0, MAX_VALUES);

    let world = World::new().await;
    let heavy = || Arc::new(Made(Vec::new(), LONGEST, MAX_BYTES / 3));
    for key in ["a", "b", "c"] {
        world.cache.about_to_read(key).keep(&heavy());
    }
    assert_eq!(world.held().0, 2, "their keys have a weight, too");
    // Dropped values make room.
    world.cache.invalidate("a");
    world.cache.about_to_read("c").keep(&heavy());
    assert!(world.cache.cached("c").is_some());
    world.cache.about_to_read("c").keep(&heavy());
    assert_eq!(world.held().0, 2, "read again it takes no more");
}

#[tokio::test]
async fn whoever_is_no_reader_of_keys_reads_storage() {
    let world = World::new().await;
    world.read().await;
    // Without the cache's knowledge.
    world.storage.stored.put(entry("two")).await.unwrap();
    let storage: &dyn Storage = &*world.cache;
    assert_eq!(storage.get(KEY).await.unwrap().unwrap(), b"two");
    assert_eq!(world.read().await, "one");
}
