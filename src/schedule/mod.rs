//! When something is due: at intervals, at a time of day, or by cron.
//!
//! A [`Schedule`] is parsed once. The caller then passes times to it and learns when the next run is
//! due ([`Schedule::next_after`]), whether it is due now ([`Schedule::due`]), and how far apart runs
//! can be ([`Schedule::longest_interval`]). Everything is in UTC. This floor reads no clock, never
//! sleeps, keeps no state and knows no other floor.

mod cron;
mod due;
mod error;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../invariants/schedule.rs"]
pub(crate) mod invariants;
mod span;
mod time_of_day;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use cron::{Cron, InvalidCron};
pub use due::Due;
pub use error::InvalidSchedule;
pub use fields::Fields;
pub use span::{Period, Window};
pub use time_of_day::TimeOfDay;

/// When runs are due.
///
/// Created by [`every`](Self::every), [`every_at`](Self::every_at), [`cron`](Self::cron), or from
/// [`Fields`], through which it is also serialized. Every schedule has a next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Schedule(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Period { period: Period },
    PeriodAt { period: Period, at: TimeOfDay },
    Cron { cron: Cron, window: Option<Window> },
}

impl Schedule {
    /// A run is due `period` after the last one.
    #[must_use]
    pub const fn every(period: Period) -> Self {
        Self(Kind::Period { period })
    }

    /// A run is due at the time of day `at`, once `period` has elapsed, which must be whole days.
    ///
    /// After a manual run, the wait is therefore between `period` and one day more. A scheduled run
    /// counts as if it had been on time (see [`anchor`](Self::anchor)), so that a delay of a second, or
    /// of hours of retries, does not cost a day.
    ///
    /// # Errors
    ///
    /// [`InvalidSchedule::RotateAtWithoutDays`] if `period` is not whole days.
    pub fn every_at(period: Period, at: TimeOfDay) -> Result<Self, InvalidSchedule> {
        if period.is_whole_days() {
            Ok(Self(Kind::PeriodAt { period, at }))
        } else {
            Err(InvalidSchedule::RotateAtWithoutDays)
        }
    }

    /// A run is due at every occurrence of `cron`; with a `window`, only while it is open.
    ///
    /// # Errors
    ///
    /// [`InvalidSchedule::NeverOccurs`] if no date matches `cron`, such as a 30th of February.
    pub fn cron(cron: Cron, window: Option<Window>) -> Result<Self, InvalidSchedule> {
        // Every date that exists occurs within five years of the epoch; 29 February in 1972.
        if cron.next_after(Timestamp::UNIX_EPOCH).is_some() {
            Ok(Self(Kind::Cron { cron, window }))
        } else {
            Err(InvalidSchedule::NeverOccurs {
                text: error::excerpt(cron.as_str()),
            })
        }
    }

    /// When the next run is due after a run at `last`, however long ago that was.
    ///
    /// `None` at the end of representable time (the year 9999) and, for a cron schedule, if
    /// [`Cron::next_after`] finds nothing.
    #[must_use]
    pub fn next_after(&self, last: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Period { period } => last.checked_add(period.as_duration()).ok(),
            Kind::PeriodAt { period, at } => {
                let elapsed = last.checked_add(period.as_duration()).ok()?;
                Timestamp::from_second(slot_from(elapsed, *at)).ok()
            }
            Kind::Cron { cron, .. } => cron.next_after(last),
        }
    }

    /// The time to count from after a scheduled run at `run`: the time at which it was due, for a time
    /// of day, and `run` itself otherwise. After a manual run, count from the run itself.
    #[must_use]
    pub fn anchor(&self, run: Timestamp) -> Timestamp {
        match &self.0 {
            Kind::Period { .. } | Kind::Cron { .. } => run,
            Kind::PeriodAt { at, .. } => {
                let slot = slot_until(run.as_second(), *at);
                Timestamp::from_second(slot).unwrap_or(run)
            }
        }
    }

    /// The period, if there is one.
    #[must_use]
    pub const fn period(&self) -> Option<Period> {
        match &self.0 {
            Kind::Period { period } | Kind::PeriodAt { period, .. } => Some(*period),
            Kind::Cron { .. } => None,
        }
    }

    /// How late a run may start, if limited.
    #[must_use]
    pub const fn window(&self) -> Option<Window> {
        match &self.0 {
            Kind::Cron { window, .. } => *window,
            Kind::Period { .. } | Kind::PeriodAt { .. } => None,
        }
    }

    /// The longest wait for the next run, starting at `from` or at any run due after it.
    ///
    /// Assumes that runs happen when they are due: a retry after a failure, or a run late in its
    /// window, adds to the wait. For a period with a time of day, the result includes the extra day
    /// after a manual run. `None` if no run is due after `from`.
    #[must_use]
    pub fn longest_interval(&self, from: Timestamp) -> Option<Duration> {
        match &self.0 {
            Kind::Period { period } => self.next_after(from).map(|_| period.as_duration()),
            Kind::PeriodAt { period, .. } => {
                let longest = period.as_duration().checked_add(A_DAY);
                self.next_after(from).and(longest)
            }
            Kind::Cron { cron, .. } => cron.longest_gap(from),
        }
    }

    fn as_cron(&self) -> Option<(&Cron, Option<Window>)> {
        match &self.0 {
            Kind::Cron { cron, window } => Some((cron, *window)),
            Kind::Period { .. } | Kind::PeriodAt { .. } => None,
        }
    }
}

impl fmt::Display for Schedule {
    /// `every 30 days at 03:00 UTC`, or `by the cron schedule "0 3 * * 0" (UTC), at most 2 hours
    /// late`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Period { period } => write!(f, "every {period}"),
            Kind::PeriodAt { period, at } => write!(f, "every {period} at {at} UTC"),
            Kind::Cron { cron, window } => {
                write!(f, "by the cron schedule \"{cron}\" (UTC)")?;
                window.map_or(Ok(()), |window| write!(f, ", at most {window} late"))
            }
        }
    }
}

/// The first time of day `at` at or after `instant`, in seconds since the epoch.
fn slot_from(instant: Timestamp, at: TimeOfDay) -> i64 {
    // Before the epoch, the fraction of a second counts backwards.
    let second = instant.as_second() + i64::from(instant.subsec_nanosecond() > 0);
    let slot = slot_until(second, at);
    if slot == second {
        slot
    } else {
        slot + SECONDS_PER_DAY
    }
}

/// The last time of day `at` at or before `second`, in seconds since the epoch.
///
/// It may lie just outside the range of a [`Timestamp`]; the arithmetic cannot overflow.
fn slot_until(second: i64, at: TimeOfDay) -> i64 {
    let at = at.seconds_after_midnight();
    (second - at).div_euclid(SECONDS_PER_DAY) * SECONDS_PER_DAY + at
}

/// UTC has no leap seconds here, and neither have the clocks of servers.
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn period(seconds: u64) -> Period {
        Period::try_from(seconds).unwrap()
    }

    fn daily_at(days: u64, time: &str) -> Schedule {
        Schedule::every_at(period(days * 86_400), TimeOfDay::parse(time).unwrap()).unwrap()
    }

    fn by_cron(expression: &str) -> Schedule {
        Schedule::cron(Cron::parse(expression).unwrap(), None).unwrap()
    }

    #[test]
    fn a_period_counts_from_the_last_run() {
        let schedule = Schedule::every(period(5_400));
        let next = schedule.next_after(at("2026-02-28T23:00:00.25Z"));
        assert_eq!(next, Some(at("2026-03-01T00:30:00.25Z")));
    }

    #[test]
    fn a_time_of_day_comes_once_the_period_has_elapsed() {
        let table = [
            // Exact to the second.
            (30, "03:00", "2026-01-15T03:00:00Z", "2026-02-14T03:00:00Z"),
            // Manual runs, before and after the time of day.
            (1, "03:00", "2026-01-15T02:50:00Z", "2026-01-16T03:00:00Z"),
            (1, "03:00", "2026-01-15T15:00:00Z", "2026-01-17T03:00:00Z"),
            (
                30,
                "03:00",
                "2026-01-15T03:00:00.5Z",
                "2026-02-15T03:00:00Z",
            ),
            (7, "00:00", "2026-01-15T13:00:00Z", "2026-01-23T00:00:00Z"),
            // Across a leap day, a year's end and the epoch.
            (1, "12:30", "2024-02-28T12:30:00Z", "2024-02-29T12:30:00Z"),
            (2, "12:30", "2024-12-31T12:30:00Z", "2025-01-02T12:30:00Z"),
            (1, "03:00", "1969-12-31T02:59:59.5Z", "1970-01-01T03:00:00Z"),
        ];
        for (days, time, last, next) in table {
            let schedule = daily_at(days, time);
            let due = schedule.next_after(at(last));
            assert_eq!(due, Some(at(next)), "{schedule} after {last}");
        }
    }

    #[test]
    fn late_runs_do_not_add_up() {
        let schedule = daily_at(1, "23:59");
        let mut due = at("2026-01-01T23:59:00Z");
        for _ in 0..365 {
            let late_run = due + Duration::from_secs(23 * 3600);
            due = schedule.next_after(schedule.anchor(late_run)).unwrap();
        }
        assert_eq!(due, at("2027-01-01T23:59:00Z"));
    }

    #[test]
    fn a_run_later_than_a_whole_day_counts_from_the_last_time_it_could_have_come() {
        let schedule = daily_at(1, "03:00");
        let anchor = schedule.anchor(at("2026-01-18T10:00:00Z"));
        assert_eq!(anchor, at("2026-01-18T03:00:00Z"));
        assert_eq!(
            schedule.next_after(anchor),
            Some(at("2026-01-19T03:00:00Z"))
        );
        assert_eq!(by_cron("0 3 * * *").anchor(anchor), anchor);
    }

    #[test]
    fn a_time_of_day_needs_a_period_of_whole_days() {
        for seconds in [1, 3_600, 86_399, 90_000] {
            let schedule = Schedule::every_at(period(seconds), TimeOfDay::parse("03:00").unwrap());
            assert_eq!(schedule, Err(InvalidSchedule::RotateAtWithoutDays));
        }
    }

    #[test]
    fn a_cron_schedule_that_no_date_matches_is_refused() {
        for expression in ["0 0 30 2 *", "0 0 31 4,6 *", ", * * * *", "0 0 1 , *"] {
            let error = Schedule::cron(Cron::parse(expression).unwrap(), None).unwrap_err();
            assert_eq!(
                error,
                InvalidSchedule::NeverOccurs {
                    text: expression.to_owned()
                }
            );
        }
        by_cron("0 0 29 2 *");
    }

    #[test]
    fn nothing_overflows_at_either_end_of_time() {
        let schedules = [
            Schedule::every(period(1)),
            Schedule::every(period(u64::MAX)),
            daily_at(1, "00:00"),
            daily_at(u64::MAX / 86_400, "23:59"),
            by_cron("* * * * *"),
        ];
        for schedule in &schedules {
            assert_eq!(schedule.next_after(Timestamp::MAX), None, "{schedule}");
            assert_eq!(
                schedule.longest_interval(Timestamp::MAX),
                None,
                "{schedule}"
            );
            assert_eq!(
                schedule.due(Timestamp::MAX, Timestamp::MAX),
                Due::Never,
                "{schedule}"
            );
            assert_eq!(
                schedule.due(Timestamp::MAX, Timestamp::MIN),
                Due::Never,
                "{schedule}"
            );
            let _ = schedule.due(Timestamp::MIN, Timestamp::MIN);
            let _ = schedule.due(Timestamp::MIN, Timestamp::MAX);
        }
    }

    #[test]
    fn the_longest_interval_covers_every_wait() {
        let from = at("2026-01-01T00:00:00Z");
        let longest = |schedule: Schedule| schedule.longest_interval(from).unwrap().as_secs();
        assert_eq!(longest(Schedule::every(period(5_400))), 5_400);
        assert_eq!(longest(daily_at(30, "03:00")), 31 * 86_400);
        assert_eq!(longest(by_cron("0 3 * * *")), 86_400);
    }

    #[test]
    fn a_schedule_is_described_in_words() {
        let weekly = Cron::parse("0 3 * * 0").unwrap();
        let window = Window::new(Duration::from_secs(7_200)).unwrap();
        let table = [
            (Schedule::every(period(3_600)), "every 1 hour"),
            (daily_at(30, "03:00"), "every 30 days at 03:00 UTC"),
            (
                by_cron("0 3 * * 0"),
                "by the cron schedule \"0 3 * * 0\" (UTC)",
            ),
            (
                Schedule::cron(weekly, Some(window)).unwrap(),
                "by the cron schedule \"0 3 * * 0\" (UTC), at most 2 hours late",
            ),
        ];
        for (schedule, words) in table {
            assert_eq!(schedule.to_string(), words);
        }
    }

    proptest! {
        #[test]
        fn a_time_of_day_is_due_within_a_day_after_the_period(
            last in -10_000_000_000_i64..10_000_000_000,
            nanosecond in 0..1_000_000_000,
            days in 1..400_u64,
            hour in 0..24,
            minute in 0..60,
        ) {
            let last = Timestamp::new(last, nanosecond).unwrap();
            let time = format!("{hour:02}:{minute:02}");
            let schedule = daily_at(days, &time);
            let next = schedule.next_after(last).unwrap();
            let ending = format!("T{time}:00Z");
            prop_assert!(next.to_string().ends_with(&ending));

            let period = Duration::from_secs(days * 86_400);
            prop_assert!(next > last);
            let wait = Duration::try_from(next.duration_since(last)).unwrap();
            prop_assert!(wait >= period);
            prop_assert!(wait <= schedule.longest_interval(last).unwrap());
        }
    }
}
