//! Whether a schedule's next run is due.
//!
//! The caller passes the time of the last run and the current time to [`Schedule::due`]. No state is
//! kept between calls.

use std::time::Duration;

use jiff::Timestamp;

use super::{Cron, Schedule, Window};

/// The result of [`Schedule::due`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The next run is due at this time, which is in the future.
    At(Timestamp),
    /// The next run is due now.
    Now {
        /// When it became due.
        since: Timestamp,
    },
    /// At least one occurrence passed without a run, and no window is open now.
    Missed {
        /// The first occurrence that passed.
        missed: Timestamp,
        /// The next occurrence, which is in the future.
        next: Timestamp,
    },
    /// No run is due before the end of representable time, or within the years that
    /// [`Cron::next_after`] searches.
    Never,
}

impl Due {
    /// The time of the next run; in the past if it is due now.
    #[must_use]
    pub const fn time(self) -> Option<Timestamp> {
        match self {
            Self::At(at) | Self::Now { since: at } | Self::Missed { next: at, .. } => Some(at),
            Self::Never => None,
        }
    }
}

impl Schedule {
    /// Whether the next run is due at `now`, given that the last run was at `last`.
    ///
    /// An overdue run stays due until it happens, unless the schedule has a window. With a window, a
    /// run is due from an occurrence until the end of its window (inclusive); after that the schedule
    /// waits for the next occurrence.
    ///
    /// If `last` is later than `now`, because a clock was set back, the next run is still counted from
    /// `last`.
    #[must_use]
    pub fn due(&self, last: Timestamp, now: Timestamp) -> Due {
        match (self.next_after(last), self.as_cron()) {
            (None, _) => Due::Never,
            (Some(next), _) if next > now => Due::At(next),
            (Some(missed), Some((cron, Some(window)))) => due_in_window(cron, window, missed, now),
            (Some(since), _) => Due::Now { since },
        }
    }
}

/// Whether a run is due at `now`, if the oldest occurrence without a run is at `first`.
///
/// The search for the oldest occurrence with an open window starts one window's length ago, so it need
/// not visit every missed occurrence.
fn due_in_window(cron: &Cron, window: Window, first: Timestamp, now: Timestamp) -> Due {
    let opened = now.checked_sub(window.as_duration());
    let oldest = opened.map_or(first, |opened| first.max(opened));
    let just_before = oldest.checked_sub(ONE_NANOSECOND).unwrap_or(oldest);
    match cron.next_after(just_before) {
        None => Due::Never,
        Some(since) if since <= now => Due::Now { since },
        Some(next) => Due::Missed {
            missed: first,
            next,
        },
    }
}

const ONE_NANOSECOND: Duration = Duration::from_nanos(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::Period;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron(expression: &str, window_hours: Option<u32>) -> Schedule {
        let window = window_hours.map(|hours| Window::new(HOUR * hours).unwrap());
        Schedule::cron(Cron::parse(expression).unwrap(), window).unwrap()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_run_is_due_from_its_second_on_until_it_happens() {
        let schedule = Schedule::every(Period::new(HOUR).unwrap());
        let last = at("2026-01-15T03:00:00Z");
        let since = at("2026-01-15T04:00:00Z");
        assert_eq!(
            schedule.due(last, at("2026-01-15T03:59:59.999999999Z")),
            Due::At(since)
        );
        assert_eq!(schedule.due(last, since), Due::Now { since });
        assert_eq!(
            schedule.due(last, at("2027-01-15T04:00:00Z")),
            Due::Now { since }
        );
    }

    #[test]
    fn without_a_window_an_overdue_cron_run_stays_due() {
        let schedule = cron("0 3 * * *", None);
        let since = at("2026-01-16T03:00:00Z");
        let due = schedule.due(at("2026-01-15T03:00:05Z"), at("2026-02-20T12:00:00Z"));
        assert_eq!(due, Due::Now { since });
    }

    #[test]
    fn a_window_keeps_a_run_due_until_its_end_and_then_skips_it() {
        let schedule = cron("0 3 * * *", Some(2));
        let last = at("2026-01-15T03:00:05Z");
        let (missed, next) = (at("2026-01-16T03:00:00Z"), at("2026-01-17T03:00:00Z"));
        let table = [
            ("2026-01-16T02:59:59Z", Due::At(missed)),
            ("2026-01-16T03:00:00Z", Due::Now { since: missed }),
            ("2026-01-16T05:00:00Z", Due::Now { since: missed }),
            (
                "2026-01-16T05:00:00.000000001Z",
                Due::Missed { missed, next },
            ),
            ("2026-01-17T02:59:59Z", Due::Missed { missed, next }),
            ("2026-01-17T03:00:00Z", Due::Now { since: next }),
            (
                "2026-01-17T05:00:01Z",
                Due::Missed {
                    missed,
                    next: at("2026-01-18T03:00:00Z"),
                },
            ),
        ];
        for (now, due) in table {
            assert_eq!(schedule.due(last, at(now)), due, "{now}");
        }
    }

    #[test]
    fn overlapping_windows_leave_a_run_due_since_the_oldest_that_is_open() {
        let schedule = cron("0 * * * *", Some(3));
        let due = schedule.due(at("2020-01-01T00:00:00Z"), at("2026-01-16T05:30:00Z"));
        assert_eq!(
            due,
            Due::Now {
                since: at("2026-01-16T03:00:00Z")
            }
        );
    }

    #[test]
    fn a_clock_set_back_changes_nothing() {
        let last = at("2030-01-15T03:00:00Z");
        let table = [
            (
                Schedule::every(Period::new(HOUR).unwrap()),
                "2030-01-15T04:00:00Z",
            ),
            (cron("0 3 * * *", None), "2030-01-16T03:00:00Z"),
            (cron("0 3 * * *", Some(1)), "2030-01-16T03:00:00Z"),
        ];
        for (schedule, next) in table {
            for now in [
                "2030-01-15T02:59:59Z",
                "2026-01-01T00:00:00Z",
                "1970-01-01T00:00:00Z",
            ] {
                assert_eq!(
                    schedule.due(last, at(now)),
                    Due::At(at(next)),
                    "{schedule} at {now}"
                );
            }
            assert_eq!(schedule.due(last, Timestamp::MIN), Due::At(at(next)));
        }
    }

    #[test]
    fn no_run_is_due_when_the_next_date_is_more_than_five_years_away() {
        let schedule = cron("0 0 29 2 *", Some(1));
        assert_eq!(
            schedule.due(at("2096-03-01T00:00:00Z"), Timestamp::MAX),
            Due::Never
        );
    }

    proptest! {
        /// Compares with a walk over all occurrences since the last run.
        #[test]
        fn a_window_skips_what_a_walk_over_all_occurrences_skips(
            expression in prop::sample::select(vec![
                "0 * * * *", "*/20 * * * *", "0 3 * * *", "30 1,13 * * 1-5", "0 0 1,15 * *",
            ]),
            window_hours in 1..30_u32,
            last in 1_700_000_000..1_800_000_000_i64,
            later in 0..8_000_000_i64,
        ) {
            let schedule = cron(expression, Some(window_hours));
            let last = Timestamp::from_second(last).unwrap();
            let now = last + Duration::from_secs(u64::try_from(later).unwrap());
            let mut occurrences =
                std::iter::successors(schedule.next_after(last), |at| schedule.next_after(*at));

            let first = schedule.next_after(last).unwrap();
            let usable = occurrences.find(|at| *at + HOUR * window_hours >= now).unwrap();
            let expected = if usable <= now {
                Due::Now { since: usable }
            } else if usable == first {
                Due::At(first)
            } else {
                Due::Missed { missed: first, next: usable }
            };
            prop_assert_eq!(schedule.due(last, now), expected);
        }
    }
}
