//! The core of a budget: determines the next request to OpenRouter from the ledger and the time. Pure.
//!
//! Keys are lowered before one is raised, amounts are absolute, and a key has only one limit call in flight.
//! If a raise is late, too little is available for a while, but never too much.

use jiff::Timestamp;

use super::ledger::{Grant, Ledger, SETTLED};
use super::{Amount, Budget, Counting};
use crate::engine::clock::after;
use crate::openrouter::KeyHash;

/// The next step of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Set the key's limit.
    Set(KeyHash, Amount),
    /// Read the key's spending and limit, to settle what is unclear.
    Read(KeyHash),
    /// Check with this key whether the next window has begun at OpenRouter.
    CheckForReset(KeyHash),
    /// Wait until this time; `None` means until something changes.
    Wait(Option<Timestamp>),
}

impl Ledger {
    /// The next step for a role that hands out `current`.
    pub fn next(
        &self,
        (budget, counting): (&Budget, Counting),
        current: &KeyHash,
        now: Timestamp,
    ) -> Next {
        let mut wake = None;
        let mut wake_at = |at: Timestamp| {
            wake = Some(wake.map_or(at, |earliest: Timestamp| earliest.min(at)));
        };
        if let Some(at) = self.reset_check_at(now) {
            if at <= now {
                return Next::CheckForReset(current.clone());
            }
            wake_at(at);
        }
        if self.grant(current).is_none() {
            return Next::Read(current.clone());
        }
        let (waiting, ready): (Vec<_>, Vec<_>) =
            self.grants.iter().partition(|grant| grant.waits(now));
        for failure in waiting.iter().filter_map(|grant| grant.failure.as_ref()) {
            wake_at(failure.retry_at);
        }
        for grant in &ready {
            match grant.read_at(&grant.hash == current, now) {
                Some(at) if at <= now => return Next::Read(grant.hash.clone()),
                Some(at) => wake_at(at),
                None => {}
            }
        }
        let (mine, others): (Vec<_>, Vec<_>) = ready
            .iter()
            .partition::<Vec<&Grant>, _>(|grant| grant.hash == *current);
        for grant in others {
            if let Some(limit) = grant.lowered_to(counting) {
                return Next::Set(grant.hash.clone(), limit);
            }
        }
        for grant in mine {
            let rest = self.rest_for(current, budget);
            let is_right = grant.limit == rest && grant.counting == counting;
            // Repeating a call is harmless: the key already counts for it.
            let is_asked_for = grant.pending.is_some_and(|pending| pending.most == rest);
            if !is_right && (is_asked_for || !grant.may_rise()) {
                return Next::Set(current.clone(), rest);
            }
        }
        Next::Wait(wake)
    }

    /// When to check whether the next window has begun at OpenRouter.
    fn reset_check_at(&self, now: Timestamp) -> Option<Timestamp> {
        let due = after(self.window.end()?, AFTER_RESET);
        // A time from a clock that was ahead is ignored.
        let checked = self.reset_checked.filter(|checked| *checked <= now);
        let checked = checked.map(|checked| after(checked, CHECK_AGAIN));
        Some(checked.map_or(due, |again| due.max(again)))
    }

    /// Until when an automatic rotation is postponed: around the end of a window, and while a call for the
    /// current key is unclear.
    pub fn rotation_waits_until(&self, current: &KeyHash, now: Timestamp) -> Option<Timestamp> {
        let unclear = self.grant(current).and_then(|grant| grant.pending);
        let unclear = unclear.map(|pending| after(pending.settles_at(), CHECK_AGAIN));
        let around_reset = self.window.end().and_then(|end| {
            let until = after(end, SETTLED);
            (after(now, BEFORE_RESET) >= end).then_some(until)
        });
        unclear.max(around_reset).filter(|until| *until > now)
    }
}

impl Grant {
    /// Whether requests for the key must wait after a failure.
    fn waits(&self, now: Timestamp) -> bool {
        let failure = self.failure.as_ref();
        failure.is_some_and(|failure| failure.retry_at > now)
    }

    /// When a reading can settle something.
    fn read_at(&self, is_current: bool, now: Timestamp) -> Option<Timestamp> {
        let possible = [self.pending, self.unread].into_iter().flatten();
        let mut times = possible
            .map(|possible| possible.since)
            .chain(self.disabled_at);
        // The reading corrects times from a clock that was ahead.
        if times.any(|at| at > now) {
            return Some(Timestamp::MIN);
        }
        let ends = self.disabled_at.filter(|_| !self.is_final);
        let ends = ends.map(|disabled_at| after(disabled_at, SETTLED));
        let is_unknown = self.limit == Amount::UNLIMITED && self.target.is_none();
        if is_unknown && !is_current && self.disabled_at.is_none() && self.pending.is_none() {
            return Some(Timestamp::MIN);
        }
        let settles = [self.pending, self.unread].into_iter().flatten();
        let settles = settles.map(|possible| possible.settles_at());
        settles.chain(ends).min()
    }

    /// The limit to which an older key is to be lowered, or its own limit if it is to be counted in another
    /// way.
    fn lowered_to(&self, counting: Counting) -> Option<Amount> {
        if self.disabled_at.is_some() || self.may_rise() {
            return None;
        }
        match self.target {
            Some(target) if target < self.limit => Some(target),
            _ => (self.counting != counting).then_some(self.limit),
        }
    }
}

/// In seconds: how long after a reset OpenRouter is first asked whether it has happened.
pub(super) const AFTER_RESET: u64 = 60;
/// In seconds: how long before a reset rotations are postponed.
const BEFORE_RESET: u64 = 3 * 60;
/// In seconds.
const CHECK_AGAIN: u64 = 60;
