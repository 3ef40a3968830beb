//! A run as its reader sees it. Never a secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::engine::books::{Run, Work};
use crate::engine::error::Error;
use crate::logical::Response;
use crate::openrouter::KeyHash;

/// What is answered of a run.
pub(super) fn shown(run: &Run) -> Result<Response, Error> {
    let shown = match &run.work {
        Work::RotateAll { grace } => Response::showing(&RotateAllView::of(run, *grace)),
        Work::Tidy {
            dry_run,
            keys,
            more,
        } => Response::showing(&TidyView::of(run, *dry_run, keys, *more)),
        Work::Teardown { cancelled } => Response::showing(&TeardownView::of(run, *cancelled)),
    };
    shown.map_err(Error::Answer)
}

/// What its reader should know.
pub(super) fn warnings(run: &Run) -> Vec<String> {
    let (outcome, mut warnings) = (&run.outcome, Vec::new());
    let left = outcome.left.count;
    match (&run.work, run.ended) {
        _ if run.cancelled().is_some() => {}
        (_, None) => warnings.push(
            "it is not over yet and goes on by itself; read this path to see how far it is"
                .to_owned(),
        ),
        (Work::RotateAll { .. }, Some(_)) if left > 0 => warnings.push(format!(
            "{left} roles or keys are not done: see failed; write again once that is put right"
        )),
        (Work::Teardown { .. }, Some(_)) if left > 0 => warnings.push(format!(
            "{left} keys may still be alive: see left_alive; write again once that is put right"
        )),
        (Work::Tidy { .. }, Some(_)) if left > 0 => {
            warnings.push(format!("{left} keys could not be removed: see failed"));
        }
        _ => {}
    }
    if let Work::Tidy { more, .. } = run.work
        && more > 0
    {
        warnings.push(format!(
            "there are {more} more keys that nobody has: remove these, then write with dry_run=true again"
        ));
    }
    if let Some(reason) = &outcome.refusal {
        warnings.push(format!("nothing was listed: {reason}"));
    }
    warnings
}

/// What every run has.
#[derive(Serialize)]
struct Beginning {
    state: &'static str,
    began_at: Timestamp,
    ended_at: Option<Timestamp>,
}

impl Beginning {
    fn of(run: &Run) -> Self {
        let state = match (run.cancelled(), run.ended) {
            (Some(_), _) => "cancelled",
            (None, None) => "running",
            (None, Some(_)) => "finished",
        };
        Self {
            state,
            began_at: run.began,
            ended_at: run.ended,
        }
    }
}

#[derive(Serialize)]
struct RotateAllView<'a> {
    #[serde(flatten)]
    beginning: Beginning,
    rotation_grace_period: Option<u64>,
    roles: usize,
    rotated: usize,
    skipped: &'a BTreeMap<String, String>,
    failed: &'a BTreeMap<String, String>,
}

impl<'a> RotateAllView<'a> {
    fn of(run: &'a Run, grace: Option<u64>) -> Self {
        let outcome = &run.outcome;
        Self {
            beginning: Beginning::of(run),
            rotation_grace_period: grace,
            roles: outcome.total,
            rotated: outcome.done,
            skipped: &outcome.skipped.names,
            failed: &outcome.left.names,
        }
    }
}

#[derive(Serialize)]
struct TidyView<'a> {
    #[serde(flatten)]
    beginning: Beginning,
    dry_run: bool,
    keys: Vec<KeyView<'a>>,
    more: usize,
    removed: usize,
    kept: &'a BTreeMap<String, String>,
    failed: &'a BTreeMap<String, String>,
    refusal: Option<&'a str>,
}

impl<'a> TidyView<'a> {
    fn of(run: &'a Run, dry_run: bool, keys: &'a BTreeMap<KeyHash, String>, more: usize) -> Self {
        let outcome = &run.outcome;
        Self {
            beginning: Beginning::of(run),
            dry_run,
            keys: keys.iter().map(KeyView::of).collect(),
            more,
            removed: outcome.done,
            kept: &outcome.skipped.names,
            failed: &outcome.left.names,
            refusal: outcome.refusal.as_deref(),
        }
    }
}

/// A key that was listed.
#[derive(Serialize)]
struct KeyView<'a> {
    key_hash: &'a KeyHash,
    key_name: &'a str,
}

impl<'a> KeyView<'a> {
    fn of((key_hash, key_name): (&'a KeyHash, &'a String)) -> Self {
        Self { key_hash, key_name }
    }
}

#[derive(Serialize)]
struct TeardownView<'a> {
    #[serde(flatten)]
    beginning: Beginning,
    cancelled_at: Option<Timestamp>,
    roles: usize,
    roles_done: usize,
    left_alive: &'a BTreeMap<String, String>,
}

impl<'a> TeardownView<'a> {
    fn of(run: &'a Run, cancelled_at: Option<Timestamp>) -> Self {
        let outcome = &run.outcome;
        Self {
            beginning: Beginning::of(run),
            cancelled_at,
            roles: outcome.total,
            roles_done: outcome.done,
            left_alive: &outcome.left.names,
        }
    }
}
