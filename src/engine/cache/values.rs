//! The cached values of a mount, and how long each may be used. Without I/O.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::AbortHandle;

use crate::engine::clock::Clock;

/// What can be cached.
pub trait Cacheable: Send + Sync + 'static {
    /// How long the value may be used after its entry was read. At most [`LONGEST`] is granted.
    fn lifetime(&self) -> Duration;

    /// Its size in memory, in bytes.
    fn weight(&self) -> usize;
}

/// A moment, by the wall clock and by the machine's uptime.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    now: Timestamp,
    uptime: Duration,
}

impl Moment {
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self {
            now: clock.now(),
            uptime: clock.uptime(),
        }
    }

    /// The time since then, by the clock that shows more; `None` if one of them was set back.
    fn age(self, now: Self) -> Option<Duration> {
        let by_time = Duration::try_from(now.now.duration_since(self.now)).ok()?;
        let by_uptime = now.uptime.checked_sub(self.uptime)?;
        Some(by_time.max(by_uptime))
    }
}

/// The number of failed writes when a write began.
#[derive(Clone, Copy)]
pub(super) struct Begun(u64);

/// How a write ended.
#[derive(Clone, Copy)]
pub(super) enum Ended {
    /// It is stored, so this node was the leader at the time.
    Written,
    /// Nothing was written: this node may not write, whatever it was when it read.
    Refused,
    /// The outcome is unknown. The write ended at this moment.
    Unknown(Moment),
}

/// See the module's page.
pub(super) struct Values<T> {
    by_key: HashMap<String, Cached<T>>,
    weight: usize,
    /// The entries that are being written, with the number of writers.
    writing: HashMap<String, usize>,
    /// The number of changes per bucket of entries, counted when a write begins and when it ends. Buckets
    /// make it unnecessary to remember every entry.
    changes: [u64; BUCKETS],
    /// Per entry, when its last write with an unknown outcome ended.
    in_doubt: HashMap<String, Moment>,
    /// When the last of those ended that are not remembered one by one, because there were too many.
    all_in_doubt: Option<Moment>,
    /// When the last of all those writes ended, unless a write that began later has succeeded. Until then
    /// this node may no longer be the leader.
    office_in_doubt: Option<Moment>,
    /// The number of such writes.
    failures: u64,
    closed: bool,
    sweep: Option<AbortHandle>,
}

struct Cached<T> {
    value: Arc<T>,
    weight: usize,
    read: Moment,
    lifetime: Duration,
}

impl<T> Cached<T> {
    /// How long the value may still be used; `None` if it is expired.
    fn left(&self, now: Moment) -> Option<Duration> {
        let left = self.lifetime.checked_sub(self.read.age(now)?)?;
        (!left.is_zero()).then_some(left)
    }
}

impl<T> Values<T> {
    pub(super) fn get(&self, key: &str, now: Moment) -> Option<Arc<T>> {
        let cached = self.by_key.get(key)?;
        cached.left(now).map(|_| Arc::clone(&cached.value))
    }

    /// The number of changes of an entry, or more.
    pub(super) fn changes(&self, key: &str) -> u64 {
        self.changes.get(bucket(key)).copied().unwrap_or_default()
    }

    pub(super) fn invalidate(&mut self, key: &str) {
        if let Some(changes) = self.changes.get_mut(bucket(key)) {
            *changes += 1;
        }
        self.remove(key);
    }

    /// The result is passed to [`end_write`](Self::end_write).
    pub(super) fn begin_write(&mut self, key: &str) -> Begun {
        self.invalidate(key);
        *self.writing.entry(key.to_owned()).or_default() += 1;
        Begun(self.failures)
    }

    pub(super) fn end_write(&mut self, key: &str, begun: Begun, ended: Ended) {
        self.invalidate(key);
        if let Some(writers) = self.writing.get_mut(key) {
            *writers -= 1;
            if *writers == 0 {
                self.writing.remove(key);
            }
        }
        match ended {
            Ended::Unknown(now) => {
                self.clear();
                self.failures += 1;
                self.office_in_doubt = Some(now);
                self.doubt(key, now);
            }
            Ended::Written if begun.0 == self.failures => self.office_in_doubt = None,
            Ended::Written => {}
            Ended::Refused => self.clear(),
        }
    }

    fn doubt(&mut self, key: &str, now: Moment) {
        self.in_doubt.retain(|_, since| is_fresh(*since, now));
        if self.in_doubt.len() < MAX_IN_DOUBT {
            self.in_doubt.insert(key.to_owned(), now);
        } else {
            self.all_in_doubt = Some(now);
        }
    }

    pub(super) fn clear(&mut self) {
        for changes in &mut self.changes {
            *changes += 1;
        }
        self.by_key = HashMap::new();
        self.weight = 0;
    }

    pub(super) fn close(&mut self) {
        self.clear();
        self.closed = true;
        self.end_sweep();
    }

    /// Starts the task that drops expired values, unless it is running.
    pub(super) fn sweep_with(&mut self, begin: impl FnOnce() -> AbortHandle) {
        self.sweep.get_or_insert_with(begin);
    }

    pub(super) fn end_sweep(&mut self) {
        if let Some(sweep) = self.sweep.take() {
            sweep.abort();
        }
    }

    /// Drops values that are expired at `now` or will be a moment later. Returns how long the others may be
    /// used; `None` if there are none, and the sweep is over.
    pub(super) fn sweep(&mut self, now: Moment) -> Option<Duration> {
        let is_old =
            |cached: &Cached<T>| cached.left(now).is_none_or(|left| left <= BETWEEN_SWEEPS);
        let mut weight = 0;
        self.by_key.retain(|_, cached| {
            let stays = !is_old(cached);
            weight += if stays { cached.weight } else { 0 };
            stays
        });
        self.weight = weight;
        let next = self.by_key.values().filter_map(|cached| cached.left(now));
        let next = next.min();
        if next.is_none() {
            self.by_key = HashMap::new();
            self.sweep = None;
        }
        next
    }

    /// The number of values, and whether the sweep is running.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, bool) {
        (self.by_key.len(), self.sweep.is_some())
    }

    fn remove(&mut self, key: &str) {
        if let Some(cached) = self.by_key.remove(key) {
            self.weight -= cached.weight;
        }
    }

    fn is_in_doubt(&self, key: &str, now: Moment) -> bool {
        let entry = self.in_doubt.get(key).copied();
        let doubts = [self.office_in_doubt, self.all_in_doubt, entry];
        doubts
            .into_iter()
            .flatten()
            .any(|since| is_fresh(since, now))
    }
}

impl<T: Cacheable> Values<T> {
    /// Caches a value whose entry was requested at the first moment and has arrived at the second, if the
    /// entry's number of changes is still `changes`. Returns whether it did.
    pub(super) fn keep(
        &mut self,
        key: &str,
        value: &Arc<T>,
        (read, now): (Moment, Moment),
        changes: u64,
    ) -> bool {
        let is_certain = changes == self.changes(key) && !self.writing.contains_key(key);
        if !is_certain || self.closed || self.is_in_doubt(key, now) {
            return false;
        }
        self.remove(key);
        let cached = Cached {
            value: Arc::clone(value),
            weight: value.weight() + key.len(),
            read,
            lifetime: value.lifetime().min(LONGEST),
        };
        let is_full = self.by_key.len() >= MAX_VALUES || self.weight + cached.weight > MAX_BYTES;
        if is_full || cached.left(now).is_none() {
            return false;
        }
        self.weight += cached.weight;
        self.by_key.insert(key.to_owned(), cached);
        true
    }
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            weight: 0,
            writing: HashMap::new(),
            changes: [0; BUCKETS],
            in_doubt: HashMap::new(),
            all_in_doubt: None,
            office_in_doubt: None,
            failures: 0,
            closed: false,
            sweep: None,
        }
    }
}

/// Whether a doubt is not over yet. Measured by uptime, which cannot be set forward.
fn is_fresh(since: Moment, now: Moment) -> bool {
    now.uptime.saturating_sub(since.uptime) < IN_DOUBT
}

fn bucket(key: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % BUCKETS as u64).unwrap_or_default()
}

/// With this many buckets a read is rarely affected by a change of another entry.
const BUCKETS: usize = 256;

/// The longest time that any value may be used.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// How long an entry is not cached after a failed write: see [`OUTLIVED`](crate::engine::books::OUTLIVED).
pub(super) const IN_DOUBT: Duration = Duration::from_secs(120);
/// Maximum number of values per mount.
pub(super) const MAX_VALUES: usize = 8_192;
/// Maximum size of the values per mount, in bytes.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Maximum number of entries whose doubts are remembered one by one.
pub(super) const MAX_IN_DOUBT: usize = 1_024;
/// The shortest time between two sweeps.
pub(super) const BETWEEN_SWEEPS: Duration = Duration::from_secs(1);
