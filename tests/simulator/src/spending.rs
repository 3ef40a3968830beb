//! A key's spending, when it counts, and when it becomes visible.
//!
//! A charge has two times: the one that decides its window, and the one at which it was made. Reports
//! and enforcement may lag behind the second one, according to the billing rules.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::limits::{LimitReset, rounded};

/// A key's spending, in US dollars, with times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spending(Vec<Charge>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Charge {
    /// Decides its day, week and month.
    counts_at: Timestamp,
    /// When it becomes known, apart from any lag.
    made_at: Timestamp,
    usd: f64,
}

/// The spending that an observer knows: the charges up to some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(Timestamp);

impl Seen {
    /// Everything.
    pub(crate) const ALL: Self = Self(Timestamp::MAX);

    /// The knowledge at `now` of an observer with this delay.
    pub(crate) fn lagging(now: Timestamp, lag: Duration) -> Self {
        // Without a lag nothing is hidden, including spending before the clock was set back.
        if lag.is_zero() {
            return Self::ALL;
        }
        let lag = SignedDuration::try_from(lag).unwrap_or(SignedDuration::MAX);
        Self(now.checked_sub(lag).unwrap_or(Timestamp::MIN))
    }

    pub(crate) fn includes(self, made_at: Timestamp) -> bool {
        made_at <= self.0
    }
}

impl Spending {
    /// All spending.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.seen(None, Timestamp::MIN, Seen::ALL)
    }

    /// The spending in the window that contains `now`.
    #[must_use]
    pub fn within(&self, window: LimitReset, now: Timestamp) -> f64 {
        self.seen(Some(window), now, Seen::ALL)
    }

    /// The spending in the current window that an observer knows; all of it without a window.
    pub(crate) fn seen(&self, window: Option<LimitReset>, now: Timestamp, seen: Seen) -> f64 {
        // Most keys of a long list have spent nothing, and the start of a window is not free.
        if self.0.is_empty() {
            return 0.0;
        }
        let start = window.map_or(Timestamp::MIN, |window| window.window_start(now));
        let counted = self.0.iter();
        let counted = counted.filter(|charge| charge.counts_at >= start);
        rounded(
            counted
                .filter(|charge| seen.includes(charge.made_at))
                .map(|charge| charge.usd)
                .sum(),
        )
    }

    /// The last charge that an observer knows.
    pub(crate) fn last_seen(&self, seen: Seen) -> Option<Timestamp> {
        let made = self.0.iter().map(|charge| charge.made_at);
        made.filter(|at| seen.includes(*at) && *at > Timestamp::MIN)
            .max()
    }

    /// Adds a charge that is made now and may count at another moment.
    pub(crate) fn charge(&mut self, usd: f64, made_at: Timestamp, counts_at: Timestamp) {
        match self.0.last_mut() {
            // A clock that stands still would make the history long and slow to read.
            Some(last) if (last.made_at, last.counts_at) == (made_at, counts_at) => last.usd += usd,
            _ => self.0.push(Charge {
                counts_at,
                made_at,
                usd,
            }),
        }
    }

    /// Replaces the history: all of `usd` counts as spent at `at`, and is known to everybody.
    pub(crate) fn replace(&mut self, at: Timestamp, usd: f64) {
        self.0 = vec![Charge {
            counts_at: at,
            made_at: Timestamp::MIN,
            usd,
        }];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(instant: &str) -> Timestamp {
        instant.parse().unwrap()
    }

    fn spent(charges: &[(&str, f64)]) -> Spending {
        let mut spending = Spending::default();
        for (instant, usd) in charges {
            spending.charge(*usd, at(instant), at(instant));
        }
        spending
    }

    #[test]
    fn a_window_counts_only_what_was_spent_in_it() {
        let spending = spent(&[
            ("2026-11-19T12:00:00Z", 3.0),
            ("2026-11-20T12:00:00Z", 0.1),
            ("2026-11-20T13:00:00Z", 0.2),
        ]);
        let now = at("2026-11-20T15:00:00Z");
        assert_eq!(spending.within(LimitReset::Daily, now), 0.3);
        assert_eq!(spending.within(LimitReset::Weekly, now), 3.3);
        assert_eq!(spending.total(), 3.3);
    }

    #[test]
    fn an_observer_who_lags_learns_of_a_charge_when_the_lag_is_over() {
        let spending = spent(&[("2026-11-20T12:00:00Z", 1.0), ("2026-11-20T12:00:30Z", 1.0)]);
        let lag = Duration::from_secs(60);
        for (now, known) in [
            ("2026-11-20T12:00:59Z", 0.0),
            ("2026-11-20T12:01:00Z", 1.0),
            ("2026-11-20T12:01:30Z", 2.0),
        ] {
            let seen = Seen::lagging(at(now), lag);
            assert_eq!(spending.seen(None, at(now), seen), known, "{now}");
        }
        let now = at("2026-11-20T12:01:00Z");
        let last = spending.last_seen(Seen::lagging(now, lag));
        assert_eq!(last, Some(at("2026-11-20T12:00:00Z")));
    }

    #[test]
    fn a_charge_counts_in_the_window_that_it_was_given() {
        let mut spending = Spending::default();
        let (before, after) = (at("2026-11-20T23:59:59Z"), at("2026-11-21T00:00:05Z"));
        spending.charge(1.0, after, before);
        assert_eq!(spending.within(LimitReset::Daily, after), 0.0);
        assert_eq!(spending.within(LimitReset::Weekly, after), 1.0);
    }

    #[test]
    fn spending_that_was_set_is_known_at_once() {
        let mut spending = Spending::default();
        let now = at("2026-11-20T12:00:00Z");
        spending.replace(now, 2.0);
        let seen = Seen::lagging(now, Duration::from_secs(300));
        assert_eq!(spending.seen(Some(LimitReset::Daily), now, seen), 2.0);
        assert_eq!(spending.last_seen(seen), None);
    }

    #[test]
    fn sums_beyond_the_largest_number_stay_numbers() {
        let mut spending = Spending::default();
        let now = at("2026-11-20T12:00:00Z");
        spending.charge(f64::MAX, now, now);
        spending.charge(f64::MAX, now, now);
        assert_eq!(spending.total(), f64::MAX);
    }
}
