//! The effects of a budget on a rotating role. Pure. Roles without a budget are not affected.

use jiff::Timestamp;

use super::definition::Definition;
use super::entry::RotatingRole;
use super::keys::SupersededKey;
use super::mismatch::{Mismatch, MismatchReason};
use super::stage::Stage;
use crate::engine::clock::after;
use crate::engine::role::budget::{
    Amount, Counting, Grant, Ledger, Next, SETTLED, Spans, Tally, Watch, of_key,
};
use crate::openrouter::{Key, KeyHash, Limits};

impl RotatingRole {
    /// The next step of the budget; `None` without one.
    pub(super) fn budget_step(&self, now: Timestamp) -> Option<Next> {
        let (budget, counting) = self.definition.terms.budget()?;
        let ledger = self.ledger.as_ref()?;
        let is_gone = |mismatch: Mismatch| {
            matches!(
                mismatch.reason,
                MismatchReason::Gone | MismatchReason::TornDown
            )
        };
        // There is no key to set a limit on until the next rotation.
        if self.mismatch.is_some_and(is_gone) {
            return None;
        }
        Some(ledger.next((&budget, counting), &self.current.hash, now))
    }

    /// When the next step of a superseded key's end is due. With a budget, a key is deleted only after its
    /// spending is certain.
    pub fn end_due(&self, key: &SupersededKey) -> Timestamp {
        let due = match key.stage {
            Stage::Held { until, .. } => until,
            Stage::Ordered => Timestamp::MIN,
            Stage::Grace | Stage::Restoring => key.revoke_at,
        };
        let settles_at = self.settles_at(&key.hash);
        settles_at.map_or(due, |settles_at| settles_at.max(due))
    }

    /// When the spending of a key is certain, if it is to be counted and the key was disabled in order to be
    /// ended; otherwise `None`.
    pub fn settles_at(&self, hash: &KeyHash) -> Option<Timestamp> {
        let disabled_at = match self.grant(hash) {
            Some(grant) => grant.disabled_at?,
            None if self.is_tracked() => {
                let mut superseded = self.superseded.iter();
                let key = superseded.find(|key| key.hash == *hash && !key.counted)?;
                key.disabled_to_end?
            }
            None => return None,
        };
        Some(after(disabled_at, SETTLED))
    }

    /// Whether the key's revocation was ordered, or it was disabled in order to be ended under a budget.
    pub fn is_ending(&self, hash: &KeyHash) -> bool {
        let mut superseded = self.superseded.iter();
        superseded.any(|key| key.hash == *hash && key.stage == Stage::Ordered)
            || self.settles_at(hash).is_some()
    }

    /// Whether the key has not ended, so that it counts against the budget with what it may spend.
    pub fn counts_against_budget(&self, hash: &KeyHash) -> bool {
        self.grant(hash).is_some()
    }

    /// Whether what the key spends is still to be counted when it ends: against the budget, or only for the
    /// role's usage.
    pub fn is_to_be_counted(&self, hash: &KeyHash) -> bool {
        let is_tracked = || self.is_tracked() && self.has_key(hash) && !self.is_counted(hash);
        self.counts_against_budget(hash) || is_tracked()
    }

    /// Whether the key has ended and what it has spent is counted already, so that it must not be added again.
    pub fn has_counted(&self, hash: &KeyHash) -> bool {
        match (self.definition.terms.budget, &self.ledger) {
            (Some(_), Some(ledger)) => ledger.grant(hash).is_none(),
            _ => self.is_counted(hash),
        }
    }

    /// Whether the key is counted without a budget, whose ledger would know.
    fn is_counted(&self, hash: &KeyHash) -> bool {
        let mut superseded = self.superseded.iter();
        let superseded = superseded.any(|key| key.hash == *hash && key.counted);
        superseded || (self.current.hash == *hash && self.current.counted)
    }

    /// Where that is noted; `None` if it is not a key of the role.
    fn counted_mut(&mut self, hash: &KeyHash) -> Option<&mut bool> {
        if self.current.hash == *hash {
            return Some(&mut self.current.counted);
        }
        let mut superseded = self.superseded.iter_mut();
        let key = superseded.find(|key| key.hash == *hash)?;
        Some(&mut key.counted)
    }

    /// Whether ended keys are counted without a budget.
    fn is_tracked(&self) -> bool {
        let terms = &self.definition.terms;
        terms.track_usage && terms.budget.is_none() && self.tally.is_some()
    }

    /// The key's limit from the budget, in US dollars; `None` without a budget.
    pub fn limit_of(&self, hash: &KeyHash) -> Option<f64> {
        let limit = self.grant(hash)?.limit.as_limit()?;
        Some(limit.as_f64())
    }

    fn grant(&self, hash: &KeyHash) -> Option<&Grant> {
        self.definition.terms.budget?;
        self.ledger.as_ref()?.grant(hash)
    }

    /// The limits granted to the current key, by the definition or from the budget; `None` if they are about
    /// to change.
    pub fn granted(&self) -> Option<Limits> {
        let current = &self.current;
        if self.limits_failure.is_some() {
            return None;
        }
        if self.definition.terms.budget.is_some() {
            return self.grant(&current.hash)?.settled_limits();
        }
        (!self.lacks_its_limits()).then_some(current.limits)
    }

    /// Whether the current key is not known to have the limits of the definition. Under a budget the ledger
    /// knows instead.
    pub fn lacks_its_limits(&self) -> bool {
        let (key, terms) = (&self.current, &self.definition.terms);
        terms.budget.is_none() && (key.limits_unproved || key.limits != terms.limits)
    }

    /// Records that the engine has disabled a superseded key in order to end it.
    pub fn count_disabled(&mut self, hash: &KeyHash, now: Timestamp) {
        if let Some(ledger) = &mut self.ledger {
            ledger.disabled(hash, now);
        } else if self.is_tracked() {
            let mut superseded = self.superseded.iter_mut();
            if let Some(key) = superseded.find(|key| key.hash == *hash) {
                key.disabled_to_end = Some(now);
            }
        }
    }

    /// Until when a scheduled rotation is postponed because of the budget. A key that is gone is replaced at
    /// once: it spends nothing more, and counts in full.
    pub(super) fn rotation_waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.definition.terms.budget?;
        let is_gone = |mismatch: Mismatch| mismatch.reason == MismatchReason::Gone;
        if self.mismatch.is_some_and(is_gone) {
            return None;
        }
        let ledger = self.ledger.as_ref()?;
        ledger.rotation_waits_until(&self.current.hash, now)
    }

    /// What is to be watched of the budget, besides the readings of [`keys_in_budget`](Self::keys_in_budget).
    pub fn watch(&self) -> Option<Watch> {
        let (budget, percent) = self.definition.terms.watched()?;
        Some(Watch {
            budget,
            percent,
            ended: self.ledger.as_ref().map(Ledger::ended_in),
            last: self.alert,
        })
    }

    /// The last report about the budget, for users; `None` if it no longer holds.
    pub fn alert_in_words(&self, now: Timestamp) -> Option<String> {
        self.watch()?.in_words(now)
    }

    /// The keys that count against the budget with what they spend.
    pub fn keys_in_budget(&self) -> impl Iterator<Item = &KeyHash> {
        let keys = self.keys().map(|(hash, _)| hash);
        keys.filter(|hash| self.counts_against_budget(hash))
    }

    /// The limits of the role's first key.
    pub fn limits_of_first_key(definition: &Definition) -> Limits {
        match definition.terms.budget() {
            Some((budget, counting)) => counting.limits(budget.amount),
            None => definition.terms.limits,
        }
    }

    /// The limits with which every later key is made: zero, so that a key whose reply is lost cannot spend
    /// anything. The limit is raised before the key is handed out.
    pub fn limits_of_next_key(definition: &Definition) -> Limits {
        match definition.terms.budget() {
            Some((_, counting)) => counting.limits(Amount::ZERO),
            None => definition.terms.limits,
        }
    }

    /// Adjusts the ledger to a changed definition, before the role gets it.
    pub(super) fn rebudget(&mut self, definition: &Definition, now: Timestamp) {
        if self.definition.terms.watched() != definition.terms.watched() {
            // It said nothing about this budget.
            self.alert = None;
        }
        let Some((budget, counting)) = definition.terms.budget() else {
            self.track(definition.terms.track_usage, now);
            return;
        };
        match &mut self.ledger {
            Some(ledger) if self.definition.terms.budget() != Some((budget, counting)) => {
                let spans = self.tally.as_ref().map(|tally| tally.at(now));
                let in_window = spans.map_or(Amount::ZERO, |spans| spans.within(budget.reset));
                ledger.rebudget(&budget, &self.current.hash, in_window, now);
            }
            Some(_) => {}
            None => {
                self.tally.get_or_insert_with(|| Tally::begun(now));
                let keys = self.keys().map(|(hash, _)| hash);
                let keys = keys.filter(|hash| !self.is_counted(hash)).cloned();
                let mut ledger = Ledger::of_keys(&budget, counting, keys, now);
                self.current.counted = false;
                for key in &mut self.superseded {
                    let disabled_at = key.disabled_to_end.take();
                    if let Some(since) = disabled_at.or(held_since(key)) {
                        ledger.disabled(&key.hash, since);
                    }
                    key.counted = false;
                }
                self.ledger = Some(ledger);
            }
        }
    }

    /// The role without a budget: counts the keys that end from now on, or does not.
    fn track(&mut self, is_tracked: bool, now: Timestamp) {
        let ledger = self.ledger.take();
        if !is_tracked {
            self.tally = None;
            self.current.counted = false;
            for key in &mut self.superseded {
                (key.disabled_to_end, key.counted) = (None, false);
            }
            return;
        }
        let is_new = self.tally.is_none();
        self.tally.get_or_insert_with(|| Tally::begun(now));
        if let Some(ledger) = &ledger {
            self.current.counted = ledger.grant(&self.current.hash).is_none();
        }
        for key in &mut self.superseded {
            if let Some(ledger) = &ledger {
                let grant = ledger.grant(&key.hash);
                key.counted = grant.is_none();
                key.disabled_to_end = grant.and_then(|grant| grant.disabled_at);
            } else if is_new {
                key.disabled_to_end = held_since(key);
            }
        }
    }

    /// Records that a key of the role has ended, with its final reading: its spending in the window and in
    /// total. Without one its full grant counts.
    pub fn count_ended(
        &mut self,
        hash: &KeyHash,
        reading: Option<(Amount, Spans)>,
        now: Timestamp,
    ) {
        if let Some(ledger) = &mut self.ledger
            && !ledger.end(hash, reading.map(|(spent, _)| spent), now)
        {
            // It was already counted.
            return;
        }
        if self.ledger.is_none() {
            let is_counting = self.tally.is_some();
            if let Some(counted) = self.counted_mut(hash) {
                if *counted || !is_counting {
                    return;
                }
                *counted = true;
            }
        }
        match (&mut self.tally, reading) {
            (Some(tally), Some((_, spans))) => tally.add(spans, now),
            (Some(tally), None) => tally.miss(),
            (None, _) => {}
        }
    }

    /// Enters a key of the role that a comparison found and storage did not know.
    pub(super) fn budget_unknown_key(&mut self, key: &Key) {
        if let (Some((budget, counting)), Some(ledger)) =
            (self.definition.terms.budget(), &mut self.ledger)
        {
            let found = (counting_of(key, counting), of_key(key, counting));
            ledger.add_found(&key.hash, found, &budget, &self.current.hash);
        }
    }

    /// Records that the current key's limits were changed at OpenRouter. With a budget, the next step of the
    /// ledger corrects them, since it knows what the other keys may spend. Returns `false` without a budget.
    pub fn found_limits(&mut self, key: &Key) -> bool {
        let (Some((_, counting)), Some(ledger)) =
            (self.definition.terms.budget(), &mut self.ledger)
        else {
            return false;
        };
        let (limit, reported) = match key.limits.as_asked() {
            Some(_) => (
                Amount::of_limit(key.limits.limit),
                counting_of(key, counting),
            ),
            // The limits are of a kind that cannot be requested, so the key may have none.
            None => (Amount::UNLIMITED, counting),
        };
        ledger.found(&key.hash, limit, reported);
        true
    }
}

/// When the engine has disabled a held key.
fn held_since(key: &SupersededKey) -> Option<Timestamp> {
    match key.stage {
        Stage::Held { since, .. } => Some(since),
        Stage::Grace | Stage::Restoring | Stage::Ordered => None,
    }
}

/// How OpenRouter counts the key's spending, if that is known.
fn counting_of(key: &Key, otherwise: Counting) -> Counting {
    key.limits.as_asked().map_or(otherwise, |limits| Counting {
        reset: limits.reset,
        include_byok: limits.include_byok,
    })
}
