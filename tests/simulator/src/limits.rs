//! Spending, and what a limit leaves of it.
//!
//! OpenRouter counts a key's spending for ever and per UTC day, week (Monday to Sunday) and month;
//! `limit_reset` chooses the window that a limit applies to, and never resets the counters.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// When a limit starts afresh: at midnight UTC of the day, of Monday, or of the first of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the variants are OpenRouter's own words")]
pub enum LimitReset {
    Daily,
    Weekly,
    Monthly,
}

/// What a key has spent, in US dollars, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spending(Vec<(Timestamp, f64)>);

impl LimitReset {
    /// The word that OpenRouter uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    fn window_start(self, now: Timestamp) -> Timestamp {
        let today = now.to_zoned(TimeZone::UTC).date();
        let first_day = match self {
            Self::Daily => today,
            Self::Weekly => {
                let since_monday = today.weekday().to_monday_zero_offset();
                today
                    .checked_sub(i64::from(since_monday).days())
                    .unwrap_or(Date::MIN)
            }
            Self::Monthly => today.first_of_month(),
        };
        first_day
            .to_zoned(TimeZone::UTC)
            .map_or(Timestamp::MIN, |midnight| midnight.timestamp())
    }
}

impl Spending {
    /// Everything that was ever spent.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.since(Timestamp::MIN)
    }

    /// What was spent in the window that `now` falls into.
    #[must_use]
    pub fn within(&self, window: LimitReset, now: Timestamp) -> f64 {
        self.since(window.window_start(now))
    }

    pub(crate) fn record(&mut self, at: Timestamp, usd: f64) {
        self.0.push((at, usd));
    }

    /// Forgets the history; all of `usd` counts as spent at `at`.
    pub(crate) fn replace(&mut self, at: Timestamp, usd: f64) {
        self.0 = vec![(at, usd)];
    }

    fn since(&self, start: Timestamp) -> f64 {
        let spent = self
            .0
            .iter()
            .filter(|(at, _)| *at >= start)
            .map(|(_, usd)| usd)
            .sum();
        to_the_millionth(spent)
    }
}

/// What is left of `limit` in its current window; never less than nothing.
pub(crate) fn remaining(
    limit: f64,
    reset: Option<LimitReset>,
    counted: &[&Spending],
    now: Timestamp,
) -> f64 {
    let spent: f64 = counted
        .iter()
        .map(|spending| reset.map_or_else(|| spending.total(), |r| spending.within(r, now)))
        .sum();
    to_the_millionth((limit - spent).max(0.0))
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
    let is_whole = amount.abs() < 1e15 && whole as f64 == amount;
    if is_whole {
        Value::from(whole)
    } else {
        Value::from(amount)
    }
}

/// Sums of cents are not exact in binary; OpenRouter shows micro-dollars.
fn to_the_millionth(amount: f64) -> f64 {
    (amount * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(instant: &str) -> Timestamp {
        instant.parse().unwrap()
    }

    #[test]
    fn windows_begin_at_midnight_of_the_day_of_monday_and_of_the_first() {
        // 2026-11-20 is a Friday.
        let now = at("2026-11-20T15:04:05Z");
        let table = [
            (LimitReset::Daily, "2026-11-20T00:00:00Z"),
            (LimitReset::Weekly, "2026-11-16T00:00:00Z"),
            (LimitReset::Monthly, "2026-11-01T00:00:00Z"),
        ];
        for (reset, start) in table {
            assert_eq!(reset.window_start(now), at(start), "{reset:?}");
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
    fn a_limit_counts_only_its_own_window_and_never_goes_below_zero() {
        let mut spending = Spending::default();
        spending.record(at("2026-11-19T12:00:00Z"), 3.0);
        spending.record(at("2026-11-20T12:00:00Z"), 0.1);
        spending.record(at("2026-11-20T13:00:00Z"), 0.2);
        let now = at("2026-11-20T15:00:00Z");
        assert_eq!(
            remaining(2.0, Some(LimitReset::Daily), &[&spending], now),
            1.7
        );
        assert_eq!(remaining(2.0, None, &[&spending], now), 0.0);
        assert_eq!(spending.total(), 3.3);
    }

    #[test]
    fn whole_dollars_are_written_without_a_fraction() {
        assert_eq!(usd(10.0).to_string(), "10");
        assert_eq!(usd(0.25).to_string(), "0.25");
    }
}
