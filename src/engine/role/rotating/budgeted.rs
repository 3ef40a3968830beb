//! What a budget changes about a rotating role. Pure; roles without one come through here untouched.

use jiff::Timestamp;

use super::definition::Definition;
use super::entry::{RotatingRole, SupersededKey};
use crate::engine::clock::after;
use crate::engine::role::budget::{Amount, Ledger, Next, SETTLED, Spans, Tally};
use crate::openrouter::{KeyHash, Limits};

impl RotatingRole {
    /// What is to be done about the budget now; `None` without one.
    pub(super) fn budget_step(&self, now: Timestamp) -> Option<Next> {
        let (budget, counting) = self.definition.terms.budget()?;
        let ledger = self.ledger.as_ref()?;
        Some(ledger.next((&budget, counting), &self.current.hash, now))
    }

    /// When something is to be done about the end of a superseded key: it is revoked at its time, or,
    /// under a budget, disabled then, and revoked once it is certain what it has spent.
    pub fn end_due(&self, key: &SupersededKey) -> Timestamp {
        let disabled_at = self.ledger.as_ref().and_then(|ledger| {
            let grant = ledger.grant(&key.hash)?;
            grant.disabled_at
        });
        disabled_at.map_or(key.revoke_at, |disabled_at| after(disabled_at, SETTLED))
    }

    /// Whether a superseded key is disabled and waits for its final reading.
    pub fn ends_by_disabling(&self, hash: &KeyHash) -> bool {
        let ledger = self.ledger.as_ref();
        let grant = ledger.and_then(|ledger| ledger.grant(hash));
        grant.is_some_and(|grant| grant.disabled_at.is_some())
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
            Some(ledger) if self.definition.terms.budget != Some(budget) => {
                ledger.rebudget(&budget, &self.current.hash, now);
            }
            Some(_) => {}
            None => {
                self.tally = Some(Tally::begun(now));
                let keys = self.keys().map(|(hash, _)| hash.clone());
                self.ledger = Some(Ledger::of_keys(&budget, counting, keys, now));
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
        if let Some(ledger) = &mut self.ledger {
            ledger.end(hash, reading.map(|(spent, _)| spent));
        }
        match (&mut self.tally, reading) {
            (Some(tally), Some((_, spans))) => tally.add(spans, now),
            (Some(tally), None) => tally.miss(),
            (None, _) => {}
        }
    }

    /// A key of the role's is found that storage knew nothing of.
    pub(super) fn budget_unknown_key(&mut self, hash: &KeyHash) {
        if let (Some((_, counting)), Some(ledger)) =
            (self.definition.terms.budget(), &mut self.ledger)
        {
            ledger.add_unlimited(hash.clone(), counting);
        }
    }
}
