//! When a failed operation is retried: the one policy for everything that the engine retries.

use std::time::Duration;

use super::error::Error;
use super::randomness::Randomness;

/// How long to wait after this many consecutive failures: one second, doubled with every failure up to an
/// hour, minus up to half of it at random, so that operations that failed together are not retried
/// together. Longer if OpenRouter asked for that, up to a day.
pub fn delay(attempts: u32, reason: &Error, randomness: &dyn Randomness) -> Duration {
    backoff(attempts, randomness).max(asked(reason))
}

/// The same where failures are not counted: about `elapsed`, which is how long the operation has been in
/// progress, and at least 15 seconds, so that the retries after an outage do not cause the next one. In
/// seconds.
pub fn delay_by_elapsed(elapsed: u64, reason: &Error, randomness: &dyn Randomness) -> u64 {
    let doublings = u64::BITS - elapsed.leading_zeros();
    let wait = delay(doublings + 1, reason, randomness);
    wait.max(SHORTEST_BY_ELAPSED).as_secs()
}

fn backoff(attempts: u32, randomness: &dyn Randomness) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    let longest = doubled.min(LONGEST);
    let [a, b, ..] = randomness.bytes();
    let random = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
    longest.mul_f64(1.0 - random / 2.0)
}

/// A longer wait is considered a mistake of the server that asks for it.
fn asked(reason: &Error) -> Duration {
    reason.retry_after().unwrap_or_default().min(LONGEST_ASKED)
}

const FIRST: Duration = Duration::from_secs(1);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(60 * 60);
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_BY_ELAPSED: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::randomness::Always;
    use crate::openrouter;

    fn asking(seconds: u64) -> Error {
        Error::OpenRouter {
            doing: String::new(),
            reason: openrouter::Error::RateLimited {
                retry_after: Some(Duration::from_secs(seconds)),
                message: String::new(),
            },
        }
    }

    #[test]
    fn the_wait_doubles_from_a_second_to_an_hour_less_a_random_half() {
        let reason = asking(0);
        for (attempts, seconds) in [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (400, 3600)] {
            let longest = Duration::from_secs(seconds);
            assert_eq!(delay(attempts, &reason, &Always(0)), longest, "{attempts}");
            let shortest = longest / 2;
            assert_eq!(
                delay(attempts, &reason, &Always(255)),
                shortest,
                "{attempts}"
            );
        }
    }

    #[test]
    fn openrouters_own_wish_is_honoured_when_it_is_longer() {
        let day = 24 * 60 * 60;
        for (asked, counted, by_elapsed) in [(0, 1, 15), (30, 30, 30), (10_000_000, day, day)] {
            let reason = asking(asked);
            assert_eq!(delay(1, &reason, &Always(0)).as_secs(), counted);
            assert_eq!(delay_by_elapsed(0, &reason, &Always(0)), by_elapsed);
        }
    }
}
