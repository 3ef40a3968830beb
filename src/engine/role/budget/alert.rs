//! Determines from readings when a role has spent a large part of its budget, or all of it. Pure.
//!
//! Readings lag, so those from the first minutes of a window may still show the window before: they do not
//! count. An alert can therefore come late, but never for money of another window.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Budget;
use super::amount::Amount;
use super::ledger::SETTLED;
use super::window::Window;
use crate::engine::clock::after;

/// The part of its budget that a role has been found to have spent, in one window. Stored with the role, so
/// that it is reported once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    window: Window,
    /// How much of the budget is spent.
    pub level: Level,
    /// The amount that was spent according to the readings.
    pub spent: Amount,
    /// When that was found.
    pub at: Timestamp,
}

/// How much of a budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// At least `budget_alert_percent` of it.
    NearlySpent,
    /// All of it.
    Spent,
}

impl Level {
    /// Both, in ascending order.
    pub const ALL: [Self; 2] = [Self::NearlySpent, Self::Spent];

    /// The name of the level in events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NearlySpent => "nearly_spent",
            Self::Spent => "spent",
        }
    }
}

impl Alert {
    /// When it is over; `None` means never.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.window.end()
    }

    /// Whether its window has not ended.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.ends_at().is_none_or(|end| now < end)
    }

    /// The message for users.
    pub fn in_words(&self, budget: &Budget) -> String {
        let (spent, amount) = (self.spent.as_usd(), budget.amount.as_usd());
        let state = match self.level {
            Level::NearlySpent => "is nearly spent",
            Level::Spent => "is spent",
        };
        let until = match self.ends_at() {
            Some(end) => format!("it resets at {end}"),
            None => "it does not reset".to_owned(),
        };
        let at = self.at;
        format!(
            "the role's budget {state}: {spent} of {amount} US dollars by the readings of {at}; {until}"
        )
    }
}

/// The input, besides readings of the living keys, that determines whether an alert is due for a role.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// The role's budget.
    pub budget: Budget,
    /// See [`Level::NearlySpent`].
    pub percent: u8,
    /// What ended keys have spent, and in which window.
    pub ended: Option<(Window, Amount)>,
    /// The last alert.
    pub last: Option<Alert>,
}

impl Watch {
    /// From when on readings count at `now`; `None` if none does yet.
    pub fn counts_from(&self, now: Timestamp) -> Option<Timestamp> {
        let window = Window::at(self.budget.reset, now);
        let from = after(window.start(), SETTLED);
        (from <= now).then_some(from)
    }

    /// The last alert, for users; `None` if it no longer holds.
    pub fn in_words(&self, now: Timestamp) -> Option<String> {
        let alert = self.last.filter(|alert| alert.holds(now))?;
        Some(alert.in_words(&self.budget))
    }

    /// The alert that is due, if the living keys have spent this much according to readings that count.
    pub fn due(&self, living: Amount, now: Timestamp) -> Option<Alert> {
        self.counts_from(now)?;
        let window = Window::at(self.budget.reset, now);
        let ended = self.ended.filter(|(counted_in, _)| *counted_in == window);
        let spent = living.plus(ended.map_or(Amount::ZERO, |(_, spent)| spent));
        let percent = u64::from(self.percent);
        let level = if spent >= self.budget.amount {
            Level::Spent
        } else if spent >= self.budget.amount.percent(percent) {
            Level::NearlySpent
        } else {
            return None;
        };
        let last = self.last.filter(|last| last.window == window);
        if last.is_some_and(|last| last.level >= level) {
            return None;
        }
        Some(Alert {
            window,
            level,
            spent,
            at: now,
        })
    }
}

/// The default of `budget_alert_percent`.
pub const ALERT_PERCENT: u8 = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openrouter::LimitReset;

    fn at(instant: &str) -> Timestamp {
        instant.parse().unwrap()
    }

    fn usd(amount: f64) -> Amount {
        Amount::granted(amount)
    }

    fn watch(reset: Option<LimitReset>, last: Option<Alert>) -> Watch {
        let budget = Budget {
            amount: usd(10.0),
            reset,
        };
        Watch {
            budget,
            percent: 80,
            ended: None,
            last,
        }
    }

    fn level(watch: &Watch, living: f64, now: &str) -> Option<Level> {
        let due = watch.due(usd(living), at(now));
        due.map(|alert| alert.level)
    }

    #[test]
    fn each_level_is_reported_once_a_window() {
        let noon = "2026-11-20T12:00:00Z";
        let daily = watch(Some(LimitReset::Daily), None);
        assert_eq!(level(&daily, 7.999_999, noon), None);
        assert_eq!(level(&daily, 8.0, noon), Some(Level::NearlySpent));
        assert_eq!(level(&daily, 10.0, noon), Some(Level::Spent));
        let near = watch(Some(LimitReset::Daily), daily.due(usd(8.0), at(noon)));
        assert_eq!(level(&near, 9.999_999, noon), None);
        assert_eq!(level(&near, 10.0, noon), Some(Level::Spent));
        let spent = watch(Some(LimitReset::Daily), daily.due(usd(10.0), at(noon)));
        assert_eq!(level(&spent, 8.0, noon), None);
        assert_eq!(level(&spent, 11.0, noon), None);
        let tomorrow = "2026-11-21T12:00:00Z";
        assert_eq!(level(&spent, 8.0, tomorrow), Some(Level::NearlySpent));
    }

    #[test]
    fn what_ended_keys_spent_counts_in_its_window_only() {
        let now = at("2026-11-20T12:00:00Z");
        let today = Window::at(Some(LimitReset::Daily), now);
        let ended = |window| Watch {
            ended: Some((window, usd(7.0))),
            ..watch(Some(LimitReset::Daily), None)
        };
        let due = ended(today).due(usd(1.0), now).unwrap();
        assert_eq!((due.level, due.spent), (Level::NearlySpent, usd(8.0)));
        let before = Window::at(Some(LimitReset::Daily), at("2026-11-19T12:00:00Z"));
        assert_eq!(ended(before).due(usd(1.0), now), None);
    }

    #[test]
    fn nothing_is_reported_while_readings_may_be_of_the_window_before() {
        let daily = watch(Some(LimitReset::Daily), None);
        assert_eq!(level(&daily, 9.0, "2026-11-20T00:09:59Z"), None);
        let settled = "2026-11-20T00:10:00Z";
        assert_eq!(level(&daily, 9.0, settled), Some(Level::NearlySpent));
        assert_eq!(daily.counts_from(at("2026-11-20T00:09:59Z")), None);
        let noon = at("2026-11-20T12:00:00Z");
        assert_eq!(daily.counts_from(noon), Some(at(settled)));
        let ever = watch(None, None);
        assert_eq!(level(&ever, 9.0, settled), Some(Level::NearlySpent));
    }

    #[test]
    fn an_alert_holds_until_its_window_ends() {
        let now = at("2026-11-20T12:00:00Z");
        let daily = watch(Some(LimitReset::Daily), None);
        let alert = daily.due(usd(8.5), now).unwrap();
        assert!(alert.holds(at("2026-11-20T23:59:59Z")));
        assert!(!alert.holds(at("2026-11-21T00:00:00Z")));
        assert_eq!(
            alert.in_words(&daily.budget),
            "the role's budget is nearly spent: 8.5 of 10 US dollars by the readings of \
             2026-11-20T12:00:00Z; it resets at 2026-11-21T00:00:00Z"
        );
        let ever = watch(None, None);
        let alert = ever.due(usd(10.0), now).unwrap();
        assert!(alert.holds(Timestamp::MAX));
        assert!(alert.in_words(&ever.budget).contains("is spent: 10 of 10"));
    }
}
