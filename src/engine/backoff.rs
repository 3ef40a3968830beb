//! How long to wait before something that failed is tried again. Used wherever the engine tries
//! again by itself; what is done with the time is each caller's own.

use std::time::Duration;

use super::nonce::Randomness;

/// How long to wait after so many failures in a row: a second, doubled with every failure up to
/// [`LONGEST`], less a random half, so that what failed together does not come back together.
pub fn delay(attempts: u32, randomness: &dyn Randomness) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    let longest = doubled.min(LONGEST);
    let [a, b, ..] = randomness.bytes();
    let random = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
    longest.mul_f64(1.0 - random / 2.0)
}

const FIRST: Duration = Duration::from_secs(1);
/// Where the doubling ends.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(u8);

    impl Randomness for Always {
        fn bytes(&self) -> [u8; 16] {
            [self.0; 16]
        }
    }

    #[test]
    fn the_wait_doubles_from_a_second_to_an_hour_less_a_random_half() {
        for (attempts, seconds) in [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (400, 3600)] {
            let longest = Duration::from_secs(seconds);
            assert_eq!(delay(attempts, &Always(0)), longest, "{attempts}");
            assert_eq!(delay(attempts, &Always(255)), longest / 2, "{attempts}");
        }
    }
}
