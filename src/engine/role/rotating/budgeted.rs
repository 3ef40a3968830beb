//! What a budget changes about a rotating role. Pure; roles without one come through here untouched.

use jiff::Timestamp;

use super::definition::Definition;
use super::entry::{Misfit, RotatingRole, SupersededKey, Unfit};
use super::stage::Stage;
use crate::engine::clock::after;
use crate::engine::role::budget::{
    Amount, Counting, Grant, Ledger, Next, SETTLED, Spans, Tally, of_key,
};
use crate::openrouter::{Key, KeyHash, Limits};

impl RotatingRole {
    /// What is to be done about the budget now; `None` without one.
    pub(super) fn budget_step(&self, now: Timestamp) -> Option<Next> {
        let (budget, counting) = self.definition.terms.budget()?;
        let ledger = self.ledger.as_ref()?;
        let is_gone = |unfit: Unfit| matches!(unfit.reason, Misfit::Gone | Misfit::TornDown);
        // There is no key to give a limit to, until the next one.
        if self.unfit.is_some_and(is_gone) {
            return None;
        }
        Some(ledger.next((&budget, counting), &self.current.hash, now))
    }

    /// When something is to be done about the end of a superseded key. Under a budget it is deleted only
    /// once it is certain what it has spent.
    pub fn end_due(&self, key: &SupersededKey) -> Timestamp {
        let due = match key.stage {
            Stage::Held { until, .. } => until,
            Stage::Ordered => Timestamp::MIN,
            Stage::Grace | Stage::Restoring => key.revoke_at,
        };
        let settles_at = self.settles_at(&key.hash);
        settles_at.map_or(due, |settles_at| settles_at.max(due))
    }

    /// When it is certain what a key has spent that counts against the budget and was disabled for its end;
    /// `None` for any other.
    pub fn settles_at(&self, hash: &KeyHash) -> Option<Timestamp> {
        let disabled_at = self.grant(hash)?.disabled_at?;
        Some(after(disabled_at, SETTLED))
    }

    /// Whether somebody has ordered that a key be revoked, or it was disabled for its end under a budget.
    pub fn is_ending(&self, hash: &KeyHash) -> bool {
        let mut superseded = self.superseded.iter();
        superseded.any(|key| key.hash == *hash && key.stage == Stage::Ordered)
            || self.settles_at(hash).is_some()
    }

    /// Whether a key counts against the budget for what it may spend: it has not ended.
    pub fn counts_against_budget(&self, hash: &KeyHash) -> bool {
        self.grant(hash).is_some()
    }

    /// The limit that a key has of the budget, in US dollars; `None` without a budget.
    pub fn limit_of(&self, hash: &KeyHash) -> Option<f64> {
        let limit = self.grant(hash)?.limit.as_limit()?;
        Some(limit.as_f64())
    }

    fn grant(&self, hash: &KeyHash) -> Option<&Grant> {
        self.definition.terms.budget?;
        self.ledger.as_ref()?.grant(hash)
    }

    /// What the current key was granted, if nothing is about to change that: by the definition, or out of
    /// the budget.
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

    /// The engine has disabled a superseded key for its end.
    pub fn count_disabled(&mut self, hash: &KeyHash, now: Timestamp) {
        if let Some(ledger) = &mut self.ledger {
            ledger.disabled(hash, now);
        }
    }

    /// Until when a rotation by schedule is put off for the sake of the budget.
    pub(super) fn rotation_waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.definition.terms.budget?;
        let ledger = self.ledger.as_ref()?;
        ledger.rotation_waits_until(&self.current.hash, now)
    }

    /// What the role's first key is granted.
    pub fn limits_of_first_key(definition: &Definition) -> Limits {
        match definition.terms.budget() {
            Some((budget, counting)) => counting.limits(budget.amount),
            None => definition.terms.limits,
        }
    }

    /// What every later key is made with: without money, so that one whose reply is lost can spend
    /// nothing. It is raised before it is handed out.
    pub fn limits_of_next_key(definition: &Definition) -> Limits {
        match definition.terms.budget() {
            Some((_, counting)) => counting.limits(Amount::ZERO),
            None => definition.terms.limits,
        }
    }

    /// The ledger for another definition: called before the role gets it.
    pub(super) fn rebudget(&mut self, definition: &Definition, now: Timestamp) {
        let Some((budget, counting)) = definition.terms.budget() else {
            self.ledger = None;
            self.tally = None;
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
                self.tally = Some(Tally::begun(now));
                let keys = self.keys().map(|(hash, _)| hash.clone());
                let mut ledger = Ledger::of_keys(&budget, counting, keys, now);
                for key in &self.superseded {
                    if let Stage::Held { since, .. } = key.stage {
                        ledger.disabled(&key.hash, since);
                    }
                }
                self.ledger = Some(ledger);
            }
        }
    }

    /// A key of the role's has ended, with this final reading: what it spent in the window, and in all.
    /// Without one it counts for all that it could spend.
    pub fn count_ended(
        &mut self,
        hash: &KeyHash,
        reading: Option<(Amount, Spans)>,
        now: Timestamp,
    ) {
        if let Some(ledger) = &mut self.ledger
            && !ledger.end(hash, reading.map(|(spent, _)| spent), now)
        {
            // It was counted before.
            return;
        }
        match (&mut self.tally, reading) {
            (Some(tally), Some((_, spans))) => tally.add(spans, now),
            (Some(tally), None) => tally.miss(),
            (None, _) => {}
        }
    }

    /// A key of the role's is found that storage knew nothing of.
    pub(super) fn budget_unknown_key(&mut self, key: &Key) {
        if let (Some((budget, counting)), Some(ledger)) =
            (self.definition.terms.budget(), &mut self.ledger)
        {
            let found = (counting_of(key, counting), of_key(key, counting));
            ledger.add_found(&key.hash, found, &budget, &self.current.hash);
        }
    }

    /// Somebody has changed the limits of the current key at OpenRouter. Under a budget the next step of
    /// the ledger puts them right, which knows what else may be spent. `false` without one.
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
            // In a way that nobody can ask for: it may be without any.
            None => (Amount::UNLIMITED, counting),
        };
        ledger.found(&key.hash, limit, reported);
        true
    }
}

/// How OpenRouter counts what a key spends, if it is known.
fn counting_of(key: &Key, otherwise: Counting) -> Counting {
    key.limits.as_asked().map_or(otherwise, |limits| Counting {
        reset: limits.reset,
        include_byok: limits.include_byok,
    })
}
