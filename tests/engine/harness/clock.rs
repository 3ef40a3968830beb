//! Time under the test's control: the engine and OpenRouter share one clock, which moves only when a test
//! moves it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use vault_plugin_secrets_openrouter::engine::clock::Clock;

use super::effects::Life;

/// The current time, for everything in a world.
pub(crate) struct Time {
    now: watch::Sender<Timestamp>,
    /// How far it was moved forward in total.
    passed: Mutex<Duration>,
    openrouter: openrouter_simulator::Clock,
}

impl Time {
    /// The current time of this simulator.
    pub(crate) fn of(openrouter: openrouter_simulator::Clock) -> Arc<Self> {
        let (now, _) = watch::channel(openrouter.now());
        Arc::new(Self {
            now,
            passed: Mutex::default(),
            openrouter,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    /// Moves the current time, in either direction, and wakes those who sleep until then.
    pub(crate) fn set(&self, now: Timestamp) {
        let passed = Duration::try_from(now.duration_since(self.now()));
        *self.passed.lock().unwrap() += passed.unwrap_or_default();
        self.openrouter.set(now);
        self.now.send_replace(now);
    }
}

/// The clock of one node: shows the world's time as long as the node is alive.
pub(crate) struct NodeClock {
    time: Arc<Time>,
    life: Arc<Life>,
    sleepers: Mutex<BTreeMap<u64, Timestamp>>,
    deaf: AtomicBool,
    panics: AtomicBool,
}

impl NodeClock {
    pub(crate) fn new(time: Arc<Time>, life: Arc<Life>) -> Arc<Self> {
        Arc::new(Self {
            time,
            life,
            sleepers: Mutex::default(),
            deaf: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        })
    }

    /// No sleeper is woken any more.
    pub(crate) fn wake_nobody(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// The next task that is woken panics.
    pub(crate) fn panic_at_next_wake(&self) {
        self.panics.store(true, Ordering::Relaxed);
    }

    /// When the next sleeper wants to be woken.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.sleepers.lock().unwrap().values().min().copied()
    }
}

#[async_trait]
impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn uptime(&self) -> Duration {
        *self.time.passed.lock().unwrap()
    }

    /// Sleeps without checking the time: the test's clock does not move unnoticed.
    async fn sleep_until(&self, until: Timestamp) {
        let id = self.life.act();
        self.sleepers.lock().unwrap().insert(id, until);
        let _asleep = Asleep(self, id);
        let mut now = self.time.now.subscribe();
        let is_over = |now: &Timestamp| *now >= until && !self.deaf.load(Ordering::Relaxed);
        let woken = now.wait_for(is_over).await;
        drop(woken.expect("the world outlives its nodes"));
        self.life.checkpoint().await;
        let panics = self.panics.swap(false, Ordering::Relaxed);
        assert!(!panics, "the timer is lost: this panic is part of a test");
    }
}

/// Removes a sleeper from the list, however its sleep ends.
struct Asleep<'a>(&'a NodeClock, u64);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.sleepers.lock().unwrap().remove(&self.1);
    }
}
