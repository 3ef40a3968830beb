//! The keeper: a timer that starts each task when it is due, to the second.
//!
//! One async task for each mount sleeps until the next task is due. It keeps one time for each task, so
//! that idle roles cost neither storage calls nor work. Vault's periodic call, once a minute, is the safety
//! net: it wakes a keeper whose timer failed, and restarts the work if a bug has ended it. What a task does
//! is defined elsewhere: see [`Worker`].

mod timetable;

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::clock::{Clock, after};
use timetable::Timetable;

/// Finds and performs the tasks.
#[async_trait]
pub trait Worker<T>: Send + Sync {
    /// Puts all tasks on the timetable. `false` if they could not be determined yet.
    async fn begin(&self) -> bool;

    /// Performs what is due, and returns when to check again; `None` if there is nothing to wait for.
    async fn perform(&self, task: &T) -> Option<Timestamp>;
}

/// The keeper of a mount.
pub struct Keeper<T> {
    clock: Arc<dyn Clock>,
    // A plain mutex: it is never held across an await.
    timetable: Mutex<Timetable<T>>,
    changed: Notify,
    at_work: AtomicBool,
    resigned: AtomicBool,
    /// Begin no new step.
    stopping: CancellationToken,
    /// Drop the steps in progress.
    abandoned: CancellationToken,
    tasks: TaskTracker,
}

impl<T: Clone + Ord + Hash + Send + Sync + 'static> Keeper<T> {
    /// A keeper that has not started.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            timetable: Mutex::default(),
            changed: Notify::new(),
            at_work: AtomicBool::new(false),
            resigned: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts the work, unless it has started, and finds the tasks in the background.
    pub fn start(self: &Arc<Self>, worker: Arc<dyn Worker<T>>) {
        if self.is_stopping() || self.at_work.swap(true, Ordering::AcqRel) {
            return;
        }
        self.resigned.store(false, Ordering::Release);
        let work = AtWork(Arc::clone(self));
        self.spawn(async move {
            if worker.begin().await {
                work.0.run(&worker).await;
            }
        });
    }

    /// Checks whether anything is due.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Schedules the task at this time, in place of the earlier time.
    pub fn plan(&self, task: T, at: Timestamp) {
        if self.timetable().set(task, at) {
            self.changed.notify_one();
        }
    }

    /// Schedules the task now.
    pub fn now(&self, task: T) {
        self.plan(task, self.clock.now());
    }

    /// Removes the task.
    pub fn forget(&self, task: &T) {
        self.timetable().remove(task);
    }

    /// Ends the work without waiting for steps in progress, because this node may not act any more. The next
    /// [`start`](Self::start) begins from nothing.
    pub fn resign(&self) {
        self.resigned.store(true, Ordering::Release);
        *self.timetable() = Timetable::default();
        self.changed.notify_one();
    }

    /// Whether the work has started.
    pub fn is_at_work(&self) -> bool {
        self.at_work.load(Ordering::Acquire)
    }

    /// Whether the mount is about to go away: finish the current step, and begin no other.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Ends the work. Steps in progress get a moment to finish, and are then dropped. That is safe for every
    /// step, since a crash would do the same.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(LAST_STEPS, self.tasks.wait())
            .await
            .is_err()
        {
            self.abandoned.cancel();
            self.tasks.wait().await;
        }
    }

    async fn run(self: &Arc<Self>, worker: &Arc<dyn Worker<T>>) {
        while !self.is_stopping() && !self.resigned.load(Ordering::Acquire) {
            let now = self.clock.now();
            let due = self.timetable().due(now);
            for task in due {
                // If a bug ends the work on it, it is started again.
                let anew = after(now, LOST_AFTER);
                self.plan(task.clone(), anew);
                let (keeper, worker) = (Arc::clone(self), Arc::clone(worker));
                self.spawn(async move {
                    let next = worker.perform(&task).await;
                    keeper.replan(task, anew, next);
                });
            }
            let next = self.timetable().next().unwrap_or(Timestamp::MAX);
            tokio::select! {
                biased;
                () = self.clock.sleep_until(next) => {}
                () = self.changed.notified() => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    /// Sets the next time of a task that was performed. If its time is not `anew` any more, another task has
    /// rescheduled it in the meantime, with newer information, and that time is kept.
    fn replan(&self, task: T, anew: Timestamp, next: Option<Timestamp>) {
        let mut timetable = self.timetable();
        if timetable.time_of(&task) != Some(anew) {
            return;
        }
        match next {
            None => timetable.remove(&task),
            Some(at) if timetable.set(task, at) => self.changed.notify_one(),
            Some(_) => {}
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let abandoned = self.abandoned.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = abandoned.cancelled() => {}
                () = work => {}
            }
        });
    }

    fn timetable(&self) -> MutexGuard<'_, Timetable<T>> {
        self.timetable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The work of a keeper. However it ends, even with a panic, the next call starts it again.
struct AtWork<T>(Arc<Keeper<T>>);

impl<T> Drop for AtWork<T> {
    fn drop(&mut self) {
        self.0.at_work.store(false, Ordering::Release);
    }
}

/// How long steps in progress may take to finish when the mount goes away. Sealing waits for it.
const LAST_STEPS: Duration = Duration::from_secs(1);
/// In seconds. A task that has neither finished nor failed by then is started again. If the first one is
/// still running, the second one waits for the role's lock and finds what the first one stored.
const LOST_AFTER: u64 = 15 * 60;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::engine::clock::SystemClock;

    const TASK: &str = "app";

    fn keeper() -> Arc<Keeper<&'static str>> {
        Arc::new(Keeper::new(Arc::new(SystemClock)))
    }

    async fn soon(seen: &Notify) {
        let seen = tokio::time::timeout(Duration::from_secs(60), seen.notified());
        seen.await.expect("it comes");
    }

    /// Another run of the task is requested while the first one is about to end.
    struct Overtaken {
        keeper: Arc<Keeper<&'static str>>,
        runs: AtomicUsize,
        seen: Notify,
    }

    #[async_trait]
    impl Worker<&'static str> for Overtaken {
        async fn begin(&self) -> bool {
            self.keeper.now(TASK);
            true
        }

        async fn perform(&self, task: &&'static str) -> Option<Timestamp> {
            match self.runs.fetch_add(1, Ordering::Relaxed) {
                0 => self.keeper.now(task),
                _ => self.seen.notify_one(),
            }
            Some(Timestamp::MAX)
        }
    }

    #[tokio::test]
    async fn a_run_that_is_requested_during_another_is_not_lost() {
        let keeper = keeper();
        let worker = Arc::new(Overtaken {
            keeper: Arc::clone(&keeper),
            runs: AtomicUsize::new(0),
            seen: Notify::new(),
        });
        keeper.start(Arc::clone(&worker) as _);
        soon(&worker.seen).await;
        keeper.stop().await;
    }

    /// Resigns at the first task after each start.
    struct Deposed {
        keeper: Arc<Keeper<&'static str>>,
        begun: Notify,
    }

    #[async_trait]
    impl Worker<&'static str> for Deposed {
        async fn begin(&self) -> bool {
            self.keeper.now(TASK);
            self.begun.notify_one();
            true
        }

        async fn perform(&self, _: &&'static str) -> Option<Timestamp> {
            self.keeper.resign();
            None
        }
    }

    #[tokio::test]
    async fn work_that_was_given_up_begins_anew() {
        let keeper = keeper();
        let worker = Arc::new(Deposed {
            keeper: Arc::clone(&keeper),
            begun: Notify::new(),
        });
        for _ in 0..2 {
            keeper.start(Arc::clone(&worker) as _);
            soon(&worker.begun).await;
            while keeper.is_at_work() {
                tokio::task::yield_now().await;
            }
        }
        keeper.stop().await;
    }
}
