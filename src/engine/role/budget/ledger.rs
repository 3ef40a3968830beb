//! The ledger of a role's budget: what each living key may spend in the window, and what ended keys have
//! spent in it.
//!
//! **The invariant:** what the living keys count for and what ended keys have spent is at most the budget.
//! [`Ledger::begin`] is the only way to let a key count for more, and refuses what does not fit. What can
//! still break it is what OpenRouter lets a key overshoot with requests in flight, and a budget that is
//! lowered below what was granted; then [`next`](super::next) lowers what can be lowered.
//!
//! A key counts for the most that it may be able to spend in the window: the limit that OpenRouter has
//! confirmed, what was spent by the last reading, a limit call whose outcome is not known, and what it
//! could spend before it was lowered, as long as no reading has shown what it did spend by then.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::window::Window;
use super::{Budget, Counting};
use crate::engine::clock::after;
use crate::engine::role::rotating::Failure;
use crate::openrouter::{KeyHash, Limits};

/// What a role's keys were granted, and what its ended keys have spent, in a window of its budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The window that it is about.
    pub(super) window: Window,
    /// What ended keys have spent in the window.
    pub(super) ended: Amount,
    /// What of that was read after the window's end by the clock: it may have been spent in the next one.
    #[serde(default, skip_serializing_if = "Amount::is_zero")]
    pub(super) ended_since: Amount,
    /// The keys that may still spend.
    pub(super) grants: Vec<Grant>,
    /// When it was last looked whether the next window has begun at OpenRouter, and it had not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) looked: Option<Timestamp>,
}

/// What one key may spend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The key.
    pub hash: KeyHash,
    /// The limit that OpenRouter has confirmed last.
    pub limit: Amount,
    /// How OpenRouter counts it.
    pub counting: Counting,
    /// What it has spent in the window, by the last reading.
    pub spent: Amount,
    /// What it is to be lowered to; `None` for a key that is not to be lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Amount>,
    /// A limit call whose outcome is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<Pending>,
    /// What it could spend before it was lowered, while it is not known what it did spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unread: Option<Pending>,
    /// When it was disabled, before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Timestamp>,
    /// Whether `spent` is its final reading: it was disabled long enough before that. It is not deleted yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_final: bool,
    /// Why it could not be read or changed, if it is not the current key: that holds up no other key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// An amount that is possible until a reading some time after `since` has shown what is true.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// At most this much.
    pub(super) most: Amount,
    /// Since when.
    pub(super) since: Timestamp,
}

/// What OpenRouter says of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What it has spent in OpenRouter's current window.
    pub spent: Amount,
    /// Its limit.
    pub limit: Amount,
    /// When OpenRouter's current window ends, if it says so.
    pub resets_at: Option<Timestamp>,
}

/// A limit call that was entered into the ledger, to be stored before it is sent.
#[must_use = "the call is unclear until its outcome is entered"]
#[derive(Debug)]
pub struct Begun {
    hash: KeyHash,
    to: Amount,
    counting: Counting,
    before: Option<Pending>,
}

impl Begun {
    /// Of which key.
    pub fn hash(&self) -> &KeyHash {
        &self.hash
    }

    /// The limits to ask for.
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

    /// The ledger of a role whose keys had no budget so far: what they may spend is not known.
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
            looked: None,
        }
    }

    /// What ended keys have spent in the window.
    pub fn ended(&self) -> Amount {
        self.ended
    }

    /// What a key was granted.
    pub fn grant(&self, hash: &KeyHash) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.hash == *hash)
    }

    fn grant_mut(&mut self, hash: &KeyHash) -> Option<&mut Grant> {
        self.grants.iter_mut().find(|grant| grant.hash == *hash)
    }

    /// What counts against the budget.
    #[cfg(test)]
    pub fn counted(&self) -> Amount {
        self.counted_without(None)
    }

    /// What counts against the budget besides one key.
    fn counted_without(&self, hash: Option<&KeyHash>) -> Amount {
        let others = self.grants.iter().filter(|g| Some(&g.hash) != hash);
        self.ended.plus(others.map(Grant::counts).sum())
    }

    /// What a key may have at most, with everything else as it is.
    pub fn rest_for(&self, hash: &KeyHash, budget: &Budget) -> Amount {
        budget.amount.minus(self.counted_without(Some(hash)))
    }

    /// What an older key gets of what is left when a new key takes its place: what it has spent, and a
    /// share of the rest; never more than it has.
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

    /// Enters a key that was made without money.
    pub fn add(&mut self, hash: KeyHash, counting: Counting) {
        if self.grant(&hash).is_none() {
            self.grants.push(Grant::new(hash, Amount::ZERO, counting));
        }
    }

    /// Enters a key that is found, which may spend what OpenRouter says of it.
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

    /// OpenRouter does not show the limit that a key was granted, but this one.
    pub fn found(&mut self, hash: &KeyHash, limit: Amount, counting: Counting) {
        if let Some(grant) = self.grant_mut(hash) {
            (grant.limit, grant.counting) = (limit, counting);
        }
    }

    /// Enters a key that may spend whatever it likes, as far as is known: of this budget it was granted
    /// nothing so far.
    pub fn add_unlimited(&mut self, hash: KeyHash, counting: Counting) {
        if self.grant(&hash).is_none() {
            self.grants
                .push(Grant::new(hash, Amount::UNLIMITED, counting));
        }
    }

    /// A limit call begins. From now on the key counts for what the call asks for, too. To be stored
    /// before the call is sent. `None` if the ledger does not have the key, or that much is not left.
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

    /// The call took effect. What `reading` says was spent counts; if that may lag behind, a key that
    /// was lowered counts as before until a later reading. Not one that had no limit: what it spent before
    /// was no part of the budget.
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

    /// The call was refused: nothing has changed.
    pub fn refuse(&mut self, begun: Begun) {
        if let Some(grant) = self.grant_mut(&begun.hash) {
            grant.pending = begun.before;
        }
    }

    /// A key was lowered a while after it was read: by then it may have spent all that it could.
    pub fn doubt(&mut self, hash: &KeyHash, could_spend: Amount, now: Timestamp) {
        if let Some(grant) = self.grant_mut(hash) {
            grant.doubt(could_spend, now);
        }
    }

    /// What a reading says of a key. It settles whatever was unclear for long enough.
    pub fn read(&mut self, hash: &KeyHash, reading: Reading, now: Timestamp) {
        let Some(grant) = self.grant_mut(hash) else {
            return;
        };
        grant.correct(now);
        let is_over = |unread: Pending| unread.settles_at() <= now;
        grant.is_final = grant.has_settled(now);
        // What was read before may have been reported late, in an earlier window.
        grant.spent = if grant.is_final || grant.unread.is_some_and(is_over) {
            reading.spent
        } else {
            grant.spent.max(reading.spent)
        };
        if grant.pending.is_none_or(is_over) {
            grant.pending = None;
            // Without a limit it keeps counting for that, until it has one of the budget.
            if grant.limit != Amount::UNLIMITED {
                grant.limit = reading.limit;
            }
        }
        grant.unread = grant.unread.filter(|unread| !is_over(*unread));
    }

    /// A call that an earlier process stored may still be sent, for a while from `since`.
    pub fn inherit(&mut self, hash: &KeyHash, since: Timestamp) {
        if let Some(pending) = self
            .grant_mut(hash)
            .and_then(|grant| grant.pending.as_mut())
        {
            pending.since = pending.since.max(since);
        }
    }

    /// It could not be read or changed; `None` once that has worked.
    pub fn failed(&mut self, hash: &KeyHash, failure: Option<Failure>) {
        if let Some(grant) = self.grant_mut(hash) {
            grant.failure = failure;
        }
    }

    /// The keys that could not be read or changed.
    pub fn failures(&self) -> impl Iterator<Item = (&KeyHash, &Failure)> {
        self.grants
            .iter()
            .filter_map(|grant| Some((&grant.hash, grant.failure.as_ref()?)))
    }

    /// Whether a key has a call that was stored before `since`.
    pub fn is_inherited(&self, hash: &KeyHash, since: Timestamp) -> bool {
        let pending = self.grant(hash).and_then(|grant| grant.pending);
        pending.is_some_and(|pending| pending.since < since)
    }

    /// Brings every key but `current` down to what it has spent and its share of what is left.
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

    /// A key cannot spend any more, but for what it has in flight.
    pub fn disabled(&mut self, hash: &KeyHash, now: Timestamp) {
        if let Some(grant) = self.grant_mut(hash) {
            grant.disabled_at = Some(now);
            grant.is_final = false;
            grant.target = None;
        }
    }

    /// A key that was disabled may be enabled from now on: it counts for its limit again. To be stored
    /// before it is enabled.
    pub fn enabled(&mut self, hash: &KeyHash) {
        if let Some(grant) = self.grant_mut(hash) {
            grant.disabled_at = None;
            grant.is_final = false;
        }
    }

    /// A key has ended. `spent` is its final reading; without one it counts for all that it was granted.
    /// `false` if it was not among the keys that may spend.
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

    /// A key is gone that nobody ever had.
    pub fn release(&mut self, hash: &KeyHash) {
        self.grants.retain(|grant| grant.hash != *hash);
    }

    /// Keys that are not among the role's, and about which nothing is unclear: they were to take over and
    /// did not. Those that can spend nothing are forgotten at once.
    pub fn left_over(&mut self, is_the_roles: impl Fn(&KeyHash) -> bool) -> Vec<KeyHash> {
        self.grants
            .retain(|grant| is_the_roles(&grant.hash) || grant.counts() > Amount::ZERO);
        let left = self.grants.iter().filter(|grant| {
            !is_the_roles(&grant.hash) && grant.pending.is_none() && grant.unread.is_none()
        });
        left.map(|grant| grant.hash.clone()).collect()
    }

    /// Whether a later window has begun at OpenRouter. By what it says of its window's end; or, where it
    /// says nothing, by a counter that has fallen, or once it is certainly time.
    pub fn has_rolled(&self, hash: &KeyHash, reading: Reading, now: Timestamp) -> bool {
        let Some(latest) = self.window.end().map(|end| after(end, SETTLED)) else {
            return false;
        };
        match reading.resets_at {
            Some(resets_at) => resets_at > latest,
            None => {
                let before = self.grant(hash).map_or(Amount::ZERO, |grant| grant.spent);
                reading.spent < before || latest <= now
            }
        }
    }

    /// A later window has begun, by this reading: nothing is spent in it but by keys that have ended since.
    /// Older keys are to be lowered to their share of it; until a reading has shown what they spend before
    /// that, they count as they did.
    pub fn roll(&mut self, budget: &Budget, current: &KeyHash, reading: Reading, now: Timestamp) {
        // OpenRouter's window counts, even if the clock here is in another one.
        let before_its_end =
            |at: Timestamp| at.checked_sub(SignedDuration::from_secs(SETTLED.cast_signed()));
        let within = reading.resets_at.and_then(|at| before_its_end(at).ok());
        self.window = Window::at(self.window.reset(), within.unwrap_or(now));
        self.ended = std::mem::take(&mut self.ended_since);
        self.looked = None;
        for grant in &mut self.grants {
            grant.spent = Amount::ZERO;
        }
        self.retarget(budget, current);
    }

    /// It was looked whether the next window has begun, and it has not.
    pub fn has_not_rolled(&mut self, now: Timestamp) {
        self.looked = Some(now);
    }

    /// The budget is another one now, or is counted in another way. What ended keys have spent keeps
    /// counting until the window ends: at least what `in_window` says of the window that it is from now on.
    pub fn rebudget(
        &mut self,
        budget: &Budget,
        current: &KeyHash,
        in_window: Amount,
        now: Timestamp,
    ) {
        if budget.reset != self.window.reset() {
            self.window = Window::at(budget.reset, now);
            self.looked = None;
        }
        self.ended = self.ended.max(in_window);
        for grant in &mut self.grants {
            // It was final for the window before.
            grant.is_final = false;
        }
        self.retarget(budget, current);
    }
}

impl Grant {
    fn new(hash: KeyHash, limit: Amount, counting: Counting) -> Self {
        Self {
            hash,
            limit,
            counting,
            spent: Amount::ZERO,
            target: None,
            pending: None,
            unread: None,
            disabled_at: None,
            is_final: false,
            failure: None,
        }
    }

    /// From now on it may have spent this much, until a reading some time later.
    fn doubt(&mut self, could_spend: Amount, now: Timestamp) {
        let earlier = self.unread.map_or(Amount::ZERO, |unread| unread.most);
        self.unread = Some(Pending {
            most: earlier.max(could_spend),
            since: now,
        });
    }

    /// Times of a clock that was ahead are not believed.
    fn correct(&mut self, now: Timestamp) {
        for possible in [&mut self.pending, &mut self.unread].into_iter().flatten() {
            possible.since = possible.since.min(now);
        }
        self.disabled_at = self.disabled_at.map(|at| at.min(now));
    }

    /// Whether a reading now is final: it was disabled long enough before.
    fn has_settled(&self, now: Timestamp) -> bool {
        self.disabled_at
            .is_some_and(|disabled_at| after(disabled_at, SETTLED) <= now)
    }

    /// The most that it was ever granted of the budget, or has spent.
    fn granted(&self) -> Amount {
        if self.is_final {
            return self.counts();
        }
        let possible = [self.pending, self.unread].into_iter().flatten();
        let possible = possible.map(|possible| possible.most).chain([self.limit]);
        let granted = possible.filter(|most| *most != Amount::UNLIMITED);
        granted.fold(self.spent, Amount::max)
    }

    /// The most that the key may be able to spend in the window.
    pub fn counts(&self) -> Amount {
        let possible = [self.pending, self.unread];
        let possible = possible.into_iter().flatten().map(|pending| pending.most);
        let certain = if self.is_final {
            self.spent
        } else {
            self.limit.max(self.spent)
        };
        possible.fold(certain, Amount::max)
    }

    /// The limits that OpenRouter has confirmed; `None` while that is unclear.
    pub fn settled_limits(&self) -> Option<Limits> {
        let is_settled = self.pending.is_none() && self.limit != Amount::UNLIMITED;
        is_settled.then(|| self.counting.limits(self.limit))
    }

    /// What an older key is to have that works again: what it has spent, and a share of what is `left`;
    /// never less than it may have anyway.
    pub fn wanted_again(&self, left: Amount) -> Amount {
        let with_share = self.spent.plus(left.percent(SHARE));
        if self.is_final {
            with_share
        } else {
            with_share.max(self.limit)
        }
    }

    /// Whether a call may still raise it, whatever is done about it.
    pub fn may_rise(&self) -> bool {
        self.may_rise_over(self.limit)
    }

    /// Whether a call may still give it more than this, whatever is done about it.
    pub fn may_rise_over(&self, limit: Amount) -> bool {
        self.pending.is_some_and(|pending| pending.most > limit)
    }
}

impl Pending {
    /// When a reading shows what is true.
    pub(super) fn settles_at(self) -> Timestamp {
        after(self.since, SETTLED)
    }
}

/// In percent of what is left: what all older keys get for their grace periods.
const SHARE: u64 = 10;

/// In seconds: after so long a call has taken effect or never will, and a reading shows what was spent
/// by then.
pub const SETTLED: u64 = 10 * 60;

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::openrouter::LimitReset;

    const BUDGET: Budget = Budget {
        amount: Amount::LARGEST,
        reset: Some(LimitReset::Daily),
    };

    fn key(name: &str) -> KeyHash {
        KeyHash::of(&SecretString::from(name))
    }

    #[test]
    fn a_key_that_never_took_over_is_forgotten_or_asked_about() {
        let (now, counting) = (Timestamp::UNIX_EPOCH, BUDGET.counting(false));
        let mut ledger = Ledger::begun(&BUDGET, counting, key("current"), now);
        for powerless in ["a", "b"] {
            ledger.add(key(powerless), counting);
        }
        ledger.add_unlimited(key("found"), counting);
        let left_over = ledger.left_over(|hash| *hash == key("current"));
        assert_eq!(left_over, [key("found")]);
        assert_eq!(
            ledger.grants.len(),
            2,
            "what can spend nothing is forgotten"
        );
        ledger.release(&key("found"));
        assert_eq!(ledger.counted(), BUDGET.amount);
    }

    #[test]
    fn no_call_lets_the_keys_have_more_than_the_budget() {
        let (now, counting) = (Timestamp::UNIX_EPOCH, BUDGET.counting(false));
        let mut ledger = Ledger::begun(&BUDGET, counting, key("current"), now);
        ledger.add(key("next"), counting);
        let a_cent = Amount::granted(0.01);
        let refused = ledger.begin(&key("next"), a_cent, (&BUDGET, counting), now);
        assert!(refused.is_none());
        assert!(
            ledger
                .begin(&key("nobody's"), Amount::ZERO, (&BUDGET, counting), now)
                .is_none()
        );
        let lower = BUDGET.amount.minus(a_cent);
        let begun = ledger.begin(&key("current"), lower, (&BUDGET, counting), now);
        let refused = ledger.begin(&key("next"), a_cent, (&BUDGET, counting), now);
        assert!(refused.is_none(), "not before it is confirmed");
        let reading = Reading {
            spent: Amount::ZERO,
            limit: lower,
            resets_at: None,
        };
        ledger.confirm(begun.unwrap(), reading, false, now);
        assert!(
            ledger
                .begin(&key("next"), a_cent, (&BUDGET, counting), now)
                .is_some()
        );
    }

    #[test]
    fn a_reset_that_is_noticed_late_is_noticed_where_openrouter_does_not_say_when_it_was() {
        let at = |instant: &str| -> Timestamp { instant.parse().unwrap() };
        let counting = BUDGET.counting(false);
        let noon = at("2026-11-20T12:00:00Z");
        let mut ledger = Ledger::begun(&BUDGET, counting, key("current"), noon);
        let reading = |spent| Reading {
            spent: Amount::granted(spent),
            limit: BUDGET.amount,
            resets_at: None,
        };
        ledger.read(&key("current"), reading(5.0), noon);
        // The node was down over midnight, or OpenRouter was; by now the key has spent more than it had by then.
        for hour in ["06:00", "12:00", "20:00"] {
            let now = at(&format!("2026-11-21T{hour}:00Z"));
            assert!(
                ledger.has_rolled(&key("current"), reading(8.0), now),
                "{hour}"
            );
        }
    }
}
