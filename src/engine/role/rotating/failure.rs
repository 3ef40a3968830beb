//! The record of a failure, which is stored with a role, and the time of its retry.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::randomness::Randomness;
use crate::engine::retry::delay;

/// A failure that is retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The number of consecutive attempts.
    pub attempts: u32,
    /// The time of the last failure.
    pub at: Timestamp,
    /// The reason.
    pub message: String,
    /// When it is retried.
    pub retry_at: Timestamp,
}

/// The record of a failure that follows `previous`, with the time of the retry: see [`delay`].
pub fn failed(
    previous: Option<&Failure>,
    reason: &Error,
    now: Timestamp,
    randomness: &dyn Randomness,
) -> Failure {
    let attempts = previous
        .map_or(0, |failure| failure.attempts)
        .saturating_add(1);
    let wait = SignedDuration::try_from(delay(attempts, reason, randomness));
    Failure {
        attempts,
        at: now,
        message: reason.to_string(),
        retry_at: now
            .checked_add(wait.unwrap_or(SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::randomness::Always;

    #[test]
    fn failures_in_a_row_are_counted_and_tried_again_later_and_later() {
        let reason = Error::invalid("no");
        let now = Timestamp::UNIX_EPOCH;
        let first = failed(None, &reason, now, &Always(0));
        assert_eq!((first.attempts, first.retry_at.as_second()), (1, 1));
        let second = failed(Some(&first), &reason, now, &Always(0));
        assert_eq!((second.attempts, second.retry_at.as_second()), (2, 2));
        assert_eq!(second.message, "no");
    }
}
