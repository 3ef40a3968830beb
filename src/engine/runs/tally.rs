//! The progress of a job, and whether it should continue.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::engine::books::{Named, Outcome};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RunId;
use crate::logical::StorageError;
use crate::openrouter;

/// A run in progress.
#[derive(Clone, Copy)]
pub(super) struct Ongoing<'a> {
    pub(super) engine: &'a Engine,
    pub(super) id: &'a RunId,
    pub(super) began: Timestamp,
}

impl Ongoing<'_> {
    /// Whether to begin another step: the run was neither cancelled nor replaced, and the mount is not
    /// closing.
    pub(super) fn is_on(&self) -> bool {
        let engine = self.engine;
        engine.runs().is_active(self.id, self.began) && !engine.keeper.is_stopping()
    }

    /// Reports the progress to the callers.
    pub(super) fn note(&self, tally: &Tally) {
        self.engine
            .runs()
            .note(self.id, self.began, tally.outcome());
    }
}

/// The progress of a job.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) total: usize,
    pub(super) done: usize,
    pub(super) skipped: BTreeMap<String, String>,
    /// Items that failed permanently.
    pub(super) given_up: BTreeMap<String, String>,
    /// Items that are retried.
    pub(super) failing: BTreeMap<String, String>,
    /// Items to retry from the last pass that this pass has not reached yet.
    failing_before: BTreeMap<String, String>,
    pub(super) refusal: Option<String>,
}

impl Tally {
    /// The progress with this many items, none of which is done.
    pub(super) fn of(total: usize) -> Self {
        Self {
            total,
            ..Self::default()
        }
    }

    /// The outcome for callers and storage.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            total: self.total,
            done: self.done,
            skipped: Named::of(&[&self.skipped]),
            left: Named::of(&[&self.given_up, &self.failing, &self.failing_before]),
            refusal: self.refusal.clone(),
        }
    }

    /// Records a failure. Returns the reason if the item has to be retried.
    ///
    /// # Errors
    /// If this node may no longer write.
    pub(super) fn failed(&mut self, what: String, reason: Error) -> Result<Option<Error>, Error> {
        if matches!(reason, Error::Storage(StorageError::ReadOnly)) {
            return Err(reason);
        }
        if is_temporary(&reason) {
            self.fails(what, reason.to_string());
            Ok(Some(reason))
        } else {
            self.give_up(what, reason.to_string());
            Ok(None)
        }
    }

    /// Records an item to retry.
    pub(super) fn fails(&mut self, what: String, why: String) {
        self.succeeded(&what);
        self.failing.insert(what, why);
    }

    /// Records a permanent failure.
    pub(super) fn give_up(&mut self, what: String, why: String) {
        self.succeeded(&what);
        self.given_up.insert(what, why);
    }

    /// Records that an item was done after all.
    pub(super) fn succeeded(&mut self, what: &str) {
        self.failing.remove(what);
        self.failing_before.remove(what);
        self.given_up.remove(what);
    }

    /// Starts a pass over the remaining items. Only its own failures count at the end: a key that it does not
    /// mention has been revoked in another way.
    pub(super) fn begin_pass(&mut self) {
        self.failing_before = std::mem::take(&mut self.failing);
    }

    /// Ends the pass.
    pub(super) fn end_pass(&mut self) {
        self.failing_before.clear();
    }
}

/// Whether a failure is temporary, so that a retry can succeed.
pub(super) fn is_temporary(reason: &Error) -> bool {
    match reason {
        Error::OpenRouter { reason, .. } => matches!(
            reason,
            openrouter::Error::RateLimited { .. }
                | openrouter::Error::Unreachable { .. }
                | openrouter::Error::Unclear { .. }
        ),
        Error::Storage(StorageError::Malformed { .. }) => false,
        Error::Conflict(_) | Error::Storage(_) | Error::System(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Error {
        Error::OpenRouter {
            doing: "it".to_owned(),
            reason: openrouter::Error::Unclear {
                reason: "connection refused".to_owned(),
                retry_after: None,
            },
        }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_and_the_rest_is_named_for_good() {
        let mut tally = Tally::default();
        let again = tally.failed("a".to_owned(), away()).unwrap();
        assert_eq!(again, Some(away()));
        assert_eq!(tally.outcome().left.count, 1);
        let refused = Error::invalid("no");
        assert_eq!(tally.failed("a".to_owned(), refused).unwrap(), None);
        assert!(tally.failing.is_empty());
        assert_eq!(tally.outcome().left.names["a"], "no");
        tally.succeeded("a");
        assert_eq!(tally.outcome().left.count, 0);
    }

    #[test]
    fn what_a_pass_does_not_find_failing_any_more_is_named_until_its_end() {
        let mut tally = Tally::default();
        for what in ["a", "b", "c"] {
            tally.failed(what.to_owned(), away()).unwrap();
        }
        tally.begin_pass();
        assert_eq!(tally.outcome().left.count, 3);
        tally.failed("a".to_owned(), away()).unwrap();
        tally.succeeded("b");
        assert_eq!(tally.outcome().left.count, 2);
        tally.end_pass();
        assert_eq!(Vec::from_iter(tally.outcome().left.names.keys()), ["a"]);
    }

    #[test]
    fn a_node_that_may_not_write_any_more_gives_the_run_up() {
        let mut tally = Tally::default();
        let read_only = Error::Storage(StorageError::ReadOnly);
        tally.failed("a".to_owned(), read_only).unwrap_err();
        assert_eq!(tally.outcome(), Outcome::default());
    }

    #[test]
    fn an_unreadable_entry_does_not_become_readable() {
        let malformed = StorageError::Malformed {
            key: "roles/a".to_owned(),
            reason: "Eof".to_owned(),
        };
        assert!(!is_temporary(&malformed.into()));
        assert!(is_temporary(
            &StorageError::Failed("timeout".to_owned()).into()
        ));
        assert!(!is_temporary(&Error::Missing("c".to_owned())));
    }
}
