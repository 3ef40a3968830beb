//! How long to wait before something that failed is tried again. Used wherever the engine tries
//! again by itself; what is done with the time is each caller's own.

use std::time::Duration;

use crate::engine::error::Error;
use crate::engine::randomness::Randomness;

/// How long to wait after so many failures in a row: a second, doubled with every failure up to
/// [`LONGEST`], less a random half, so that what failed together does not come back together.
pub fn delay(attempts: u32, randomness: &dyn Randomness) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    let longest = doubled.min(LONGEST);
    let [a, b, ..] = randomness.bytes();
    let random = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
    longest.mul_f64(1.0 - random / 2.0)
}

/// How long to wait before something is tried again whose failures are not counted, in seconds: about
/// as long as it has been `going_on`, up to [`LONGEST`], so that what an outage leaves behind is not
/// what keeps OpenRouter down; longer if it asked for that.
pub fn as_long_again(going_on: u64, reason: &Error, randomness: &dyn Randomness) -> u64 {
    let doublings = u64::BITS - going_on.leading_zeros();
    let wait = delay(doublings + 1, randomness).as_secs();
    let asked = reason.retry_after().unwrap_or_default().as_secs();
    wait.max(asked.min(LONGEST_ASKED)).max(SHORTEST)
}

/// In seconds, of [`as_long_again`].
const SHORTEST: u64 = 15;
/// In seconds.
const LONGEST_ASKED: u64 = 15 * 60;
const FIRST: Duration = Duration::from_secs(1);
/// Where the doubling ends.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::randomness::Always;

    #[test]
    fn the_wait_doubles_from_a_second_to_an_hour_less_a_random_half() {
        for (attempts, seconds) in [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (400, 3600)] {
            let longest = Duration::from_secs(seconds);
            assert_eq!(delay(attempts, &Always(0)), longest, "{attempts}");
            assert_eq!(delay(attempts, &Always(255)), longest / 2, "{attempts}");
        }
    }
}
