//! Runs: jobs that take longer than a request may. Rotating every role of a connection, removing the keys
//! that nobody has, tearing the mount down.
//!
//! - [`order`]: what a request means, given the run that is stored. Pure.
//! - [`work`](mod@work): going on with a run until it is over, with pauses where something failed for now.
//! - [`rotate_all`], [`tidy`], [`teardown`]: one pass of each job over what is left to do.
//! - [`tally`]: how far a job is.
//! - What is stored, and what is known in memory, is in the [`books`](super::books).
//!
//! # Expected flow
//! 1. A request stores the run, or finds one to join, and has the keeper go on with it.
//! 2. It waits for the run, up to [`LONGEST_WAIT`], and answers with how far that is.
//! 3. The keeper goes through what there is to do, and again through what failed for now, until nothing
//!    does. Then it stores what came of it.
//!
//! # Guarantees
//! - A run depends on nobody who waits for it. After a crash or a failover the next node goes on with it.
//! - What cannot be done, for a reason that does not pass by itself, is named and not tried again.
//! - No key dies here that storage knows otherwise: each goes by the way on which it would die alone.
//! - While no run goes on nothing is done and nothing is asked.

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

pub use work::go_on;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// New keys for the roles of a connection; the ones before keep working for so many seconds, or as
    /// long as each role says.
    RotateAll(ConnectionName, Option<u64>),
    /// To list what nobody has (`true`), or to remove what was listed.
    Tidy(ConnectionName, bool),
    /// The end of every key of the mount.
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

/// Begins a run, or joins the one that goes on, and waits for it. Returns it as it is then, with a warning
/// where that is not quite what was asked for.
///
/// # Errors
/// [`Error::Invalid`] and [`Error::Conflict`] where it cannot begin; [`Error::Missing`] without the
/// connection; storage's own.
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
                tracing::warn!(mount = engine.mount, run = %id, "began a run, as it was ordered");
                (began, None)
            }
        }
    };
    engine.keeper.now(Task::Run(id.clone()));
    wait(engine, &id, began, deadline, caller_gone).await;
    let run = engine.runs().get(&id).ok_or_else(|| {
        Error::Conflict("this node does not look after the mount any more; ask again".to_owned())
    })?;
    Ok((run, warning))
}

/// A run that goes on, or the last one.
///
/// # Errors
/// Storage's own.
pub async fn show(engine: &Engine, id: &RunId) -> Result<Option<Run>, Error> {
    engine.books().await?;
    let runs = engine.runs();
    let _held = runs.lock(id).await;
    Ok(runs.reload(&*engine.storage, id).await?)
}

/// Takes the teardown of the mount back: keys are handed out and made again, and roles whose rotation is
/// automated get new ones.
///
/// # Errors
/// [`Error::Missing`] when the mount is not torn down; storage's own.
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

/// Stores a run. Where that fails nobody knows what is stored: the keeper reads it when that is certain,
/// and goes on with what it finds.
async fn store(engine: &Engine, id: &RunId, run: Run) -> Result<(), Error> {
    let now = engine.now();
    let stored = engine.runs().store(&*engine.storage, id, run, now).await;
    if stored.is_err() {
        let certain = after(engine.now(), super::books::OUTLIVED);
        engine.keeper.plan(Task::Run(id.clone()), certain);
    }
    Ok(stored?)
}

/// Returns when the run that began then is over, when the time is, or when nobody waits any more.
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
        if !runs.goes_on(id, began) || now >= deadline {
            return;
        }
        // In short naps: a clock that was set costs no more than one.
        let nap = after(now, 1).min(deadline);
        tokio::select! {
            () = caller_gone.cancelled() => return,
            () = engine.clock.sleep_until(nap) => {}
            () = changed => {}
        }
    }
}

/// How long a request waits for its run: the server ends a request after 90 seconds, and clients give up
/// after 60.
const LONGEST_WAIT: Duration = Duration::from_secs(45);
