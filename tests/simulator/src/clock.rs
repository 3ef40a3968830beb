//! The simulator's current time.
//!
//! Expiries, limit windows and timestamps use only this clock, so that a test can let a month pass at
//! once. Latency and slow replies are delays in tokio's time, and do not use it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A clock that follows the system's or tokio's time, or stands still. It can always be moved.
///
/// Clones share one clock: moving one moves all.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<Reading>>);

#[derive(Clone, Copy, Debug)]
enum Reading {
    System { ahead: SignedDuration },
    Tokio { then: Instant, shown: Timestamp },
    Standing(Timestamp),
}

impl Clock {
    /// A clock that runs with the system's.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(Reading::System {
            ahead: SignedDuration::ZERO,
        })))
    }

    /// A clock that shows `instant` now and runs with tokio's time, which a test can pause: delays and
    /// expiries then pass together.
    #[must_use]
    pub fn tokio_from(instant: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Reading::tokio(instant))))
    }

    /// A clock that shows `instant` until it is moved.
    #[must_use]
    pub fn standing_at(instant: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Reading::Standing(instant))))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.reading().now()
    }

    /// Moves the clock forward; a running clock continues from there.
    pub fn advance(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        self.set(later(self.now(), by));
    }

    /// Sets the clock to `instant`; a running clock continues from there. May move backwards.
    pub fn set(&self, instant: Timestamp) {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *reading = match *reading {
            Reading::System { .. } => Reading::System {
                ahead: instant.duration_since(system_time()),
            },
            Reading::Tokio { .. } => Reading::tokio(instant),
            Reading::Standing(_) => Reading::Standing(instant),
        };
    }

    fn reading(&self) -> Reading {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Reading {
    fn tokio(shown: Timestamp) -> Self {
        let then = Instant::now();
        Self::Tokio { then, shown }
    }

    fn now(self) -> Timestamp {
        match self {
            Self::System { ahead } => later(system_time(), ahead),
            Self::Tokio { then, shown } => {
                let passed = SignedDuration::try_from(then.elapsed());
                later(shown, passed.unwrap_or(SignedDuration::MAX))
            }
            Self::Standing(instant) => instant,
        }
    }
}

/// `instant + by`, capped at the end of representable time.
pub(crate) fn later(instant: Timestamp, by: SignedDuration) -> Timestamp {
    instant.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the system's time"
)]
fn system_time() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_clock_moves_only_when_told() {
        let clock = Clock::standing_at("2026-11-20T12:00:00Z".parse().unwrap());
        let twin = clock.clone();
        clock.advance(Duration::from_secs(90));
        assert_eq!(twin.now(), "2026-11-20T12:01:30Z".parse().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_of_tokios_time_moves_with_it() {
        let clock = Clock::tokio_from("2026-11-20T12:00:00Z".parse().unwrap());
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now(), "2026-11-20T12:01:30Z".parse().unwrap());
        clock.set("2026-11-21T00:00:00Z".parse().unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), "2026-11-21T00:00:01Z".parse().unwrap());
    }

    #[test]
    fn a_running_clock_runs_on_from_where_it_was_set() {
        let clock = Clock::system();
        let target: Timestamp = "2040-01-01T00:00:00Z".parse().unwrap();
        clock.set(target);
        let now = clock.now();
        assert!(
            now >= target && now < later(target, SignedDuration::from_mins(5)),
            "{now}"
        );
    }
}
