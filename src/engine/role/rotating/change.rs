//! How a rotating role changes from one key to the next, and from one definition to another. Pure.

use jiff::Timestamp;

use super::definition::Definition;
use super::entry::RotatingRole;
use super::keys::{CurrentKey, SupersededKey};
use super::mismatch::{Mismatch, MismatchReason};
use super::stage::Stage;
use crate::engine::clock::after;
use crate::engine::names::Place;
use crate::openrouter::Key;
use crate::schedule::Due;

/// How long a replaced key keeps working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Not at all, and neither do the role's other keys that were ordered before this time: they may be in
    /// the wrong hands.
    Emergency {
        /// See above.
        before: Timestamp,
    },
    /// This long, but at least until the last lease on it has expired.
    Seconds(u64),
}

impl Grace {
    /// Whether this is an emergency.
    pub fn is_emergency(self) -> bool {
        matches!(self, Self::Emergency { .. })
    }
}

impl RotatingRole {
    /// The role with `new` as its current key. The previous key is superseded and ends after `grace`, but not
    /// before every lease on it has expired. In an emergency it ends now, as do the others that the
    /// emergency is about.
    #[must_use]
    pub fn switched_to(self, new: CurrentKey, grace: Grace) -> Self {
        let now = new.since;
        let old = self.current;
        let disabled = |mismatch: &Mismatch| {
            matches!(
                mismatch.reason,
                MismatchReason::Disabled | MismatchReason::Held
            )
        };
        let disabled_outside = self
            .mismatch
            .filter(disabled)
            .map(|mismatch| mismatch.since);
        let mut superseded = self.superseded;
        let leased_until = after(now, self.definition.rotation.ttl)
            .max(old.promised_until.unwrap_or(Timestamp::MIN));
        let revoke_at = match grace {
            Grace::Emergency { before } => {
                for key in superseded
                    .iter_mut()
                    .filter(|key| key.is_older_than(before))
                {
                    key.revoke_at = key.revoke_at.min(now);
                    key.emergency = true;
                    // An emergency retries at once, regardless of earlier failures.
                    key.failure = None;
                    // Such a key is deleted, not held: a pending request with an unknown outcome may enable
                    // it later.
                    if key.stage == Stage::Restoring {
                        key.stage = Stage::Ordered;
                    }
                }
                now
            }
            Grace::Seconds(grace) => {
                after(now, grace).max(old.promised_until.unwrap_or(Timestamp::MIN))
            }
        };
        superseded.push(SupersededKey {
            hash: old.hash,
            label: old.label,
            name: old.name,
            version: old.version,
            connection: old.connection,
            workspace_id: old.workspace_id,
            found: false,
            since: old.since,
            ordered: old.ordered,
            expires_at: old.expires_at,
            guardrail_id: old.guardrail_id,
            guardrail_unproved: old.guardrail_unproved,
            revoke_at,
            failure: None,
            leased_until: Some(leased_until),
            stage: Stage::Grace,
            emergency: grace.is_emergency(),
            postponed: false,
            disabled_outside,
            awaits_person: None,
            disabled_to_end: None,
            counted: old.counted,
        });
        Self {
            definition: self.definition,
            life: self.life,
            current: new,
            superseded,
            last_attempt: now,
            rotation_failure: None,
            limits_failure: None,
            guardrail_failure: self.guardrail_failure,
            mismatch: None,
            deletion: self.deletion,
            late_use: self.late_use,
            adopted: self.adopted,
            ledger: self.ledger,
            tally: self.tally,
            alert: self.alert,
        }
    }

    /// The role with another definition. Leases that were handed out with a longer `ttl` are honored, and a
    /// rotation window that opened before the schedule was written does not count as missed.
    #[must_use]
    pub fn redefined(mut self, definition: Definition, now: Timestamp) -> Self {
        let (old, new) = (self.definition.rotation.ttl, definition.rotation.ttl);
        if new < old {
            let promised = after(now, self.definition.rotation.shortest_grace());
            let before = self.current.promised_until;
            self.current.promised_until = Some(before.map_or(promised, |b| b.max(promised)));
        }
        let asked = |definition: &Definition| {
            let policy = &definition.rotation;
            (policy.automated, policy.schedule.clone())
        };
        let due = definition.rotation.schedule.due(self.current.anchor, now);
        if asked(&definition) != asked(&self.definition) && matches!(due, Due::Missed { .. }) {
            self.current.anchor = now;
        }
        // A failure under the old terms says nothing about the new terms.
        self.limits_failure = None;
        self.guardrail_failure = None;
        self.rotation_failure = None;
        self.rebudget(&definition, now);
        // The change that is pending may have been sent, or may still arrive. Under a budget the ledger knows
        // what the key has, and does not tell once the budget is gone.
        let leaves_budget =
            self.definition.terms.budget.is_some() && definition.terms.budget.is_none();
        self.current.limits_unproved |= self.lacks_its_limits() || leaves_budget;
        let was_enforced = self.definition.terms.guardrail_id.is_some();
        self.definition = definition;
        // Stored together with the change, before any key is assigned. If the outcome of an assignment
        // remains unclear, no later definition assumes that the key still has its old guardrail. While the
        // role had no guardrail, its keys were not compared.
        let in_doubt = if was_enforced {
            self.unguarded_keys()
        } else {
            self.guarded_keys()
        };
        for key in in_doubt {
            self.note_unproved(&key.hash);
        }
        self
    }

    /// Records that an order of an earlier process has made a key that is newer than the current one, and that
    /// may have replaced it before storage was restored. If the current key is disabled, the engine has disabled
    /// it then, not someone else, and it is to be replaced again. That is only assumed if it was found to be
    /// disabled when the work began, of this node or of an earlier one that found no time for the order.
    /// Returns whether the role has changed.
    pub fn found_newer_key(&mut self, now: Timestamp) -> bool {
        let is_disabled = self.mismatch.is_some_and(|mismatch| {
            mismatch.reason == MismatchReason::Disabled && mismatch.at_first
        });
        if !is_disabled {
            return false;
        }
        self.mismatch = Some(Mismatch::concluded(MismatchReason::Held, now));
        true
    }

    /// Adds a key of the role that storage did not know. Someone may hold a lease on it, so it gets the
    /// role's grace period. If it is newer than the current key, the current key had been replaced before,
    /// and is to be replaced again.
    pub fn take_in(&mut self, key: Key, place: &Place, now: Timestamp) {
        let since = key.created_at.unwrap_or(now);
        if since >= self.current.since {
            let reason = match self.mismatch.map(|mismatch| mismatch.reason) {
                None => Some(MismatchReason::Outdated),
                // It was disabled by the engine, not by someone else.
                Some(MismatchReason::Disabled) => Some(MismatchReason::Held),
                Some(
                    MismatchReason::Gone
                    | MismatchReason::Held
                    | MismatchReason::TornDown
                    | MismatchReason::Outdated,
                ) => None,
            };
            let mismatch = reason.map(|reason| Mismatch::concluded(reason, now));
            self.mismatch = mismatch.or(self.mismatch);
        }
        self.budget_unknown_key(&key);
        let name = key.shown_name();
        self.superseded.push(SupersededKey {
            // In the order in which such keys are found, since their original versions are unknown.
            version: self.next_version(),
            hash: key.hash,
            label: key.label,
            name,
            connection: place.connection.clone(),
            workspace_id: place.workspace_id.clone(),
            found: true,
            since,
            ordered: None,
            expires_at: key.expires_at,
            guardrail_id: None,
            guardrail_unproved: false,
            revoke_at: after(now, self.definition.rotation.grace),
            failure: None,
            leased_until: Some(after(now, self.definition.rotation.ttl)),
            stage: Stage::Grace,
            emergency: false,
            postponed: false,
            disabled_outside: None,
            awaits_person: None,
            disabled_to_end: None,
            counted: false,
        });
    }
}
