//! What the ended keys of a role have spent today, this week, this month, and in total, by their final
//! readings.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::window::Window;
use super::{Amount, Counting};
use crate::openrouter::{LimitReset, Usage};

/// What ended keys have spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    day: Counted,
    week: Counted,
    month: Counted,
    ever: Amount,
    /// The time from which the readings are complete.
    since: Timestamp,
    /// The number of keys without a final reading.
    unread: u64,
}

/// The spending in a window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Counted {
    window: Window,
    spent: Amount,
}

/// Amounts for today, this week, this month, and in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// The current UTC day.
    pub day: Amount,
    /// The current week, from Monday.
    pub week: Amount,
    /// The current month.
    pub month: Amount,
    /// In total.
    pub ever: Amount,
}

impl Spans {
    /// OpenRouter's report about a key.
    pub fn of(usage: &Usage, counting: Counting) -> Self {
        let within = |window| Amount::spent(usage.within(window, counting.include_byok));
        Self {
            day: within(Some(LimitReset::Daily)),
            week: within(Some(LimitReset::Weekly)),
            month: within(Some(LimitReset::Monthly)),
            ever: within(None),
        }
    }

    /// The amount of the current window.
    pub fn within(self, window: Option<LimitReset>) -> Amount {
        match window {
            Some(LimitReset::Daily) => self.day,
            Some(LimitReset::Weekly) => self.week,
            Some(LimitReset::Monthly) => self.month,
            None => self.ever,
        }
    }

    /// The sums of two sets of amounts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            day: self.day.plus(other.day),
            week: self.week.plus(other.week),
            month: self.month.plus(other.month),
            ever: self.ever.plus(other.ever),
        }
    }
}

impl Tally {
    /// An empty tally, complete from now on.
    pub fn begun(now: Timestamp) -> Self {
        let counted = |reset| Counted {
            window: Window::at(Some(reset), now),
            spent: Amount::ZERO,
        };
        Self {
            day: counted(LimitReset::Daily),
            week: counted(LimitReset::Weekly),
            month: counted(LimitReset::Monthly),
            ever: Amount::ZERO,
            since: now,
            unread: 0,
        }
    }

    /// Adds the final reading of a key that has ended.
    pub fn add(&mut self, spent: Spans, now: Timestamp) {
        self.day.add(spent.day, now);
        self.week.add(spent.week, now);
        self.month.add(spent.month, now);
        self.ever = self.ever.plus(spent.ever);
    }

    /// Records a key that has ended without a final reading.
    pub fn miss(&mut self) {
        self.unread = self.unread.saturating_add(1);
    }

    /// The spending in the current day, week and month, and in total.
    pub fn at(&self, now: Timestamp) -> Spans {
        Spans {
            day: self.day.at(now),
            week: self.week.at(now),
            month: self.month.at(now),
            ever: self.ever,
        }
    }

    /// The time from which every ended key has a final reading, except the missing ones.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Whether no final reading is missing since then.
    pub fn is_complete(&self) -> bool {
        self.unread == 0
    }
}

impl Counted {
    fn add(&mut self, spent: Amount, now: Timestamp) {
        let window = Window::at(self.window.reset(), now);
        // A clock that is set back must not discard what was counted.
        if window.start() > self.window.start() {
            *self = Self {
                window,
                spent: Amount::ZERO,
            };
        }
        self.spent = self.spent.plus(spent);
    }

    fn at(&self, now: Timestamp) -> Amount {
        let is_over = self.window.end().is_some_and(|end| end <= now);
        if is_over { Amount::ZERO } else { self.spent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(instant: &str) -> Timestamp {
        instant.parse().unwrap()
    }

    fn usd(amount: f64) -> Amount {
        Amount::granted(amount)
    }

    fn spans(day: f64, week: f64, month: f64, ever: f64) -> Spans {
        Spans {
            day: usd(day),
            week: usd(week),
            month: usd(month),
            ever: usd(ever),
        }
    }

    #[test]
    fn what_ended_keys_spent_counts_until_its_span_is_over() {
        // A Friday.
        let mut tally = Tally::begun(at("2026-11-20T12:00:00Z"));
        tally.add(spans(1.0, 2.0, 3.0, 4.0), at("2026-11-20T13:00:00Z"));
        tally.add(spans(1.0, 1.0, 1.0, 1.0), at("2026-11-20T14:00:00Z"));
        assert_eq!(
            tally.at(at("2026-11-20T15:00:00Z")),
            spans(2.0, 3.0, 4.0, 5.0)
        );
        assert_eq!(
            tally.at(at("2026-11-22T00:00:00Z")),
            spans(0.0, 3.0, 4.0, 5.0)
        );
        assert_eq!(
            tally.at(at("2026-11-23T00:00:00Z")),
            spans(0.0, 0.0, 4.0, 5.0)
        );
        tally.add(spans(1.0, 1.0, 1.0, 7.0), at("2026-12-01T00:00:00Z"));
        assert_eq!(
            tally.at(at("2026-12-01T00:00:01Z")),
            spans(1.0, 1.0, 1.0, 12.0)
        );
    }

    #[test]
    fn a_key_of_whose_end_there_is_no_reading_is_said() {
        let mut tally = Tally::begun(at("2026-11-20T12:00:00Z"));
        assert!(tally.is_complete());
        tally.miss();
        assert!(!tally.is_complete());
        assert_eq!(tally.since(), at("2026-11-20T12:00:00Z"));
    }
}
