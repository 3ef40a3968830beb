//! The engine's source of time.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Tells the time, and waits for it.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time now. It may jump, in either direction.
    fn now(&self) -> Timestamp;

    /// Returns at `until`, or after [`LONGEST_NAP`] if that is sooner. Callers check the time again, so a
    /// clock that was set or a machine that was suspended delays them by no more than that.
    async fn sleep_until(&self, until: Timestamp);

    /// How long the machine has been running, including suspensions. Only the difference between two
    /// answers is meaningful. The default uses the time, which suits clocks that nobody sets.
    fn uptime(&self) -> Duration {
        Duration::try_from(self.now().duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
    }
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, until: Timestamp) {
        let nap = Duration::try_from(until.duration_since(self.now())).unwrap_or(Duration::ZERO);
        tokio::time::sleep(nap.min(LONGEST_NAP)).await;
    }

    fn uptime(&self) -> Duration {
        // Not the monotonic clock, which stands still while the machine is suspended.
        Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
    }
}

/// `at`, `seconds` later. Saturates at the last representable time, about 8,000 years from now.
pub fn after(at: Timestamp, seconds: u64) -> Timestamp {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| at.checked_add(SignedDuration::from_secs(seconds)).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Whole seconds from `now` until `then`, rounded down; zero if `then` has passed.
pub fn seconds_until(now: Timestamp, then: Timestamp) -> u64 {
    u64::try_from(then.duration_since(now).as_secs()).unwrap_or(0)
}

/// How long a wait may last before the clock is checked again.
pub const LONGEST_NAP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_overflowing() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(after(now, u64::MAX), Timestamp::MAX);
        assert_eq!(after(now, 5).as_second(), 5);
    }

    #[test]
    fn the_time_left_is_rounded_down_and_never_negative() {
        let now = Timestamp::from_millisecond(1_500).unwrap();
        assert_eq!(seconds_until(now, Timestamp::from_second(4).unwrap()), 2);
        assert_eq!(seconds_until(now, Timestamp::UNIX_EPOCH), 0);
    }
}
