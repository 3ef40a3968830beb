//! When a limit resets, and dollar amounts as OpenRouter writes them.
//!
//! `limit_reset` selects the window of a limit: a UTC day, a week from Monday to Sunday, or a month.
//! Spending is in `spending.rs`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// When a limit resets: at midnight UTC of each day, of Monday, or of the first of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the variants are OpenRouter's own words")]
pub enum LimitReset {
    Daily,
    Weekly,
    Monthly,
}

impl LimitReset {
    /// OpenRouter's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// The end of the window that contains `now`, which is the start of the next one.
    #[must_use]
    pub fn window_end(self, now: Timestamp) -> Timestamp {
        let first_day = self.first_day(now);
        let next = match self {
            Self::Daily => first_day.checked_add(1.day()),
            Self::Weekly => first_day.checked_add(1.week()),
            Self::Monthly => first_day.checked_add(1.month()),
        };
        next.map_or(Timestamp::MAX, |day| midnight(day, Timestamp::MAX))
    }

    /// The start of the window that contains `now`.
    #[must_use]
    pub fn window_start(self, now: Timestamp) -> Timestamp {
        midnight(self.first_day(now), Timestamp::MIN)
    }

    fn first_day(self, now: Timestamp) -> Date {
        let today = now.to_zoned(TimeZone::UTC).date();
        match self {
            Self::Daily => today,
            Self::Weekly => {
                let since_monday = today.weekday().to_monday_zero_offset();
                today
                    .checked_sub(i64::from(since_monday).days())
                    .unwrap_or(Date::MIN)
            }
            Self::Monthly => today.first_of_month(),
        }
    }
}

fn midnight(day: Date, otherwise: Timestamp) -> Timestamp {
    day.to_zoned(TimeZone::UTC)
        .map_or(otherwise, |midnight| midnight.timestamp())
}

/// A dollar amount as a JavaScript server writes it: `10`, not `10.0`.
pub(crate) fn usd(amount: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only taken when it is whole and small"
    )]
    let whole = amount as i64;
    #[expect(
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "that is the question"
    )]
    let is_whole = amount.abs() < EXACT && whole as f64 == amount;
    if is_whole {
        Value::from(whole)
    } else {
        // JSON has no infinity, and OpenRouter's amounts are never null because they are large.
        Value::from(amount.clamp(f64::MIN, f64::MAX))
    }
}

/// Sums of cents are not exact in binary. OpenRouter was seen to show at most nine decimals.
pub(crate) fn rounded(amount: f64) -> f64 {
    let billionths = (amount * 1e9).round();
    if billionths.abs() < EXACT {
        billionths / 1e9
    } else {
        amount.clamp(f64::MIN, f64::MAX)
    }
}

/// Below this every whole number has an exact `f64`.
const EXACT: f64 = 9e15;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(instant: &str) -> Timestamp {
        instant.parse().unwrap()
    }

    #[test]
    fn windows_begin_and_end_at_midnight_of_the_day_of_monday_and_of_the_first() {
        // 2026-11-20 is a Friday.
        let now = at("2026-11-20T15:04:05Z");
        let table = [
            (
                LimitReset::Daily,
                "2026-11-20T00:00:00Z",
                "2026-11-21T00:00:00Z",
            ),
            (
                LimitReset::Weekly,
                "2026-11-16T00:00:00Z",
                "2026-11-23T00:00:00Z",
            ),
            (
                LimitReset::Monthly,
                "2026-11-01T00:00:00Z",
                "2026-12-01T00:00:00Z",
            ),
        ];
        for (reset, start, end) in table {
            assert_eq!(reset.window_start(now), at(start), "{reset:?}");
            assert_eq!(reset.window_end(now), at(end), "{reset:?}");
        }
    }

    #[test]
    fn sunday_still_belongs_to_the_week_that_began_on_monday() {
        let sunday = at("2026-11-22T23:59:59Z");
        let monday = at("2026-11-23T00:00:00Z");
        assert_eq!(
            LimitReset::Weekly.window_start(sunday),
            at("2026-11-16T00:00:00Z")
        );
        assert_eq!(LimitReset::Weekly.window_start(monday), monday);
    }

    #[test]
    fn a_month_ends_where_the_next_begins_in_leap_years_and_at_the_end_of_the_year() {
        for (now, end) in [
            ("2028-02-29T12:00:00Z", "2028-03-01T00:00:00Z"),
            ("2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(LimitReset::Monthly.window_end(at(now)), at(end), "{now}");
        }
    }

    #[test]
    fn whole_dollars_are_written_without_a_fraction() {
        assert_eq!(usd(10.0).to_string(), "10");
        assert_eq!(usd(0.25).to_string(), "0.25");
    }

    #[test]
    fn nine_decimals_are_kept_and_the_noise_of_binary_sums_is_not() {
        assert_eq!(rounded(0.1 + 0.2), 0.3);
        assert_eq!(rounded(0.123_456_789), 0.123_456_789);
        assert_eq!(rounded(-0.000_000_001), -0.000_000_001);
    }

    #[test]
    fn no_amount_is_too_large_to_be_written() {
        for large in [1e303, f64::MAX, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(usd(rounded(large)).is_number(), "{large}");
        }
    }
}
