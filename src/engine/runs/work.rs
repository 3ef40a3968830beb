//! Continues a run until it has finished.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::rotate_all::RotateAll;
use super::tally::{Ongoing, Tally};
use super::teardown::Teardown;
use super::tidy::{DryRun, Removal};
use crate::engine::books::{Outcome, Run, Work};
use crate::engine::clock::after;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::names::RunId;
use crate::engine::retry::delay;
use crate::engine::role::Role;
use crate::logical::StorageError;

/// A job that is done in passes.
#[async_trait]
pub(super) trait Job: Send {
    /// Tries each remaining item once. Returns why one of them has to be retried, or `None`.
    ///
    /// # Errors
    /// Errors from storage. The run starts from the beginning.
    async fn pass(&mut self) -> Result<Option<Error>, Error>;

    /// The progress.
    fn tally(&mut self) -> &mut Tally;

    /// The work to store with the finished run, if it differs from the order.
    fn work(&self) -> Option<Work> {
        None
    }
}

/// Continues a run, as the keeper's task. Returns when to continue it again; `None` if it has finished.
///
/// # Errors
/// Errors from storage. The caller retries.
pub async fn resume(engine: &Engine, id: &RunId) -> Result<Option<Timestamp>, Error> {
    engine.books().await?;
    let runs = engine.runs();
    let Some(_worker) = runs.try_work(id) else {
        return Ok(Some(after(engine.now(), CHECK_AGAIN)));
    };
    {
        // Read as a successor would read it: an earlier store may have had another outcome than reported.
        let _held = runs.lock(id).await;
        match runs.reload(&*engine.storage, id).await {
            Err(reason @ StorageError::Malformed { .. }) => {
                tracing::error!(mount = engine.mount, %reason, "an unreadable run is skipped");
                return Ok(None);
            }
            read => read?,
        };
    }
    while let Some(run) = runs.get(id) {
        if run.is_active() {
            carry_out(engine, id, run).await?;
        } else {
            if run.cancelled().is_some() {
                serve_again(engine).await?;
            }
            return Ok(runs.confirm(&*engine.storage, id, engine.now()).await?);
        }
        if engine.keeper.is_stopping() {
            return Ok(None);
        }
    }
    // Nothing is read, but a store that reported failure may have been committed.
    Ok(runs.confirm(&*engine.storage, id, engine.now()).await?)
}

async fn carry_out(engine: &Engine, id: &RunId, run: Run) -> Result<(), Error> {
    let began = run.began;
    let ongoing = Ongoing { engine, id, began };
    let mut job: Box<dyn Job + '_> = match (id, run.work) {
        (RunId::RotateAll(connection), Work::RotateAll { grace }) => {
            Box::new(RotateAll::new(ongoing, connection, grace))
        }
        (RunId::Tidy(connection), Work::Tidy { dry_run: true, .. }) => {
            Box::new(DryRun::new(ongoing, connection))
        }
        (RunId::Tidy(connection), Work::Tidy { keys, .. }) => {
            Box::new(Removal::new(ongoing, connection, keys))
        }
        (RunId::Teardown, Work::Teardown { .. }) => Box::new(Teardown::new(ongoing)),
        (id, _) => {
            tracing::error!(mount = engine.mount, run = %id, "an entry has the wrong kind of \
                                                              content");
            return finish(ongoing, Outcome::default(), None).await;
        }
    };
    let mut attempts = 0;
    loop {
        job.tally().begin_pass();
        let again = job.pass().await?;
        job.tally().end_pass();
        ongoing.note(job.tally());
        if !ongoing.is_on() {
            return Ok(());
        }
        let Some(reason) = again else { break };
        attempts += 1;
        tracing::warn!(
            mount = engine.mount,
            run = %id,
            attempts,
            %reason,
            "a run is not finished; the remaining items are retried"
        );
        pause(ongoing, attempts, &reason).await;
        if !ongoing.is_on() {
            return Ok(());
        }
    }
    let outcome = job.tally().outcome();
    finish(ongoing, outcome, job.work()).await
}

async fn pause(ongoing: Ongoing<'_>, attempts: u32, reason: &Error) {
    let Ongoing { engine, .. } = ongoing;
    let wait = delay(attempts, reason, &*engine.randomness);
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    let until = engine.now().checked_add(wait).unwrap_or(Timestamp::MAX);
    loop {
        let changed = engine.runs().changed();
        if engine.now() >= until || !ongoing.is_on() {
            return;
        }
        tokio::select! {
            () = engine.clock.sleep_until(until) => {}
            () = changed => {}
        }
    }
}

/// Stores that the run has finished, unless it was cancelled or replaced.
async fn finish(ongoing: Ongoing<'_>, outcome: Outcome, work: Option<Work>) -> Result<(), Error> {
    let Ongoing { engine, id, began } = ongoing;
    let runs = engine.runs();
    {
        let _held = runs.lock(id).await;
        let Some(mut run) = runs.get(id).filter(|_| runs.is_active(id, began)) else {
            return Ok(());
        };
        run.ended = Some(engine.now());
        run.outcome = outcome.clone();
        if let Some(work) = work {
            run.work = work;
        }
        runs.store(&*engine.storage, id, run, engine.now()).await?;
    }
    tracing::warn!(
        mount = engine.mount,
        run = %id,
        total = outcome.total,
        done = outcome.done,
        skipped = outcome.skipped.count,
        left = outcome.left.count,
        "a run has finished"
    );
    events::run_over(engine, id, &outcome).await;
    Ok(())
}

/// The teardown was cancelled: every role is tended again, which creates new keys where rotation is
/// automated.
async fn serve_again(engine: &Engine) -> Result<(), Error> {
    for name in Role::names(&*engine.storage).await? {
        // If a role cannot be read, it has been reported to the keeper.
        let _ = engine.schedule(&name).await;
    }
    Ok(())
}

/// In seconds, for a run that another task is working on.
const CHECK_AGAIN: u64 = 5;
