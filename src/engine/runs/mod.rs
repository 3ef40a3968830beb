//! Runs: jobs that take longer than a request may. They rotate every role of a connection, remove stray
//! keys, or tear the mount down.
//!
//! - [`order`]: the effect of a request, given the stored run. Pure.
//! - [`work`](mod@work): continues a run until it has finished, and pauses after temporary failures.
//! - [`rotate_all`], [`tidy`], [`teardown`]: one pass of each job over the remaining items.
//! - [`tally`]: the progress of a job.
//! - The stored runs and their state in memory are in the [`books`](super::books).
//!
//! # Expected flow
//! 1. A request stores a run, or joins one, and schedules it with the keeper.
//! 2. It waits for the run, at most for [`LONGEST_WAIT`], and answers with its progress.
//! 3. The keeper goes through all items, and again through those that failed temporarily, until none does.
//!    Then it stores the outcome.
//!
//! # Guarantees
//! - A run does not depend on its callers. After a crash or a failover the next leader continues it.
//! - Permanent failures are named in the answer, and not retried.
//! - Keys that storage knows are revoked by the same code as outside a run.
//! - Without an active run there is no work and no request.

mod order;
mod rotate_all;
mod tally;
mod teardown;
mod tidy;
mod work;

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::books::{Run, Work};
use super::clock::after;
use super::context::Engine;
use super::error::Error;
use super::names::{ConnectionName, RunId};
use super::task::Task;
use order::Decision;

pub use work::resume;

/// The request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// New keys for the roles of a connection. The superseded ones keep working for this many seconds, or for
    /// each role's own grace period.
    RotateAll(ConnectionName, Option<u64>),
    /// List the stray keys (`true`), or remove those that were listed.
    Tidy(ConnectionName, bool),
    /// Revoke every key of the mount.
    Teardown,
}

impl Wanted {
    fn id(&self) -> RunId {
        match self {
            Self::RotateAll(connection, _) => RunId::RotateAll(connection.clone()),
            Self::Tidy(connection, _) => RunId::Tidy(connection.clone()),
            Self::Teardown => RunId::Teardown,
        }
    }
}

/// Starts a run, or joins the active one, and waits for it. Returns its current state, with a warning if it
/// is not exactly what was requested.
///
/// # Errors
/// [`Error::Invalid`] and [`Error::Conflict`] if it cannot start; [`Error::Missing`] if there is no such
/// connection; errors from storage.
pub async fn order(
    engine: &Engine,
    wanted: Wanted,
    caller_gone: &CancellationToken,
) -> Result<(Run, Option<String>), Error> {
    let deadline = after(engine.now(), LONGEST_WAIT.as_secs());
    engine.books().await?;
    match &wanted {
        Wanted::Teardown => {}
        Wanted::RotateAll(connection, _) | Wanted::Tidy(connection, _) => {
            engine.require_in_service()?;
            engine.links.open(&*engine.storage, connection).await?;
        }
    }
    let id = wanted.id();
    let (began, warning) = {
        let (storage, runs) = (&*engine.storage, engine.runs());
        let _held = runs.lock(&id).await;
        let before = runs.reload(storage, &id).await?;
        match order::decide(before.as_ref(), &wanted)? {
            Decision::Join { began, warning } => (began, warning),
            Decision::Begin(work) => {
                let run = Run::new(work, engine.now());
                let began = run.began;
                store(engine, &id, run).await?;
                tracing::warn!(mount = engine.mount, run = %id, "started a run on request");
                (began, None)
            }
        }
    };
    engine.keeper.now(Task::Run(id.clone()));
    wait(engine, &id, began, deadline, caller_gone).await;
    let run = engine.runs().get(&id).ok_or_else(|| {
        Error::Conflict("this node no longer manages the mount; repeat the request".to_owned())
    })?;
    Ok((run, warning))
}

/// The active run, or the last one.
///
/// # Errors
/// Errors from storage.
pub async fn show(engine: &Engine, id: &RunId) -> Result<Option<Run>, Error> {
    engine.books().await?;
    let runs = engine.runs();
    let _held = runs.lock(id).await;
    Ok(runs.reload(&*engine.storage, id).await?)
}

/// Cancels the teardown of the mount. Keys are handed out and created again, and roles with automated
/// rotation get new ones.
///
/// # Errors
/// [`Error::Missing`] if the mount is not torn down; errors from storage.
pub async fn cancel_teardown(engine: &Engine) -> Result<Run, Error> {
    engine.books().await?;
    let (id, now, runs) = (RunId::Teardown, engine.now(), engine.runs());
    let cancelled = {
        let _held = runs.lock(&id).await;
        let before = runs.reload(&*engine.storage, &id).await?;
        let in_force = before.filter(|run| run.cancelled().is_none());
        let Some(run) = in_force else {
            return Err(Error::Missing("this mount is not torn down".to_owned()));
        };
        let cancelled = Run {
            work: Work::Teardown {
                cancelled: Some(now),
            },
            ..run
        };
        store(engine, &id, cancelled.clone()).await?;
        cancelled
    };
    tracing::warn!(
        mount = engine.mount,
        "the teardown of the mount is cancelled"
    );
    engine.keeper.now(Task::Run(id));
    Ok(cancelled)
}

/// Stores a run. If that fails, it is unknown what is stored. The keeper reads the entry when that is
/// certain, and continues with what it finds.
async fn store(engine: &Engine, id: &RunId, run: Run) -> Result<(), Error> {
    let now = engine.now();
    let stored = engine.runs().store(&*engine.storage, id, run, now).await;
    if stored.is_err() {
        let certain = after(engine.now(), super::books::OUTLIVED);
        engine.keeper.plan(Task::Run(id.clone()), certain);
    }
    Ok(stored?)
}

/// Returns when the run that began at this time has finished, when the time is up, or when the caller is
/// gone.
async fn wait(
    engine: &Engine,
    id: &RunId,
    began: Timestamp,
    deadline: Timestamp,
    caller_gone: &CancellationToken,
) {
    let runs = engine.runs();
    loop {
        let changed = runs.changed();
        let now = engine.now();
        if !runs.is_active(id, began) || now >= deadline {
            return;
        }
        // In short intervals, so that a clock that is set causes little delay.
        let nap = after(now, 1).min(deadline);
        tokio::select! {
            () = caller_gone.cancelled() => return,
            () = engine.clock.sleep_until(nap) => {}
            () = changed => {}
        }
    }
}

/// How long a request waits for its run. The server ends a request after 90 seconds, and clients give up
/// after 60.
const LONGEST_WAIT: Duration = Duration::from_secs(45);
