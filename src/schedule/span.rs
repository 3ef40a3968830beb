//! The two durations in a schedule: how often it runs, and how late a run may start.
//!
//! Both are whole seconds, so they are stored and shown as integers without loss.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InvalidSchedule;

/// The time from one run to the next: a whole number of seconds, at least one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Period(u64);

/// How long after an occurrence its run may start: a whole number of seconds, at least an hour. The
/// minimum is Vault's own for `rotation_window`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Window(u64);

impl Period {
    /// # Errors
    ///
    /// [`InvalidSchedule::Period`] if `length` is shorter than a second or not whole seconds.
    pub fn new(length: Duration) -> Result<Self, InvalidSchedule> {
        whole_seconds(length, Duration::from_secs(1))
            .map(Self)
            .ok_or(InvalidSchedule::Period)
    }

    /// The length of the period.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// Whether the period is a multiple of 24 hours.
    #[must_use]
    pub const fn is_whole_days(self) -> bool {
        self.0.is_multiple_of(SECONDS_PER_DAY)
    }
}

impl Window {
    /// # Errors
    ///
    /// [`InvalidSchedule::Window`] if `length` is shorter than an hour or not whole seconds.
    pub fn new(length: Duration) -> Result<Self, InvalidSchedule> {
        whole_seconds(length, Duration::from_secs(3600))
            .map(Self)
            .ok_or(InvalidSchedule::Window)
    }

    /// The length of the window.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl fmt::Display for Period {
    /// In the largest unit that leaves no remainder: `30 days`, `90 minutes`, `1 hour`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_words(f, self.0)
    }
}

impl fmt::Display for Window {
    /// In the largest unit that leaves no remainder, as [`Period`] does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_words(f, self.0)
    }
}

impl TryFrom<u64> for Period {
    type Error = InvalidSchedule;

    fn try_from(seconds: u64) -> Result<Self, InvalidSchedule> {
        Self::new(Duration::from_secs(seconds))
    }
}

impl TryFrom<u64> for Window {
    type Error = InvalidSchedule;

    fn try_from(seconds: u64) -> Result<Self, InvalidSchedule> {
        Self::new(Duration::from_secs(seconds))
    }
}

impl From<Period> for u64 {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl From<Window> for u64 {
    fn from(window: Window) -> Self {
        window.0
    }
}

fn whole_seconds(length: Duration, least: Duration) -> Option<u64> {
    (length >= least && length.subsec_nanos() == 0).then_some(length.as_secs())
}

fn write_in_words(f: &mut fmt::Formatter<'_>, seconds: u64) -> fmt::Result {
    let units = [(SECONDS_PER_DAY, "day"), (3600, "hour"), (60, "minute")];
    let (size, unit) = units
        .into_iter()
        .find(|(size, _)| seconds.is_multiple_of(*size))
        .unwrap_or((1, "second"));
    let count = seconds / size;
    let plural = if count == 1 { "" } else { "s" };
    write!(f, "{count} {unit}{plural}")
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_whole_number_of_seconds_and_at_least_one() {
        assert!(Period::new(Duration::from_secs(1)).is_ok());
        assert!(Period::new(Duration::from_secs(u64::MAX)).is_ok());
        for length in [0, 999, 1_001, 86_400_001].map(Duration::from_millis) {
            assert_eq!(
                Period::new(length),
                Err(InvalidSchedule::Period),
                "{length:?}"
            );
        }
    }

    #[test]
    fn a_window_is_a_whole_number_of_seconds_and_at_least_an_hour() {
        assert!(Window::new(Duration::from_secs(3600)).is_ok());
        for length in [0, 3_599_000, 3_599_999, 3_600_001].map(Duration::from_millis) {
            assert_eq!(
                Window::new(length),
                Err(InvalidSchedule::Window),
                "{length:?}"
            );
        }
    }

    #[test]
    fn whole_days_are_multiples_of_24_hours() {
        let is_whole_days = |seconds| Period::try_from(seconds).unwrap().is_whole_days();
        assert!(is_whole_days(86_400));
        assert!(is_whole_days(30 * 86_400));
        assert!(!is_whole_days(43_200));
        assert!(!is_whole_days(86_401));
    }

    #[test]
    fn a_length_is_shown_in_the_largest_unit_that_fits_evenly() {
        let table = [
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (90, "90 seconds"),
            (5_400, "90 minutes"),
            (3_600, "1 hour"),
            (90_000, "25 hours"),
            (86_400, "1 day"),
            (2_592_000, "30 days"),
        ];
        for (seconds, words) in table {
            assert_eq!(Period::try_from(seconds).unwrap().to_string(), words);
        }
        assert_eq!(Window::try_from(7_200).unwrap().to_string(), "2 hours");
    }
}
