//! The record of a failure that is stored with a role, and when what failed is tried again.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::backoff::{LONGEST, delay};
use crate::engine::clock::after;
use crate::engine::error::Error;
use crate::engine::randomness::Randomness;
use crate::engine::role::rotating::Failure;

/// The record of a failure after `previous`, and the time of the next try: a second, doubled with
/// every failure in a row up to an hour, less a random half, so that roles that failed together do
/// not come back together; later if OpenRouter asked for that.
pub fn failed(
    previous: Option<&Failure>,
    reason: &Error,
    now: Timestamp,
    randomness: &dyn Randomness,
) -> Failure {
    let attempts = previous
        .map_or(0, |failure| failure.attempts)
        .saturating_add(1);
    let asked = reason
        .retry_after()
        .unwrap_or(Duration::ZERO)
        .min(LONGEST_ASKED);
    let wait = delay(attempts, randomness).max(asked);
    Failure {
        attempts,
        at: now,
        message: reason.to_string(),
        retry_at: now
            .checked_add(jiff::SignedDuration::try_from(wait).unwrap_or_default())
            .unwrap_or_else(|_| after(now, LONGEST.as_secs())),
    }
}

/// Longer is taken for a mistake of whoever asks.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::randomness::Always;
    use crate::openrouter;

    #[test]
    fn openrouters_own_wish_is_honoured_when_it_is_longer() {
        let asked = |seconds| Error::OpenRouter {
            doing: String::new(),
            reason: openrouter::Error::RateLimited {
                retry_after: Some(Duration::from_secs(seconds)),
                message: String::new(),
            },
        };
        let now = Timestamp::UNIX_EPOCH;
        let wait = |reason: &Error| failed(None, reason, now, &Always(0)).retry_at.as_second();
        assert_eq!(wait(&asked(30)), 30);
        assert_eq!(wait(&asked(0)), 1);
        assert_eq!(wait(&asked(10_000_000)), 24 * 60 * 60);
    }
}
