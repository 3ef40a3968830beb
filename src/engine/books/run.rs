//! The stored form of a run: one entry, which stays small however much there is to do.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::stored::Stored;
use crate::openrouter::KeyHash;

/// A run as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it was ordered.
    pub began: Timestamp,
    /// When it ended; `None` while it is in progress.
    pub ended: Option<Timestamp>,
    /// What the run does.
    pub work: Work,
    /// The progress, or the result.
    #[serde(default)]
    pub outcome: Outcome,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Every role of a connection gets a new key.
    RotateAll {
        /// The grace period of the replaced keys, in seconds; `None` is each role's own.
        grace: Option<u64>,
    },
    /// Keys of this mount that belong to nobody are listed or removed.
    Tidy {
        /// Whether the keys are only listed.
        dry_run: bool,
        /// The keys that were listed, and their names.
        keys: BTreeMap<KeyHash, String>,
        /// The number of other keys.
        more: usize,
    },
    /// Every key of the mount is revoked, and none is created.
    Teardown {
        /// When it was cancelled, so that keys are created again.
        cancelled: Option<Timestamp>,
    },
}

/// The progress or the result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The number of roles or keys to process, as far as it is known.
    pub total: usize,
    /// The number of those that are done.
    pub done: usize,
    /// What was skipped on purpose, and why.
    pub skipped: Named,
    /// What is not done, and why.
    pub left: Named,
    /// Why nothing was done at all.
    pub refusal: Option<String>,
}

/// Names with reasons, at most [`MAX_NAMED`] of them, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub names: BTreeMap<String, String>,
}

impl Named {
    /// Combines these maps and keeps the first names. The cost does not depend on the names that are not
    /// kept.
    pub fn of(all: &[&BTreeMap<String, String>]) -> Self {
        let first = all.iter().flat_map(|part| part.iter()).take(MAX_NAMED);
        Self {
            count: all.iter().map(|part| part.len()).sum(),
            names: first
                .map(|(name, why)| (shortened(name), shortened(why)))
                .collect(),
        }
    }
}

/// Other systems' texts can be of any length, and the entry must not grow with them.
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

    /// Whether there is work left.
    pub fn is_active(&self) -> bool {
        self.ended.is_none() && self.cancelled().is_none()
    }

    /// Whether it was to revoke the key of a lease that was requested then. It may have done so even if it was
    /// cancelled.
    pub(super) fn was_to_revoke(&self, requested_at: Timestamp) -> bool {
        match self.work {
            Work::Teardown { cancelled } => cancelled.is_none_or(|until| requested_at < until),
            Work::RotateAll { grace } => grace == Some(0) && requested_at < self.began,
            Work::Tidy { .. } => false,
        }
    }

    /// When it was cancelled, if it is a teardown that was.
    pub fn cancelled(&self) -> Option<Timestamp> {
        match self.work {
            Work::Teardown { cancelled } => cancelled,
            Work::RotateAll { .. } | Work::Tidy { .. } => None,
        }
    }
}

/// Maximum number of names that are kept.
pub const MAX_NAMED: usize = 100;
/// In characters.
const LONGEST_TEXT: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    /// A lease that was requested at the very moment was handed out after it.
    #[test]
    fn a_run_was_to_revoke_the_leases_that_were_requested_before_it_or_before_its_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let teardown = |cancelled: Option<i64>| Work::Teardown {
            cancelled: cancelled.map(at),
        };
        let rotate_all = |grace| Work::RotateAll { grace };
        for (work, requested_at, expected) in [
            (teardown(None), 99, true),
            (teardown(Some(20)), 19, true),
            (teardown(Some(20)), 20, false),
            (rotate_all(Some(0)), 9, true),
            (rotate_all(Some(0)), 10, false),
            (rotate_all(Some(60)), 9, false),
            (rotate_all(None), 9, false),
        ] {
            let run = Run::new(work, at(10));
            let was_to = run.was_to_revoke(at(requested_at));
            assert_eq!(was_to, expected, "{:?} at {requested_at}", run.work);
        }
    }

    #[test]
    fn names_are_counted_and_the_first_hundred_kept_each_at_a_bounded_length() {
        let all: BTreeMap<_, _> = (0..1_000)
            .map(|number| (format!("{number:04}"), "ä".repeat(10_000)))
            .collect();
        let named = Named::of(&[&all, &BTreeMap::new()]);
        assert_eq!((named.count, named.names.len()), (1_000, MAX_NAMED));
        assert!(named.names.contains_key("0000") && !named.names.contains_key("0100"));
        assert_eq!(named.names["0000"].chars().count(), LONGEST_TEXT + 1);
    }
}
