//! The runs of a mount: jobs that take longer than a request may. Each is stored as one entry when it is
//! ordered and again when it is over; how far it is in between is kept in memory.
//!
//! A run's own state is not stored, since what it has done shows in what it did it to: a role has a newer
//! key, a key is gone. So a run that is resumed begins at its beginning, and finds most of it done.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::engine::error::Error;
use crate::engine::names::{RUNS, RunId};
use crate::engine::stored::{self, Stored};
use crate::framework::{Held, Locks};
use crate::logical::{Storage, StorageError};
use crate::openrouter::KeyHash;

/// A run as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it was ordered.
    pub began: Timestamp,
    /// When it was over; `None` while it goes on.
    pub ended: Option<Timestamp>,
    /// What is done.
    pub work: Work,
    /// How far it is, or what came of it.
    #[serde(default)]
    pub outcome: Outcome,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Every role of a connection gets a new key.
    RotateAll {
        /// The grace period of the keys before, in seconds; `None` is each role's own.
        grace: Option<u64>,
    },
    /// Keys of this mount that nobody has are listed, or removed.
    Tidy {
        /// They are only listed.
        dry_run: bool,
        /// The keys that were listed, and their names.
        keys: BTreeMap<KeyHash, String>,
        /// How many there are besides.
        more: usize,
    },
    /// Every key of the mount is revoked, and none is made.
    Teardown {
        /// When that was taken back: keys are made again.
        cancelled: Option<Timestamp>,
    },
}

/// How far a run is, or what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How many roles or keys there are to deal with, as far as that is known.
    pub total: usize,
    /// With how many that is done.
    pub done: usize,
    /// What was left as it was on purpose, and why.
    pub skipped: Named,
    /// What is not done, and why.
    pub left: Named,
    /// Why nothing was done at all.
    pub refusal: Option<String>,
}

/// Names with reasons, at most [`MOST_NAMED`] of them, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub names: BTreeMap<String, String>,
}

impl Named {
    /// The first of these.
    pub fn of(all: &BTreeMap<String, String>) -> Self {
        let first = all.iter().take(MOST_NAMED);
        Self {
            count: all.len(),
            names: first
                .map(|(name, why)| (shortened(name), shortened(why)))
                .collect(),
        }
    }
}

/// Foreign texts can be of any length, and the entry must not grow with them.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

impl Stored for Run {
    const VERSION: u32 = 1;
}

impl Run {
    /// A run that begins now.
    pub fn new(work: Work, now: Timestamp) -> Self {
        Self {
            began: now,
            ended: None,
            work,
            outcome: Outcome::default(),
        }
    }

    /// Whether somebody is to go on with it.
    pub fn is_going_on(&self) -> bool {
        self.ended.is_none() && self.cancelled().is_none()
    }

    /// When it was taken back, if it is a teardown that was.
    pub fn cancelled(&self) -> Option<Timestamp> {
        match self.work {
            Work::Teardown { cancelled } => cancelled,
            Work::RotateAll { .. } | Work::Tidy { .. } => None,
        }
    }
}

/// The runs of a mount.
#[derive(Default)]
pub struct Runs {
    // A plain mutex: it is never held across an await.
    known: Mutex<HashMap<RunId, Run>>,
    /// One change of an entry at a time.
    entries: Locks,
    /// One task that goes on with a run at a time.
    workers: Locks,
    changed: Notify,
}

/// The mount is being torn down, as was found by a node in office. So no key of the mount is anybody's.
pub struct TornDown {
    /// When that began.
    pub since: Timestamp,
}

impl Runs {
    /// Reads what is stored: one storage call, and one for each run that was ever ordered. An unreadable
    /// entry is passed to `unreadable`.
    pub(super) async fn load(
        &self,
        storage: &dyn Storage,
        unreadable: impl Fn(StorageError),
    ) -> Result<(), StorageError> {
        let names = storage.list(RUNS).await?;
        for id in names.iter().filter_map(|name| RunId::of_entry(name)) {
            let _held = self.lock(&id).await;
            match self.reload(storage, &id).await {
                Ok(_) => {}
                Err(reason @ StorageError::Malformed { .. }) => unreadable(reason),
                Err(reason) => return Err(reason),
            }
        }
        Ok(())
    }

    /// Forgets everything: another node goes on with it now.
    pub(super) fn forget(&self) {
        self.known().clear();
        self.changed.notify_waiters();
    }

    /// The sole right to change a run's entry.
    pub async fn lock(&self, id: &RunId) -> Held {
        self.entries.lock(&id.key()).await
    }

    /// The sole right to go on with a run, if nobody has it.
    pub fn try_work(&self, id: &RunId) -> Option<Held> {
        self.workers.try_lock(&id.key())
    }

    /// Reads a run: one storage call. Under its [lock](Self::lock).
    ///
    /// # Errors
    /// Storage's own.
    pub async fn reload(
        &self,
        storage: &dyn Storage,
        id: &RunId,
    ) -> Result<Option<Run>, StorageError> {
        let read = stored::load::<Run>(storage, &id.key()).await?;
        let Some(mut run) = read else {
            self.known().remove(id);
            return Ok(None);
        };
        let mut known = self.known();
        // How far it is, only memory knows.
        if let Some(before) = known.get(id)
            && before.is_going_on()
            && run.is_going_on()
            && before.began == run.began
        {
            run.outcome.clone_from(&before.outcome);
        }
        known.insert(id.clone(), run.clone());
        Ok(Some(run))
    }

    /// Writes a run: one storage call. Under its [lock](Self::lock).
    ///
    /// # Errors
    /// Storage's own: what is stored is unknown then, and what is known of the run stays as it was.
    pub async fn store(
        &self,
        storage: &dyn Storage,
        id: &RunId,
        run: Run,
    ) -> Result<(), StorageError> {
        stored::store::<Run>(storage, &id.key(), &run).await?;
        self.known().insert(id.clone(), run);
        self.changed.notify_waiters();
        Ok(())
    }

    /// A run as it is known.
    pub fn get(&self, id: &RunId) -> Option<Run> {
        self.known().get(id).cloned()
    }

    /// Those that somebody is to go on with.
    pub fn going_on(&self) -> Vec<RunId> {
        let known = self.known();
        let mut ids: Vec<_> = known
            .iter()
            .filter(|(_, run)| run.is_going_on())
            .map(|(id, _)| id.clone())
            .collect();
        ids.sort();
        ids
    }

    /// Whether the run that began then still goes on.
    pub fn goes_on(&self, id: &RunId, began: Timestamp) -> bool {
        let known = self.known();
        let run = known.get(id);
        run.is_some_and(|run| run.began == began && run.is_going_on())
    }

    /// Notes how far the run is that began then.
    pub fn note(&self, id: &RunId, began: Timestamp, outcome: Outcome) {
        let mut known = self.known();
        if let Some(run) = known.get_mut(id)
            && run.began == began
            && run.is_going_on()
        {
            run.outcome = outcome;
        }
    }

    /// Returns when a run is stored after this was called.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Since when the mount is torn down: no key is handed out or made. No storage call.
    pub fn torn_down_since(&self) -> Option<Timestamp> {
        let known = self.known();
        let run = known.get(&RunId::Teardown)?;
        run.cancelled().is_none().then_some(run.began)
    }

    /// Proves that the teardown that began then is still in force, by writing its entry again, which only a
    /// node in office can. One storage call; `None` when it is not in force any more.
    ///
    /// # Errors
    /// Storage's own when this node may not write.
    pub async fn prove_torn_down(
        &self,
        storage: &dyn Storage,
        began: Timestamp,
    ) -> Result<Option<TornDown>, StorageError> {
        let id = RunId::Teardown;
        let _held = self.lock(&id).await;
        let Some(run) = self.get(&id).filter(|_| self.goes_on(&id, began)) else {
            return Ok(None);
        };
        // Not how far it is: the entry stays what was ordered, until it is over.
        let as_ordered = Run {
            outcome: Outcome::default(),
            ..run
        };
        stored::store::<Run>(storage, &id.key(), &as_ordered).await?;
        Ok(Some(TornDown { since: began }))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<RunId, Run>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to say while a mount is torn down.
pub fn while_torn_down(since: Timestamp) -> Error {
    Error::Unusable(format!(
        "this mount is torn down since {since}: no key is handed out or created; delete \"teardown\" \
         to cancel that"
    ))
}

/// So many names are kept.
pub const MOST_NAMED: usize = 100;
/// In characters.
const LONGEST_TEXT: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logical::MemoryStorage;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn teardown(began: i64) -> Run {
        Run::new(Work::Teardown { cancelled: None }, at(began))
    }

    #[test]
    fn names_are_counted_and_the_first_hundred_kept_each_at_a_bounded_length() {
        let all: BTreeMap<_, _> = (0..1_000)
            .map(|number| (format!("{number:04}"), "ä".repeat(10_000)))
            .collect();
        let named = Named::of(&all);
        assert_eq!((named.count, named.names.len()), (1_000, MOST_NAMED));
        assert!(named.names.contains_key("0000") && !named.names.contains_key("0100"));
        assert_eq!(named.names["0000"].chars().count(), LONGEST_TEXT + 1);
    }

    #[tokio::test]
    async fn a_teardown_is_in_force_from_its_order_to_its_cancellation_whether_it_is_over_or_not() {
        let (runs, storage) = (Runs::default(), MemoryStorage::default());
        let store = |run| runs.store(&storage, &RunId::Teardown, run);
        assert_eq!(runs.torn_down_since(), None);
        store(teardown(5)).await.unwrap();
        assert_eq!(runs.torn_down_since(), Some(at(5)));
        let ended = Run {
            ended: Some(at(6)),
            ..teardown(5)
        };
        store(ended.clone()).await.unwrap();
        assert_eq!(runs.torn_down_since(), Some(at(5)));
        assert_eq!(runs.going_on(), []);
        let work = Work::Teardown {
            cancelled: Some(at(7)),
        };
        store(Run { work, ..ended }).await.unwrap();
        assert_eq!(runs.torn_down_since(), None);
    }

    #[tokio::test]
    async fn what_was_stored_is_known_to_the_next_process() {
        let storage = MemoryStorage::default();
        let run = teardown(5);
        let first = Runs::default();
        first
            .store(&storage, &RunId::Teardown, run.clone())
            .await
            .unwrap();
        let second = Runs::default();
        let readable = |reason| panic!("{reason}");
        second.load(&storage, readable).await.unwrap();
        assert_eq!(second.get(&RunId::Teardown), Some(run));
        assert_eq!(second.going_on(), [RunId::Teardown]);
        second.forget();
        assert_eq!(second.torn_down_since(), None);
    }

    #[tokio::test]
    async fn only_the_teardown_that_is_in_force_can_be_proved() {
        let (runs, storage) = (Runs::default(), MemoryStorage::default());
        let id = RunId::Teardown;
        runs.store(&storage, &id, teardown(5)).await.unwrap();
        let progress = Outcome {
            done: 3,
            ..Outcome::default()
        };
        runs.note(&id, at(5), progress.clone());
        assert!(
            runs.prove_torn_down(&storage, at(4))
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            runs.prove_torn_down(&storage, at(5))
                .await
                .unwrap()
                .is_some()
        );
        let _held = runs.lock(&id).await;
        let read = runs.reload(&storage, &id).await.unwrap().unwrap();
        assert_eq!(read.outcome, progress, "only memory knows how far it is");
    }
}
