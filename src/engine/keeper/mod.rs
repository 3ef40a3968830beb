//! The keeper: wakes what is due, on time to the second, with the engine's own timer.
//!
//! One task for each mount sleeps until the next thing is due. It keeps a time for each role and
//! each intent that is adrift, so that idle roles cost neither storage calls nor work. Vault's
//! periodic call, once a minute, only looks whether the keeper is at work.

mod timetable;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::{Clock, after};
use super::error::Error;
use super::nonce::Nonce;
use super::role::{Role, RoleName};
use super::rotation::{Recovery, recover, tend};
use super::state::Engine;
use crate::logical::StorageError;
use timetable::Timetable;

/// What the keeper looks after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// A role: its rotations and revocations.
    Tend(RoleName),
    /// An intent that is adrift.
    Recover(Nonce),
}

/// The keeper of a mount.
pub struct Keeper {
    clock: Arc<dyn Clock>,
    // A plain mutex: it is never held across an await.
    timetable: Mutex<Timetable<Task>>,
    changed: Notify,
    at_work: AtomicBool,
    /// No new step is begun.
    stopping: CancellationToken,
    /// What is still under way is dropped.
    abandoned: CancellationToken,
    tasks: TaskTracker,
}

impl Keeper {
    /// A keeper that has not begun its work.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            timetable: Mutex::default(),
            changed: Notify::new(),
            at_work: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Begins the work, unless it has begun: reads what there is to look after, in the background.
    pub fn start(&self, engine: &Arc<Engine>) {
        if self.at_work.swap(true, Ordering::AcqRel) || self.is_stopping() {
            return;
        }
        let engine = Arc::clone(engine);
        self.spawn(async move {
            if let Err(reason) = load(&engine).await {
                tracing::error!(mount = engine.mount, %reason, "roles cannot be looked after yet");
                // The next periodic call tries again.
                engine.keeper.at_work.store(false, Ordering::Release);
                return;
            }
            engine.keeper.run(&engine).await;
        });
    }

    /// Looks after this at that time instead of the time before.
    pub fn plan(&self, task: Task, at: Timestamp) {
        if self.timetable().set(task, at) {
            self.changed.notify_one();
        }
    }

    /// Looks after this now.
    pub fn now(&self, task: Task) {
        self.plan(task, self.clock.now());
    }

    /// There is nothing to look after there any more.
    pub fn forget(&self, task: &Task) {
        self.timetable().remove(task);
    }

    /// Whether the mount is about to go away: finish the step under way, begin no other.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Ends the work: steps under way get a moment to finish, what is left then is dropped. Every
    /// step can be: it is what a crash would do.
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

    async fn run(&self, engine: &Arc<Engine>) {
        while !self.is_stopping() {
            let now = self.clock.now();
            let due = self.timetable().due(now);
            for task in due {
                // Should the task die of a fault of ours, it is begun anew; when it ends in good
                // order, it sets its next time itself.
                self.plan(task.clone(), after(now, LOST_AFTER));
                let engine = Arc::clone(engine);
                self.spawn(async move { look_after(&engine, task).await });
            }
            let next = self.timetable().next().unwrap_or(Timestamp::MAX);
            tokio::select! {
                () = self.clock.sleep_until(next) => {}
                () = self.changed.notified() => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let abandoned = self.abandoned.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = abandoned.cancelled() => {}
                () = work => {}
            }
        });
    }

    fn timetable(&self) -> MutexGuard<'_, Timetable<Task>> {
        self.timetable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads every intent and every role once. An entry that cannot be read costs only itself.
async fn load(engine: &Arc<Engine>) -> Result<(), Error> {
    for reason in engine.intents.load(&*engine.storage).await? {
        tracing::error!(mount = engine.mount, %reason, "an intent is left alone");
    }
    for intent in engine.intents.all() {
        if engine.intents.adrift(&intent.nonce).is_some() {
            engine.keeper.now(Task::Recover(intent.nonce));
        }
    }
    for name in Role::names(&*engine.storage).await? {
        engine.schedule(&name).await;
    }
    Ok(())
}

async fn look_after(engine: &Arc<Engine>, task: Task) {
    let next = match &task {
        Task::Tend(name) => tend(engine, name).await,
        Task::Recover(nonce) => match recover(engine, nonce).await {
            Ok(Recovery::Settled) => Ok(None),
            Ok(Recovery::LookAgain(at)) => Ok(Some(at)),
            Err(reason) => Err(reason),
        },
    };
    match next {
        Ok(Some(at)) => engine.keeper.plan(task, at),
        Ok(None) => engine.keeper.forget(&task),
        // This node has become one that may not write; its successor goes on.
        Err(Error::Storage(StorageError::ReadOnly)) => engine.keeper.forget(&task),
        Err(reason) => {
            tracing::warn!(mount = engine.mount, ?task, %reason, "this is tried again");
            let wait = reason.retry_after().unwrap_or_default().as_secs();
            let again = after(engine.clock.now(), wait.clamp(AGAIN_AFTER, LOST_AFTER));
            engine.keeper.plan(task, again);
        }
    }
}

/// What steps under way get to finish when the mount goes away; sealing waits for it.
const LAST_STEPS: Duration = Duration::from_secs(1);
/// In seconds: a task that neither ended nor failed by then is begun anew. Longer than any work
/// under a role's lock takes.
const LOST_AFTER: u64 = 15 * 60;
/// In seconds: when storage failed, or a recovery could not reach OpenRouter.
const AGAIN_AFTER: u64 = 15;
