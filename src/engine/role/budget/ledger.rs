//! The ledger of a role's budget: what each living key may spend in the window, and what ended keys have
//! spent in it.
//!
//! **The invariant:** the sum of what the living keys count for and what ended keys have spent is at most the
//! budget. [`Ledger::begin`] is the only way to let a key count for more, and rejects amounts that do not
//! fit. Two things can still break the invariant: a key whose requests in flight exceed its limit at
//! OpenRouter, and a budget that is lowered below what was granted. In these cases [`next`](super::next)
//! lowers the keys that can be lowered.
//!
//! A key counts for the most that it may be able to spend in the window. That is the maximum of: the limit
//! that OpenRouter has confirmed; the spending in the last reading; the amount of a limit call with an
//! unknown outcome; and the limit before the key was lowered, until a reading has shown what it had spent by
//! then.

mod grant;
mod windows;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use grant::{Grant, SETTLED};
use grant::{Pending, SHARE};

use super::amount::Amount;
use super::window::Window;
use super::{Budget, Counting};
use crate::engine::role::rotating::Failure;
use crate::openrouter::{KeyHash, Limits};

/// What a role's keys were granted, and what its ended keys have spent, in one window of its budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The window.
    pub(super) window: Window,
    /// What ended keys have spent in the window.
    pub(super) ended: Amount,
    /// The part of that which was read after the window's end by the clock. It may belong to the next window.
    #[serde(default, skip_serializing_if = "Amount::is_zero")]
    pub(super) ended_since: Amount,
    /// The keys that may still spend.
    pub(super) grants: Vec<Grant>,
    /// The last time when the next window was found not to have begun at OpenRouter.
    #[serde(default, rename = "looked", skip_serializing_if = "Option::is_none")]
    pub(super) reset_checked: Option<Timestamp>,
}

/// OpenRouter's report about a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What it has spent in OpenRouter's current window.
    pub spent: Amount,
    /// Its limit.
    pub limit: Amount,
    /// When OpenRouter's current window ends, if it is reported.
    pub resets_at: Option<Timestamp>,
}

/// A limit call that was entered into the ledger, which must be stored before the call is sent.
#[must_use = "the call is unclear until its outcome is entered"]
#[derive(Debug)]
pub struct Begun {
    hash: KeyHash,
    to: Amount,
    counting: Counting,
    before: Option<Pending>,
}

impl Begun {
    /// The key.
    pub fn hash(&self) -> &KeyHash {
        &self.hash
    }

    /// The limits to set.
    pub fn limits(&self) -> Limits {
        self.counting.limits(self.to)
    }
}

impl Ledger {
    /// The ledger of a role whose first key is granted the whole budget.
    pub fn begun(budget: &Budget, counting: Counting, first: KeyHash, now: Timestamp) -> Self {
        let mut ledger = Self::empty(budget, now);
        ledger
            .grants
            .push(Grant::new(first, budget.amount, counting));
        ledger
    }

    /// The ledger of a role that had no budget until now: what its keys may spend is unknown.
    pub fn of_keys(
        budget: &Budget,
        counting: Counting,
        keys: impl IntoIterator<Item = KeyHash>,
        now: Timestamp,
    ) -> Self {
        let mut ledger = Self::empty(budget, now);
        for hash in keys {
            ledger.add_unlimited(hash, counting);
        }
        ledger
    }

    /// A ledger without keys.
    pub fn empty(budget: &Budget, now: Timestamp) -> Self {
        Self {
            window: Window::at(budget.reset, now),
            ended: Amount::ZERO,
            ended_since: Amount::ZERO,
            grants: Vec::new(),
            reset_checked: None,
        }
    }

    /// What ended keys have spent in the window.
    pub fn ended(&self) -> Amount {
        self.ended
    }

    /// The window, and what ended keys have spent in it.
    pub fn ended_in(&self) -> (Window, Amount) {
        (self.window, self.ended)
    }

    /// The grant of a key.
    pub fn grant(&self, hash: &KeyHash) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.hash == *hash)
    }

    fn grant_mut(&mut self, hash: &KeyHash) -> Option<&mut Grant> {
        self.grants.iter_mut().find(|grant| grant.hash == *hash)
    }

    /// The total that counts against the budget.
    #[cfg(test)]
    pub fn counted(&self) -> Amount {
        self.counted_without(None)
    }

    /// The total that counts against the budget, without one key.
    fn counted_without(&self, hash: Option<&KeyHash>) -> Amount {
        let others = self.grants.iter().filter(|g| Some(&g.hash) != hash);
        self.ended.plus(others.map(Grant::counts).sum())
    }

    /// The most that a key may have if everything else is unchanged.
    pub fn rest_for(&self, hash: &KeyHash, budget: &Budget) -> Amount {
        budget.amount.minus(self.counted_without(Some(hash)))
    }

    /// The limit of an older key when a new key becomes current: what it has spent plus a share of what is
    /// left, but never more than its current limit.
    pub fn share_for(
        &self,
        hash: &KeyHash,
        budget: &Budget,
        spent: Amount,
        keeps_working: bool,
    ) -> Amount {
        let left = self.rest_for(hash, budget).minus(spent);
        let share = if keeps_working {
            left.percent(SHARE)
        } else {
            Amount::ZERO
        };
        let granted = self.grant(hash).map_or(Amount::ZERO, |grant| grant.limit);
        spent.plus(share).min(granted)
    }

    /// Enters a key that was made with a limit of zero.
    pub fn add(&mut self, hash: KeyHash, counting: Counting) {
        if self.grant(&hash).is_none() {
            self.grants.push(Grant::new(hash, Amount::ZERO, counting));
        }
    }

    /// Enters a key that a comparison found. It may spend what OpenRouter reports as its limit.
    pub fn add_found(
        &mut self,
        hash: &KeyHash,
        (counting, reading): (Counting, Reading),
        budget: &Budget,
        current: &KeyHash,
    ) {
        if self.grant(hash).is_none() {
            let mut found = Grant::new(hash.clone(), reading.limit, counting);
            found.spent = reading.spent;
            self.grants.push(found);
            self.retarget(budget, current);
        }
    }

    /// Records that OpenRouter shows this limit instead of the granted one.
    pub fn found(&mut self, hash: &KeyHash, limit: Amount, counting: Counting) {
        if let Some(grant) = self.grant_mut(hash) {
            (grant.limit, grant.counting) = (limit, counting);
        }
    }

    /// Enters a key that has no limit from this budget yet, so that its possible spending is unlimited.
    pub fn add_unlimited(&mut self, hash: KeyHash, counting: Counting) {
        if self.grant(&hash).is_none() {
            self.grants
                .push(Grant::new(hash, Amount::UNLIMITED, counting));
        }
    }

    /// Begins a limit call. From now on the key also counts for the requested limit. The ledger must be
    /// stored before the call is sent. `None` if the ledger does not have the key, or the budget does not
    /// have that much left.
    pub fn begin(
        &mut self,
        hash: &KeyHash,
        to: Amount,
        (budget, counting): (&Budget, Counting),
        now: Timestamp,
    ) -> Option<Begun> {
        let rest = self.rest_for(hash, budget);
        let grant = self.grant_mut(hash)?;
        if to > rest.max(grant.counts()) {
            return None;
        }
        let before = grant.pending;
        let most = before.map_or(to, |before| before.most.max(to));
        grant.pending = Some(Pending { most, since: now });
        Some(Begun {
            hash: hash.clone(),
            to,
            counting,
            before,
        })
    }

    /// Records that the call took effect. The spending in `reading` counts. If the reading may lag behind, a
    /// key that was lowered counts with its old limit until a later reading. That does not apply to a key
    /// without a limit: its earlier spending was not part of the budget.
    pub fn confirm(&mut self, begun: Begun, reading: Reading, lags: bool, now: Timestamp) {
        let Some(grant) = self.grant_mut(&begun.hash) else {
            return;
        };
        let could_spend = grant.limit;
        if lags && begun.to < could_spend && could_spend != Amount::UNLIMITED {
            grant.doubt(could_spend, now);
        }
        grant.pending = begun.before;
        grant.limit = begun.to;
        grant.counting = begun.counting;
        grant.spent = grant.spent.max(reading.spent);
    }

    /// Records that the call was rejected and changed nothing.
    pub fn refuse(&mut self, begun: Begun) {
        if let Some(grant) = self.grant_mut(&begun.hash) {
            grant.pending = begun.before;
        }
    }

    /// Records that a key was lowered some time after it was read, so that it may have spent all that it
    /// could.
    pub fn doubt(&mut self, hash: &KeyHash, could_spend: Amount, now: Timestamp) {
        if let Some(grant) = self.grant_mut(hash) {
            grant.doubt(could_spend, now);
        }
    }

    /// Enters a reading of a key. It settles everything that has been unclear for long enough.
    pub fn read(&mut self, hash: &KeyHash, reading: Reading, now: Timestamp) {
        let Some(grant) = self.grant_mut(hash) else {
            return;
        };
        grant.correct(now);
        let is_over = |unread: Pending| unread.settles_at() <= now;
        grant.is_final = grant.has_settled(now);
        // An earlier reading may have contained late reports from an earlier window.
        grant.spent = if grant.is_final || grant.unread.is_some_and(is_over) {
            reading.spent
        } else {
            grant.spent.max(reading.spent)
        };
        if grant.pending.is_none_or(is_over) {
            grant.pending = None;
            // A key without a limit counts as unlimited until it has a limit from the budget.
            if grant.limit != Amount::UNLIMITED {
                grant.limit = reading.limit;
            }
        }
        grant.unread = grant.unread.filter(|unread| !is_over(*unread));
    }

    /// Accounts for a call that an earlier process stored, and may still send for a while from `since`.
    pub fn inherit(&mut self, hash: &KeyHash, since: Timestamp) {
        if let Some(pending) = self
            .grant_mut(hash)
            .and_then(|grant| grant.pending.as_mut())
        {
            pending.since = pending.since.max(since);
        }
    }

    /// Records why the key could not be read or changed; `None` after a success.
    pub fn failed(&mut self, hash: &KeyHash, failure: Option<Failure>) {
        if let Some(grant) = self.grant_mut(hash) {
            grant.failure = failure;
        }
    }

    /// The keys that could not be read or changed, with the failures.
    pub fn failures(&self) -> impl Iterator<Item = (&KeyHash, &Failure)> {
        self.grants
            .iter()
            .filter_map(|grant| Some((&grant.hash, grant.failure.as_ref()?)))
    }

    /// Whether a key has a pending call that was stored before `since`.
    pub fn is_inherited(&self, hash: &KeyHash, since: Timestamp) -> bool {
        let pending = self.grant(hash).and_then(|grant| grant.pending);
        pending.is_some_and(|pending| pending.since < since)
    }

    /// Sets the target of every key except `current` to what it has spent plus its share of what is left.
    pub fn retarget(&mut self, budget: &Budget, current: &KeyHash) {
        let older = |grant: &&Grant| grant.hash != *current && grant.disabled_at.is_none();
        let (count, spent) = self
            .grants
            .iter()
            .filter(older)
            .fold((0, Amount::ZERO), |(count, spent), grant| {
                (count + 1, spent.plus(grant.spent))
            });
        let left = budget.amount.minus(self.ended).minus(spent);
        let share = left.percent(SHARE).shared_by(count);
        for grant in &mut self.grants {
            if grant.hash != *current && grant.disabled_at.is_none() {
                let target = grant.spent.plus(share);
                grant.target = (target < grant.limit).then_some(target);
            } else {
                grant.target = None;
            }
        }
    }

    /// Records that a key can no longer spend, except by requests in flight.
    pub fn disabled(&mut self, hash: &KeyHash, now: Timestamp) {
        if let Some(grant) = self.grant_mut(hash) {
            grant.disabled_at = Some(now);
            grant.is_final = false;
            grant.target = None;
        }
    }

    /// Records that a disabled key may be enabled from now on, so that it counts with its limit again. Must
    /// be stored before the key is enabled.
    pub fn enabled(&mut self, hash: &KeyHash) {
        if let Some(grant) = self.grant_mut(hash) {
            grant.disabled_at = None;
            grant.is_final = false;
        }
    }

    /// Records that a key has ended. `spent` is its final reading; without one its full grant counts. Returns
    /// `false` if the key was not in the ledger.
    pub fn end(&mut self, hash: &KeyHash, spent: Option<Amount>, now: Timestamp) -> bool {
        let Some(place) = self.grants.iter().position(|grant| grant.hash == *hash) else {
            return false;
        };
        let grant = self.grants.remove(place);
        let spent = match spent {
            Some(spent) if grant.has_settled(now) => spent,
            Some(spent) => spent.max(grant.spent),
            None => grant.granted(),
        };
        self.ended = self.ended.plus(spent);
        if self.window.end().is_some_and(|end| end <= now) {
            self.ended_since = self.ended_since.plus(spent);
        }
        true
    }

    /// Removes a key that is gone and was never handed out.
    pub fn release(&mut self, hash: &KeyHash) {
        self.grants.retain(|grant| grant.hash != *hash);
    }

    /// The keys that do not belong to the role, and whose state is clear: they were to become current and did
    /// not. Those that cannot spend anything are removed at once.
    pub fn left_over(&mut self, is_the_roles: impl Fn(&KeyHash) -> bool) -> Vec<KeyHash> {
        self.grants
            .retain(|grant| is_the_roles(&grant.hash) || grant.counts() > Amount::ZERO);
        let left = self.grants.iter().filter(|grant| {
            !is_the_roles(&grant.hash) && grant.pending.is_none() && grant.unread.is_none()
        });
        left.map(|grant| grant.hash.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
