//! The windows of a budget: a UTC day, a week from Monday, a month, or unlimited. Pure date arithmetic.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::openrouter::LimitReset;

/// A window of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The kind of window; `None` is unlimited.
    reset: Option<LimitReset>,
    /// When it began, at 00:00 UTC. An unlimited window begins at the minimum timestamp.
    start: Timestamp,
}

impl Window {
    /// The window that contains `now`.
    pub fn at(reset: Option<LimitReset>, now: Timestamp) -> Self {
        let start = reset.map(|reset| midnight(first_day(reset, now), Timestamp::MIN));
        Self {
            reset,
            start: start.unwrap_or(Timestamp::MIN),
        }
    }

    /// The kind of window; `None` is unlimited.
    pub fn reset(&self) -> Option<LimitReset> {
        self.reset
    }

    /// When it began.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// When it ends and the next one begins; `None` means never.
    pub fn end(&self) -> Option<Timestamp> {
        let reset = self.reset?;
        let first = first_day(reset, self.start);
        let next = match reset {
            LimitReset::Daily => first.checked_add(1.day()),
            LimitReset::Weekly => first.checked_add(1.week()),
            LimitReset::Monthly => first.checked_add(1.month()),
        };
        Some(next.map_or(Timestamp::MAX, |day| midnight(day, Timestamp::MAX)))
    }
}

fn first_day(reset: LimitReset, now: Timestamp) -> Date {
    let today = now.to_zoned(TimeZone::UTC).date();
    match reset {
        LimitReset::Daily => today,
        LimitReset::Weekly => {
            let since_monday = today.weekday().to_monday_zero_offset();
            let monday = today.checked_sub(i64::from(since_monday).days());
            monday.unwrap_or(Date::MIN)
        }
        LimitReset::Monthly => today.first_of_month(),
    }
}

fn midnight(day: Date, otherwise: Timestamp) -> Timestamp {
    let midnight = day.to_zoned(TimeZone::UTC);
    midnight.map_or(otherwise, |midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(instant: &str) -> Timestamp {
        instant.parse().unwrap()
    }

    #[test]
    fn windows_begin_at_midnight_on_mondays_and_on_the_first() {
        use LimitReset::{Daily, Monthly, Weekly};
        for (reset, now, start, end) in [
            (Daily, "2026-11-20T12:00:00Z", "2026-11-20", "2026-11-21"),
            (Daily, "2026-11-20T23:59:59Z", "2026-11-20", "2026-11-21"),
            (Daily, "2026-11-21T00:00:00Z", "2026-11-21", "2026-11-22"),
            (Daily, "2028-02-28T10:00:00Z", "2028-02-28", "2028-02-29"),
            (Weekly, "2026-11-23T00:00:00Z", "2026-11-23", "2026-11-30"),
            (Weekly, "2026-11-22T23:59:59Z", "2026-11-16", "2026-11-23"),
            (Weekly, "2027-01-01T00:00:00Z", "2026-12-28", "2027-01-04"),
            (Monthly, "2028-02-29T10:00:00Z", "2028-02-01", "2028-03-01"),
            (Monthly, "2027-02-28T10:00:00Z", "2027-02-01", "2027-03-01"),
            (Monthly, "2026-12-31T23:59:59Z", "2026-12-01", "2027-01-01"),
        ] {
            let window = Window::at(Some(reset), at(now));
            assert_eq!(window.start(), at(&format!("{start}T00:00:00Z")), "{now}");
            assert_eq!(window.end(), Some(at(&format!("{end}T00:00:00Z"))), "{now}");
        }
    }

    #[test]
    fn for_ever_is_one_window() {
        let window = Window::at(None, at("2026-11-20T12:00:00Z"));
        assert_eq!(window, Window::at(None, at("2036-11-20T12:00:00Z")));
        assert_eq!(window.end(), None);
    }

    proptest! {
        #[test]
        fn every_moment_is_in_one_window_and_windows_follow_each_other(
            seconds in 0..4_000_000_000_i64, kind in 0..3_usize,
        ) {
            let reset = [LimitReset::Daily, LimitReset::Weekly, LimitReset::Monthly][kind];
            let now = Timestamp::from_second(seconds).unwrap();
            let window = Window::at(Some(reset), now);
            let end = window.end().unwrap();
            prop_assert!(window.start() <= now && now < end);
            prop_assert_eq!(Window::at(Some(reset), end).start(), end);
            prop_assert_eq!(Window::at(Some(reset), window.start()), window);
        }
    }
}
