//! The response to a request for a run. Never a secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::books::{Run, Work};
use crate::engine::error::Error;
use crate::logical::Response;
use crate::openrouter::KeyHash;

/// The response that shows a run.
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

/// The warnings for the user.
pub(super) fn warnings(run: &Run) -> Vec<String> {
    let (outcome, mut warnings) = (&run.outcome, Vec::new());
    let left = outcome.left.count;
    match (&run.work, run.ended) {
        _ if run.cancelled().is_some() => {}
        (_, None) => warnings.push(
            "the run is still in progress and continues on its own; read this path to see its \
             progress"
                .to_owned(),
        ),
        (Work::RotateAll { .. }, Some(_)) if left > 0 => warnings.push(format!(
            "{left} roles or keys are not done: see failed; write again after fixing the cause"
        )),
        (Work::Teardown { .. }, Some(_)) if left > 0 => warnings.push(format!(
            "{left} keys may still be alive: see left_alive; write again after fixing the cause"
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
            "there are {more} more stray keys: remove these, then write with dry_run=true again"
        ));
    }
    if let Some(reason) = &outcome.refusal {
        warnings.push(format!("nothing was listed: {reason}"));
    }
    warnings
}

/// The fields of every run.
#[derive(Serialize, JsonSchema)]
struct Beginning {
    /// The state of the job: `running`, `finished` or `cancelled`.
    state: &'static str,
    /// When the job began.
    began_at: Timestamp,
    /// When the job ended; null while it runs.
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

#[derive(Serialize, JsonSchema)]
pub(super) struct RotateAllView<'a> {
    #[serde(flatten)]
    beginning: Beginning,
    /// The grace period of the replaced keys, in seconds; null for each role's own.
    rotation_grace_period: Option<u64>,
    /// How many roles use the connection.
    roles: usize,
    /// How many of them have a new key.
    rotated: usize,
    /// The roles that were skipped on purpose, with the reason.
    skipped: &'a BTreeMap<String, String>,
    /// The roles and keys that are not done, with the reason.
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

#[derive(Serialize, JsonSchema)]
pub(super) struct TidyView<'a> {
    #[serde(flatten)]
    beginning: Beginning,
    /// Whether keys are only listed.
    dry_run: bool,
    /// The keys that were listed.
    keys: Vec<KeyView<'a>>,
    /// How many more such keys there are.
    more: usize,
    /// How many keys were removed.
    removed: usize,
    /// The keys that were kept on purpose, by hash, with the reason.
    kept: &'a BTreeMap<String, String>,
    /// The keys that could not be removed, by hash, with the reason.
    failed: &'a BTreeMap<String, String>,
    /// Why nothing was listed.
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
#[derive(Serialize, JsonSchema)]
struct KeyView<'a> {
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    key_hash: &'a KeyHash,
    /// The key's name at OpenRouter.
    key_name: &'a str,
}

impl<'a> KeyView<'a> {
    fn of((key_hash, key_name): (&'a KeyHash, &'a String)) -> Self {
        Self { key_hash, key_name }
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct TeardownView<'a> {
    #[serde(flatten)]
    beginning: Beginning,
    /// When the teardown was cancelled.
    cancelled_at: Option<Timestamp>,
    /// How many roles the mount has.
    roles: usize,
    /// How many of them have no living key.
    roles_done: usize,
    /// The keys that may still be alive, with the reason.
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
