//! The budget of a dynamic role: the spending of its ended leases. Without a budget, only their tally is
//! used. What living leases may spend is in their records, so that issuing a lease does not write the role.
//!
//! A lease counts with its full limit until its key was disabled and read, then with what it has spent. In a
//! later window a key that is still alive counts with its full limit again.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::tally::{Spans, Tally};
use super::window::Window;
use super::{AFTER_RESET, Budget};
use crate::engine::clock::after;
use crate::engine::names::Nonce;
use crate::openrouter::LimitReset;

/// What the ended leases of a dynamic role have spent in one window of its budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    window: Window,
    ended: Amount,
    /// The window in which leases had ended before, and what they had spent in it. If the clock was ahead when
    /// the last one ended, that window is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<(Window, Amount)>,
    /// Leases that were counted and whose records may still exist.
    counted: BTreeSet<Nonce>,
    /// The total spending of ended leases.
    tally: Tally,
}

impl Pool {
    /// An empty pool.
    pub fn begun(budget: &Budget, now: Timestamp) -> Self {
        Self {
            window: window(budget.reset, now),
            ended: Amount::ZERO,
            before: None,
            counted: BTreeSet::new(),
            tally: Tally::begun(now),
        }
    }

    /// What ended leases have spent in the current window.
    pub fn ended(&self, now: Timestamp) -> Amount {
        let window = window(self.window.reset(), now);
        if window.start() > self.window.start() {
            return Amount::ZERO;
        }
        let lasts = |(before, _): &(Window, Amount)| window.start() <= before.start();
        let before = self.before.filter(lasts).map(|(_, spent)| spent);
        self.ended.plus(before.unwrap_or_default())
    }

    /// The last window in which leases have ended, and what they had spent in it.
    pub fn ended_in(&self) -> (Window, Amount) {
        (self.window, self.ended)
    }

    /// When the spending of ended leases no longer counts; `None` means never.
    pub fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let end = window(self.window.reset(), now).end()?;
        Some(after(end, AFTER_RESET))
    }

    /// Whether the lease was counted as ended.
    pub fn has_counted(&self, lease: &Nonce) -> bool {
        self.counted.contains(lease)
    }

    /// The leases that were counted and whose records may still exist.
    pub fn counted(&self) -> impl Iterator<Item = &Nonce> {
        self.counted.iter()
    }

    /// What ended leases have spent today, this week, this month, and in total.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Counts a lease that has ended, with its spending in the window and in total. Without a reading its
    /// full grant counts.
    pub fn count(
        &mut self,
        lease: Nonce,
        spent: Option<(Amount, Spans)>,
        granted: Amount,
        (budget, now): (&Budget, Timestamp),
    ) {
        let spent = match spent {
            Some((spent, in_all)) => {
                self.tally.add(in_all, now);
                spent
            }
            None => {
                self.tally.miss();
                granted
            }
        };
        let window = window(budget.reset, now);
        if window != self.window {
            let last = (self.window, self.ended);
            // If the clock was ahead, both belong to this window.
            self.ended = self.ended(now);
            self.before = (window.start() > self.window.start()).then_some(last);
            self.window = window;
        }
        self.ended = self.ended.plus(spent);
        self.counted.insert(lease);
    }

    /// Forgets the counted leases that no longer have a record.
    pub fn forget_all_but(&mut self, has_record: impl Fn(&Nonce) -> bool) {
        self.counted.retain(has_record);
    }

    /// Begins to count against a budget that the role did not have.
    pub fn restart(&mut self, budget: &Budget, now: Timestamp) {
        self.ended = Amount::ZERO;
        self.before = None;
        self.window = window(budget.reset, now);
    }

    /// Applies a changed budget. The spending of ended leases counts until the new window ends. If the new
    /// window is longer, their spending since its beginning counts.
    pub fn rebudget(&mut self, budget: &Budget, now: Timestamp) {
        if self.window.reset() != budget.reset {
            let in_window = self.tally.at(now).within(budget.reset);
            self.ended = self.ended(now).max(in_window);
            self.before = None;
            self.window = window(budget.reset, now);
        }
    }
}

impl Budget {
    /// If a window has begun by the local clock `here`, but not by OpenRouter's clock `there`, returns when
    /// it begins; `None` if both are in the same window.
    pub fn is_ahead(&self, here: Timestamp, there: Timestamp) -> Option<Timestamp> {
        let start = window(self.reset, here).start();
        (there < start).then_some(start)
    }
}

/// OpenRouter's window may change slightly later than the local one.
fn window(reset: Option<LimitReset>, now: Timestamp) -> Window {
    let margin = SignedDuration::from_secs(AFTER_RESET.cast_signed());
    Window::at(reset, now.checked_sub(margin).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAILY: Budget = Budget {
        amount: Amount::LARGEST,
        reset: Some(LimitReset::Daily),
    };

    fn at(instant: &str) -> Timestamp {
        instant.parse().unwrap()
    }

    fn nonce(number: u64) -> Nonce {
        Nonce::of_key_name(&format!("ci vault-{number:032x}")).unwrap()
    }

    fn usd(amount: f64) -> Amount {
        Amount::granted(amount)
    }

    /// A reading.
    fn all(spent: Amount) -> Option<(Amount, Spans)> {
        let spans = Spans {
            day: spent,
            week: spent,
            month: spent,
            ever: spent,
        };
        Some((spent, spans))
    }

    #[test]
    fn a_lease_without_a_reading_counts_for_all_that_it_was_granted() {
        let now = at("2026-11-20T12:00:00Z");
        let mut pool = Pool::begun(&DAILY, now);
        pool.count(nonce(1), all(usd(0.5)), usd(2.0), (&DAILY, now));
        assert!(pool.tally().is_complete());
        pool.count(nonce(2), None, usd(2.0), (&DAILY, now));
        assert_eq!(pool.ended(now), usd(2.5));
        assert_eq!(pool.tally().at(now).ever, usd(0.5));
        assert!(!pool.tally().is_complete());
    }

    #[test]
    fn a_clock_is_ahead_when_openrouter_is_in_an_earlier_window() {
        let midnight = at("2026-11-21T00:00:00Z");
        let ahead = |here, there| DAILY.is_ahead(at(here), at(there));
        let (late, early) = ("2026-11-21T00:01:00Z", "2026-11-20T23:59:59Z");
        assert_eq!(ahead(late, early), Some(midnight));
        assert_eq!(ahead(late, "2026-11-21T00:00:00Z"), None);
        // Within the minute that the window waits for.
        assert_eq!(ahead("2026-11-21T00:00:59Z", early), None);
        assert_eq!(ahead(early, late), None);
        let ever = Budget {
            reset: None,
            ..DAILY
        };
        assert_eq!(ever.is_ahead(at(late), at(early)), None);
    }

    #[test]
    fn what_ended_leases_spent_counts_until_a_minute_after_the_window_ends() {
        let mut pool = Pool::begun(&DAILY, at("2026-11-20T12:00:00Z"));
        pool.count(
            nonce(1),
            all(usd(2.0)),
            Amount::UNLIMITED,
            (&DAILY, at("2026-11-20T12:00:00Z")),
        );
        pool.count(
            nonce(2),
            all(usd(1.0)),
            Amount::UNLIMITED,
            (&DAILY, at("2026-11-20T13:00:00Z")),
        );
        assert_eq!(pool.ended(at("2026-11-21T00:00:59Z")), usd(3.0));
        assert_eq!(pool.ended(at("2026-11-21T00:01:00Z")), Amount::ZERO);
        pool.count(
            nonce(3),
            all(usd(5.0)),
            Amount::UNLIMITED,
            (&DAILY, at("2026-11-21T00:01:00Z")),
        );
        assert_eq!(pool.ended(at("2026-11-21T23:59:59Z")), usd(5.0));
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_moment_neither_forgets_nor_keeps_what_was_spent() {
        let noon = at("2026-11-20T12:00:00Z");
        let mut pool = Pool::begun(&DAILY, noon);
        let count = |pool: &mut Pool, number, spent, at| {
            pool.count(nonce(number), all(usd(spent)), usd(10.0), (&DAILY, at));
        };
        count(&mut pool, 1, 5.0, noon);
        count(&mut pool, 2, 0.5, at("2026-12-20T12:00:00Z"));
        assert_eq!(pool.ended(noon), usd(5.5));
        assert_eq!(pool.ends_at(noon), Some(at("2026-11-21T00:01:00Z")));
        count(&mut pool, 3, 0.25, noon);
        assert_eq!(pool.ended(noon), usd(5.75));
        assert_eq!(pool.ended(at("2026-11-21T00:01:00Z")), Amount::ZERO);
    }

    #[test]
    fn a_lease_is_known_to_be_counted_for_as_long_as_it_has_a_record() {
        let now = at("2026-11-20T12:00:00Z");
        let mut pool = Pool::begun(&DAILY, now);
        for number in [1, 2] {
            pool.count(
                nonce(number),
                all(usd(1.0)),
                Amount::UNLIMITED,
                (&DAILY, now),
            );
        }
        pool.forget_all_but(|lease| *lease == nonce(2));
        assert!(!pool.has_counted(&nonce(1)) && pool.has_counted(&nonce(2)));
        assert_eq!(pool.ended(now), usd(2.0));
    }

    #[test]
    fn a_longer_window_counts_what_was_spent_in_it_on_the_days_before() {
        let mut pool = Pool::begun(&DAILY, at("2026-11-19T12:00:00Z"));
        for (number, day) in [(1, "2026-11-19"), (2, "2026-11-20")] {
            let now = at(&format!("{day}T12:00:00Z"));
            pool.count(nonce(number), all(usd(2.0)), usd(5.0), (&DAILY, now));
        }
        let now = at("2026-11-20T13:00:00Z");
        assert_eq!(pool.ended(now), usd(2.0));
        let monthly = Budget {
            reset: Some(LimitReset::Monthly),
            ..DAILY
        };
        pool.rebudget(&monthly, now);
        assert_eq!(pool.ended(now), usd(4.0));
    }

    #[test]
    fn another_window_keeps_what_was_spent() {
        let now = at("2026-11-20T12:00:00Z");
        let mut pool = Pool::begun(&DAILY, now);
        pool.count(nonce(1), all(usd(1.0)), Amount::UNLIMITED, (&DAILY, now));
        let ever = Budget {
            reset: None,
            ..DAILY
        };
        pool.rebudget(&ever, now);
        assert_eq!(pool.ended(at("2027-11-20T12:00:00Z")), usd(1.0));
        assert_eq!(pool.ends_at(now), None);
    }
}
