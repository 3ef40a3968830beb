//! How far apart the occurrences of a cron schedule can be.
//!
//! Used by [`Schedule::longest_interval`](crate::schedule::Schedule::longest_interval) to check a key's
//! lifetime. It goes by days, not by occurrences: it finds a year's pause after a day of 1440
//! occurrences, and costs the same for every expression.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use super::{Cron, utc};

impl Cron {
    /// The longest wait for the next occurrence, starting at `from` or at any occurrence in the eight
    /// years that follow.
    ///
    /// Eight years include the longest possible pause: between two 29ths of February around a year such
    /// as 2100. `None` if nothing occurs after `from`.
    #[must_use]
    pub fn longest_gap(&self, from: Timestamp) -> Option<Duration> {
        let first = self.next_after(from)?;
        let until_first = Duration::try_from(first.duration_since(from)).ok()?;

        let times = self.minutes_of_day();
        let within_a_day = times
            .iter()
            .zip(times.iter().skip(1))
            .map(|(a, b)| b - a)
            .max();
        // From a day's last occurrence to the first one of the next matching day, without the whole
        // days in between.
        let overnight = times.first()? - times.last()?;

        let first_day = utc(first).date();
        let days: Vec<Date> = self
            .days(first_day, first_day.year() + YEARS_MEASURED)
            .collect();
        let between_days = days.iter().zip(days.iter().skip(1)).map(|(a, b)| {
            let days_apart = a.duration_until(*b).as_hours() / 24;
            days_apart * MINUTES_PER_DAY + overnight
        });

        let longest = between_days.chain(within_a_day).max().unwrap_or_default();
        let longest = Duration::from_secs(u64::try_from(longest).ok()? * 60);
        Some(longest.max(until_first))
    }

    /// All matching times of day, in order, in minutes since midnight.
    fn minutes_of_day(&self) -> Vec<i64> {
        let hours = (0..24).filter(|hour| self.hours.contains(*hour));
        hours
            .flat_map(|hour| {
                let minutes = (0..60).filter(|minute| self.minutes.contains(*minute));
                minutes.map(move |minute| i64::from(hour) * 60 + i64::from(minute))
            })
            .collect()
    }
}

/// Leap days are at most eight years apart (1896 and 1904, 2096 and 2104).
const YEARS_MEASURED: i16 = 8;

const MINUTES_PER_DAY: i64 = 24 * 60;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::cron::tests::{at, cron, expression};

    #[test]
    fn the_longest_gap_is_found_wherever_it_lies() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let table = [
            ("* * * * *", minutes(1)),
            ("*/7 * * * *", minutes(7)),
            ("5 * * * *", minutes(60)),
            ("0 8-17 * * *", minutes(15 * 60)),
            ("0 8-17 * * mon-fri", days(2) + minutes(15 * 60)),
            ("0 3 * * 0", days(7)),
            ("0 0 31 * *", days(61)),
            // Minutes apart for a day, then a year's pause, which 100 occurrences would not reveal.
            ("* * 1 1 *", days(365) + minutes(1)),
            ("0 0 29 2 *", days(4 * 365 + 1)),
        ];
        for (text, longest) in table {
            let gap = cron(text).longest_gap(at("2026-01-01T00:00:30Z"));
            assert_eq!(gap, Some(longest), "{text}");
        }
        assert_eq!(
            cron("0 0 30 2 *").longest_gap(at("2026-01-01T00:00:00Z")),
            None
        );
        let waiting = cron("0 0 29 2 *").longest_gap(at("2099-01-01T00:00:00Z"));
        assert_eq!(waiting, Some(days(5 * 365 + 59)));
    }

    proptest! {
        #[test]
        fn no_gap_is_longer_than_the_longest(
            text in expression(),
            from in 1_500_000_000..2_500_000_000_i64,
        ) {
            let cron = cron(&text);
            let from = Timestamp::from_second(from).unwrap();
            let longest = cron.longest_gap(from).unwrap();
            let mut last = from;
            for _ in 0..50 {
                let next = cron.next_after(last).unwrap();
                prop_assert!(next > last);
                prop_assert!(Duration::try_from(next.duration_since(last)).unwrap() <= longest);
                last = next;
            }
        }
    }
}
