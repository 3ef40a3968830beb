//! The outcome of each window.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::{Key, LimitReset};
use tokio::time::sleep;

use super::{Held, Life, Money, Terms, UNLIMITED, money, usd};
use crate::people::DYNAMIC;
use crate::world::World;

/// The outcomes of the windows that were judged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Windows {
    /// The number of all windows.
    pub(crate) judged: u64,
    /// The number of windows without an exception.
    pub(crate) strictly: u64,
    /// The number of those in which at least nine tenths of the budget were spent.
    pub(crate) spent: u64,
    /// The highest amount that was spent in one of them, in percent of the budget.
    pub(crate) worst: u64,
    /// The number of roles that were checked for locked amounts.
    pub(crate) unlocked: u64,
}

impl Windows {
    pub(crate) fn add(&mut self, other: Self) {
        self.judged += other.judged;
        self.strictly += other.strictly;
        self.spent += other.spent;
        self.worst = self.worst.max(other.worst);
        self.unlocked += other.unlocked;
    }
}

/// A window of a life of a role, while one budget was in force in it.
struct Window<'a> {
    life: &'a Life,
    start: Timestamp,
    end: Timestamp,
    /// The largest budget that was in force.
    most: Money,
}

/// The outcome of a window.
#[derive(Default)]
struct Sum {
    spent: Money,
    in_flight: Money,
    excused: Money,
    keys: Vec<String>,
}

impl World {
    /// The outcomes of the windows so far.
    pub(crate) fn windows(&self) -> Windows {
        self.budgets.seen(|seen| seen.windows)
    }

    /// Judges every window when it ends.
    pub(crate) async fn windows_end(self: Arc<Self>) {
        while self.budgets.are_there() {
            let midnight = LimitReset::Daily.window_end(self.now());
            let wait = midnight.duration_since(self.now());
            sleep(Duration::try_from(wait).unwrap_or_default()).await;
            self.judge_windows(midnight);
        }
    }

    /// Judges the windows that end now, either because they end or because the life ends.
    pub(crate) fn judge_windows(&self, end: Timestamp) {
        for role in self.budgets.plan.keys() {
            let lives = self.budgets.seen(|seen| {
                let keys = seen.keys.values();
                let lives = keys.filter_map(|key| key.life.clone());
                let mut lives: Vec<Life> = lives.filter(|life| life.role == *role).collect();
                lives.sort();
                lives.dedup();
                lives
            });
            for life in lives {
                self.judge_windows_of(&life, end);
            }
        }
    }

    fn judge_windows_of(&self, life: &Life, end: Timestamp) {
        let long_ago = Timestamp::from_second(0).unwrap();
        let Some((last, reset)) = self.last_budget(life, end) else {
            return;
        };
        let is_midnight = end == LimitReset::Daily.window_start(end);
        let just_before = end - SignedDuration::from_nanos(1);
        let start = reset.map_or(long_ago, |reset| reset.window_start(just_before));
        let is_over = reset.is_some_and(|reset| reset.window_end(just_before) == end);
        if is_midnight && !is_over {
            return;
        }
        let window = self.window(life, reset, (start, end));
        if let Some(window) = &window {
            self.judge_window(window);
        }
        if is_over {
            let was_more = window.is_none_or(|window| window.most > last);
            self.carry_over(life, (last, reset), was_more);
        }
    }

    /// The last budget of a life; `None` if it never had one.
    fn last_budget(&self, life: &Life, end: Timestamp) -> Option<(Money, Option<LimitReset>)> {
        let versions = self.budgets_in_force(&life.role, Timestamp::MIN, end);
        let of_life = versions.into_iter().filter_map(|(_, terms)| terms);
        let mut budgets = of_life
            .filter(|terms| terms.life == *life)
            .filter_map(|terms| terms.budget);
        budgets.next()
    }

    /// The window, if the life had a budget of this kind throughout.
    fn window<'a>(
        &self,
        life: &'a Life,
        reset: Option<LimitReset>,
        (start, end): (Timestamp, Timestamp),
    ) -> Option<Window<'a>> {
        let unclear = SignedDuration::from_mins(10);
        let since = start.checked_sub(unclear).unwrap_or(start);
        let mut versions = self.budgets_in_force(&life.role, since, end);
        let is_of_life = |terms: &Option<Terms>| terms.as_ref().is_some_and(|t| t.life == *life);
        // Before the role was created, and after it was deleted.
        while versions.last().is_some_and(|(_, terms)| !is_of_life(terms)) {
            versions.pop();
        }
        let first = versions.iter().position(|(_, terms)| is_of_life(terms))?;
        let gone: Vec<_> = versions.drain(..first).collect();
        let end = gone.last().map_or(end, |(at, _)| *at);
        let budgets = versions.iter().map(|(_, terms)| {
            let terms = terms.as_ref().filter(|terms| terms.life == *life)?;
            terms.budget.filter(|budget| budget.1 == reset)
        });
        let budgets: Option<Vec<_>> = budgets.collect();
        let amounts: Vec<Money> = budgets?.into_iter().map(|(amount, _)| amount).collect();
        Some(Window {
            life,
            start,
            end,
            most: amounts.into_iter().max()?,
        })
    }

    fn judge_window(&self, window: &Window<'_>) {
        let sum = self.sum(window);
        let (life, most) = (window.life, window.most);
        let carried = self
            .budgets
            .seen(|seen| seen.carried.get(life).copied().unwrap_or_default());
        let excused = sum.excused.saturating_add(carried);
        self.budgets.seen(|seen| {
            let windows = &mut seen.windows;
            windows.judged += 1;
            if excused == 0 {
                windows.strictly += 1;
                windows.spent += u64::from(sum.spent >= most / 10 * 9);
                windows.worst = windows.worst.max(sum.spent * 100 / most.max(1));
            }
        });
        let (start, role) = (window.start.strftime("%d %H:%M"), &life.role);
        let (spent, in_flight) = (usd(sum.spent), usd(sum.in_flight));
        let what = format!(
            "{role} has spent {spent} in the window since {start}: its budget was {}, {in_flight} was in \
             flight, {} is excused",
            usd(most),
            usd(excused)
        );
        let keys: Vec<&str> = sum.keys.iter().map(String::as_str).collect();
        self.story.tell_of(&keys, format!("=== {what}"));
        let allowed = most.saturating_add(sum.in_flight).saturating_add(excused);
        if sum.spent > allowed.saturating_add(ROUNDING) {
            self.violated(&what, &keys);
        }
    }

    fn sum(&self, window: &Window<'_>) -> Sum {
        let (start, end) = (window.start, window.end);
        self.budgets.seen(|seen| {
            let mut sum = Sum::default();
            for (hash, key) in &seen.keys {
                if key.life.as_ref() != Some(window.life) {
                    continue;
                }
                let spent = key.spent_between(start, end);
                sum.spent += spent;
                sum.in_flight += key.most_in_flight(start, end);
                if spent > 0 {
                    sum.keys.push(hash.clone());
                }
                let forgotten = key.forgotten.filter(|(at, _)| start <= *at && *at < end);
                sum.excused += match forgotten {
                    _ if seen.unknown.contains(hash) => spent,
                    Some((_, amount)) => amount,
                    None => 0,
                };
            }
            let excused = seen.excused.iter().filter(|excused| {
                excused.life == *window.life && start <= excused.at && excused.at < end
            });
            let excused = excused.map(|excused| excused.amount);
            sum.excused = excused.fold(sum.excused, Money::saturating_add);
            sum
        })
    }

    /// The amount by which the limits of living keys exceed the budget when the next window begins, if there
    /// is a reason.
    fn carry_over(
        &self,
        life: &Life,
        (budget, reset): (Money, Option<LimitReset>),
        was_more: bool,
    ) {
        let truth = self.truth();
        let was = self.budgets.seen(|seen| {
            let known: Vec<String> = seen
                .unknown
                .iter()
                .filter(|hash| {
                    let nonce = self.witness.whose(hash).map(|(_, nonce)| nonce);
                    truth.leads_to(hash, &nonce.unwrap_or_default())
                })
                .cloned()
                .collect();
            let unknown = !seen.unknown.is_empty();
            known.iter().for_each(|hash| _ = seen.unknown.remove(hash));
            let carried = seen.carried.remove(life).is_some();
            unknown || carried || seen.excused.iter().any(|excused| excused.life == *life)
        });
        let limit = |key: &Key| match key.limit {
            Some(limit) if life.role == DYNAMIC || key.limit_reset == reset => money(limit),
            _ => UNLIMITED,
        };
        let unknown = self.budgets.seen(|seen| seen.unknown.clone());
        let living = self.living_of(life).into_iter();
        let enabled = living.filter(|key| !key.disabled && !unknown.contains(&key.hash));
        let limits = enabled.map(|key| limit(&key));
        let limits = limits.fold(0, Money::saturating_add);
        let excess = limits.saturating_sub(budget);
        if (was || was_more) && excess > 0 {
            let excess = if limits == UNLIMITED {
                UNLIMITED
            } else {
                excess
            };
            self.budgets
                .seen(|seen| seen.carried.insert(life.clone(), excess));
        }
    }
}

impl Held {
    /// The most that was in flight at any moment, or within the time in which a limit takes effect.
    fn most_in_flight(&self, start: Timestamp, end: Timestamp) -> Money {
        let done = |call: &super::Call| call.charged.unwrap_or(end) + TAKES_EFFECT;
        let calls = || {
            self.calls
                .iter()
                .filter(|call| call.begun < end && done(call) >= start)
        };
        let at = |at: Timestamp| -> Money {
            let then = calls().filter(|call| call.begun <= at && done(call) >= at);
            then.map(|call| call.cost).sum()
        };
        calls()
            .map(|call| at(call.begun.max(start)))
            .max()
            .unwrap_or_default()
    }
}

/// The longest time from a reading of a key until the limit that follows from it is in effect: if it takes
/// longer, the engine reads the key again.
const TAKES_EFFECT: SignedDuration = SignedDuration::from_millis(3_300);

/// In millionths of a dollar.
const ROUNDING: Money = 20;
