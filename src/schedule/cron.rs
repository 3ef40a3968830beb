//! Cron schedules as Vault reads them.
//!
//! Vault parses `rotation_schedule` with robfig/cron v3, `NewParser(Minute | Hour | Dom | Month |
//! Dow)`, and evaluates it in UTC. [`Cron`] gives the same result for every expression; a table made
//! with robfig tests this. [`Schedule`](super::Schedule) uses it. It never reads a clock and knows no
//! time zone but UTC.

mod expression;
mod longest_gap;

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use expression::InvalidCron;
use expression::Values;

/// A five-field cron schedule in UTC: minute, hour, day of month, month, day of week.
///
/// Each field is a comma-separated list of `*`, `?` (the same as `*`), `N` and `N-M`, each with an
/// optional `/step`; `N/step` means from `N` to the field's end. Months may be `jan`-`dec` and days of
/// the week `sun`-`sat`, in either case; Sunday is 0 and never 7. Descriptors such as `@daily` and time
/// zone prefixes are rejected.
///
/// If both the day of month and the day of week are restricted, a day that matches either is
/// enough. A field counts as unrestricted when one of its items is `*`, `?`, `*/1` or `?/1`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: Values,
    hours: Values,
    days_of_month: Values,
    months: Values,
    days_of_week: Values,
}

impl Cron {
    /// Parses a schedule.
    ///
    /// # Errors
    ///
    /// [`InvalidCron`] explains what is wrong with `text`. A well-formed expression that never occurs,
    /// such as `0 0 30 2 *`, is not an error here, nor in robfig.
    pub fn parse(text: &str) -> Result<Self, InvalidCron> {
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            return Err(InvalidCron::TimeZone);
        }
        if text.starts_with('@') {
            return Err(InvalidCron::Descriptor);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day_of_month, month, day_of_week] = fields.as_slice() else {
            return Err(InvalidCron::FieldCount {
                found: fields.len(),
            });
        };
        Ok(Self {
            minutes: expression::MINUTE.parse(minute)?,
            hours: expression::HOUR.parse(hour)?,
            days_of_month: expression::DAY_OF_MONTH.parse(day_of_month)?,
            months: expression::MONTH.parse(month)?,
            days_of_week: expression::DAY_OF_WEEK.parse(day_of_week)?,
            text: text.to_owned(),
        })
    }

    /// The schedule as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first occurrence strictly later than `after`: always a whole minute.
    ///
    /// `None` if there is none until the end of the fifth calendar year from `after`, which is robfig's
    /// limit, or before the end of representable time.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        // On the calendar, which extends a day beyond the last timestamp.
        let after = utc(after);
        // The year is counted from the next second because robfig starts its search there.
        let last_year = after.checked_add(1.second()).ok()?.year() + YEARS_SEARCHED;
        let earliest = after.checked_add(1.minute()).ok()?;
        let occurrence = self.days(earliest.date(), last_year).find_map(|day| {
            let from = if day == earliest.date() {
                earliest.time()
            } else {
                Time::midnight()
            };
            self.time_of_day_from(from)
                .map(|time| day.to_datetime(time))
        })?;
        TimeZone::UTC.to_timestamp(occurrence).ok()
    }

    /// The days that match, from `first` to the end of `last_year`.
    fn days(&self, first: Date, last_year: i16) -> impl Iterator<Item = Date> {
        let mut next = Some(first);
        std::iter::from_fn(move || {
            while let Some(day) = next.filter(|day| day.year() <= last_year) {
                if !self.months.contains(day.month()) {
                    next = day.last_of_month().tomorrow().ok();
                    continue;
                }
                next = day.tomorrow().ok();
                if self.matches_day(day) {
                    return Some(day);
                }
            }
            None
        })
    }

    /// Whether `day` matches the day of month and the day of week. Ignores the month.
    fn matches_day(&self, day: Date) -> bool {
        let by_month = self.days_of_month.contains(day.day());
        let by_week = self
            .days_of_week
            .contains(day.weekday().to_sunday_zero_offset());
        if self.days_of_month.is_unrestricted() || self.days_of_week.is_unrestricted() {
            by_month && by_week
        } else {
            by_month || by_week
        }
    }

    /// The first matching time of day that is not before `earliest`.
    fn time_of_day_from(&self, earliest: Time) -> Option<Time> {
        if self.hours.contains(earliest.hour())
            && let Some(minute) = self.minutes.first_from(earliest.minute())
        {
            return Time::new(earliest.hour(), minute, 0, 0).ok();
        }
        let hour = self.hours.first_from(earliest.hour() + 1)?;
        Time::new(hour, self.minutes.first_from(0)?, 0, 0).ok()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cron").field(&self.text).finish()
    }
}

impl TryFrom<String> for Cron {
    type Error = InvalidCron;

    fn try_from(text: String) -> Result<Self, InvalidCron> {
        Self::parse(&text)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

fn utc(timestamp: Timestamp) -> DateTime {
    TimeZone::UTC.to_datetime(timestamp)
}

/// How many calendar years robfig searches.
const YEARS_SEARCHED: i16 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(super) fn cron(text: &str) -> Cron {
        Cron::parse(text).unwrap()
    }

    #[test]
    fn every_expression_means_what_robfig_says() {
        let table = include_str!("../../tests/data/cron/robfig.tsv");
        for (number, row) in table.lines().enumerate() {
            let columns: Vec<&str> = row.split('\t').collect();
            let &[text, from, expected] = columns.as_slice() else {
                panic!("row {number} has not three columns: {row}");
            };
            let answer = match Cron::parse(text).map(|cron| cron.next_after(at(from))) {
                Ok(Some(next)) => next.to_string(),
                Ok(None) => "never".to_owned(),
                Err(_) => "refused".to_owned(),
            };
            assert_eq!(answer, expected, "row {number}: {text:?} from {from}");
        }
        assert!(table.lines().count() > 2_000);
    }

    #[test]
    fn a_refusal_names_the_field_and_what_it_takes() {
        let table = [
            ("60 * * * *", "minute cannot be \"60\"; it takes 0-59"),
            ("* 1,24 * * *", "hour cannot be \"24\"; it takes 0-23"),
            ("* * 0 * *", "day of month cannot be \"0\"; it takes 1-31"),
            (
                "* * * foo *",
                "month cannot be \"foo\"; it takes 1-12, jan-dec",
            ),
            (
                "* * * * 7",
                "day of week cannot be \"7\"; it takes 0-6, sun-sat (Sunday is 0)",
            ),
            ("*/0 * * * *", "minute cannot be \"*/0\""),
            ("* * * *", "not 4"),
            ("0 * * * * *", "not 6"),
            ("", "not 0"),
            ("@daily", "cannot be a descriptor"),
            ("TZ=UTC 0 0 * * *", "cannot name a time zone"),
            ("CRON_TZ=Asia/Tokyo 0 0 * * *", "cannot name a time zone"),
            ("TZ=", "cannot name a time zone"),
        ];
        for (text, reason) in table {
            let error = Cron::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_text_is_kept_as_written_and_any_white_space_separates() {
        let written = "0\t3  * *\nSUN";
        assert_eq!(cron(written).as_str(), written);
        let from = at("2026-01-01T00:00:00Z");
        assert_eq!(
            cron(written).next_after(from),
            cron("0 3 * * 0").next_after(from)
        );
    }

    #[test]
    fn a_leap_day_is_found_up_to_the_end_of_the_fifth_year() {
        let leap_day = cron("0 0 29 2 *");
        assert_eq!(
            leap_day.next_after(at("2096-02-28T00:00:00Z")),
            Some(at("2096-02-29T00:00:00Z"))
        );
        assert_eq!(leap_day.next_after(at("2098-12-31T23:59:58.9Z")), None);
        assert_eq!(
            leap_day.next_after(at("2098-12-31T23:59:59Z")),
            Some(at("2104-02-29T00:00:00Z"))
        );
    }

    proptest! {
        #[test]
        fn the_next_occurrence_is_the_first_minute_that_matches(
            text in expression(),
            from in 1_500_000_000..2_500_000_000_i64,
            nanosecond in 0..1_000_000_000,
        ) {
            let cron = cron(&text);
            let from = Timestamp::new(from, nanosecond).unwrap();
            let horizon = from + 5 * 24.hours();
            let scanned = minutes_after(from).take_while(|at| *at <= horizon).find(|at| {
                let at = utc(*at);
                cron.months.contains(at.month())
                    && cron.matches_day(at.date())
                    && cron.hours.contains(at.hour())
                    && cron.minutes.contains(at.minute())
            });
            prop_assert_eq!(cron.next_after(from).filter(|at| *at <= horizon), scanned);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-0-9*?/,a-z @=\\PC]{0,40}") {
            let _ = Cron::parse(&text);
        }
    }

    fn minutes_after(from: Timestamp) -> impl Iterator<Item = Timestamp> {
        let first = (from.as_second() / 60 + 1) * 60;
        (first..)
            .step_by(60)
            .map(|second| Timestamp::from_second(second).unwrap())
    }

    /// Valid expressions that occur at least once a year.
    pub(super) fn expression() -> impl Strategy<Value = String> {
        let field = |low: u8, high: u8| {
            prop_oneof![
                Just("*".to_owned()),
                (low..=high).prop_map(|n| n.to_string()),
                (low..=high, 1..=high).prop_map(|(n, step)| format!("{n}/{step}")),
                (1..=high).prop_map(|step| format!("*/{step}")),
                (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
                (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            ]
        };
        (
            field(0, 59),
            field(0, 23),
            field(1, 28),
            field(1, 12),
            field(0, 6),
        )
            .prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"))
    }
}
