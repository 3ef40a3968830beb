//! Which of a rotating role's living keys should have a guardrail, and whether they have it. Pure.
//!
//! A key that was made in another place than the role's current one keeps its guardrail: guardrails belong to
//! workspaces, and the role's own guardrail applies from the next key. If the role has no guardrail, none is
//! enforced. A living key is never removed from a guardrail.

use std::collections::BTreeSet;

use super::entry::RotatingRole;
use crate::engine::names::{ConnectionName, Place};
use crate::openrouter::{GuardrailId, KeyHash, WorkspaceId};

/// A living key and the guardrail that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// The key.
    pub hash: KeyHash,
    /// The place where it was made.
    pub place: Place,
    /// The guardrail.
    pub guardrail_id: GuardrailId,
    /// Whether it is proved to have the guardrail.
    pub is_proved: bool,
}

impl RotatingRole {
    /// The living keys that should have a guardrail, oldest first.
    pub fn guarded_keys(&self) -> Vec<Guarded> {
        let superseded = self.superseded.iter().filter_map(|key| {
            let place = (&key.connection, &key.workspace_id);
            self.guarded(
                &key.hash,
                place,
                key.guardrail_id.as_ref(),
                key.guardrail_unproved,
            )
        });
        superseded.chain(self.guarded_current()).collect()
    }

    /// Those of them that do not have it.
    pub fn unguarded_keys(&self) -> Vec<Guarded> {
        let mut keys = self.guarded_keys();
        keys.retain(|key| !key.is_proved);
        keys
    }

    /// Whether the current key may be handed out: it has its guardrail, or needs none.
    pub fn is_guarded(&self) -> bool {
        self.guarded_current().is_none_or(|key| key.is_proved)
    }

    /// Records that a key now has its guardrail.
    pub fn note_guarded(&mut self, hash: &KeyHash, guardrail_id: &GuardrailId) {
        self.note(hash, |id, unproved| {
            *id = Some(guardrail_id.clone());
            *unproved = false;
        });
    }

    /// Records that a key's guardrail is unproved: it was found without it, or is to get another one.
    pub fn note_unproved(&mut self, hash: &KeyHash) {
        self.note(hash, |_, unproved| *unproved = true);
    }

    /// Whether a key in the role's current place does not have the role's own guardrail.
    pub fn lacks_its_guardrail(&self) -> bool {
        let place = self.definition.terms.place();
        self.unguarded_keys().iter().any(|key| key.place == place)
    }

    /// Restores what was known about each key `before`, since no key was changed.
    pub fn restore_proofs(&mut self, before: &Self) {
        let doubted: BTreeSet<&KeyHash> = before.doubted().collect();
        self.current.guardrail_unproved = doubted.contains(&self.current.hash);
        for key in &mut self.superseded {
            key.guardrail_unproved = doubted.contains(&key.hash);
        }
    }

    fn doubted(&self) -> impl Iterator<Item = &KeyHash> {
        let superseded = self.superseded.iter();
        superseded
            .map(|key| (&key.hash, key.guardrail_unproved))
            .chain([(&self.current.hash, self.current.guardrail_unproved)])
            .filter_map(|(hash, unproved)| unproved.then_some(hash))
    }

    fn note(&mut self, hash: &KeyHash, note: impl FnOnce(&mut Option<GuardrailId>, &mut bool)) {
        let current = &mut self.current;
        if current.hash == *hash {
            note(&mut current.guardrail_id, &mut current.guardrail_unproved);
        } else if let Some(key) = self.superseded.iter_mut().find(|key| key.hash == *hash) {
            note(&mut key.guardrail_id, &mut key.guardrail_unproved);
        }
    }

    fn guarded_current(&self) -> Option<Guarded> {
        let key = &self.current;
        let place = (&key.connection, &key.workspace_id);
        self.guarded(
            &key.hash,
            place,
            key.guardrail_id.as_ref(),
            key.guardrail_unproved,
        )
    }

    fn guarded(
        &self,
        hash: &KeyHash,
        (connection, workspace_id): (&ConnectionName, &Option<WorkspaceId>),
        has: Option<&GuardrailId>,
        unproved: bool,
    ) -> Option<Guarded> {
        let terms = &self.definition.terms;
        let asked = terms.guardrail_id.as_ref()?;
        let place = Place {
            connection: connection.clone(),
            workspace_id: workspace_id.clone(),
        };
        let wanted = if place == terms.place() { asked } else { has? };
        Some(Guarded {
            hash: hash.clone(),
            place,
            guardrail_id: wanted.clone(),
            is_proved: has == Some(wanted) && !unproved,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::role::rotating::sample::{at, key, role};
    use crate::engine::role::rotating::{Grace, KeyLifetime, RotationPolicy};
    use crate::schedule::{Period, Schedule};

    fn id(digit: char) -> GuardrailId {
        GuardrailId::parse(&format!("0f8fad5b-d9cb-469f-a165-70867728950{digit}")).unwrap()
    }

    /// A role with a superseded and a current key, which were made under this guardrail.
    fn role_of(guardrail: Option<GuardrailId>) -> RotatingRole {
        let policy = RotationPolicy {
            schedule: Schedule::every(Period::new(std::time::Duration::from_secs(3_600)).unwrap()),
            automated: true,
            grace: 600,
            ttl: 300,
            key_lifetime: KeyLifetime::Default,
            hold: 0,
        };
        let mut role = role(policy.clone(), at(0));
        role.definition.terms.guardrail_id.clone_from(&guardrail);
        role.current.guardrail_id.clone_from(&guardrail);
        let mut next = key(2, &policy, at(60));
        next.guardrail_id = guardrail;
        role.switched_to(next, Grace::Seconds(600))
    }

    fn unguarded(role: &RotatingRole) -> Vec<(KeyHash, GuardrailId)> {
        let keys = role.unguarded_keys().into_iter();
        keys.map(|key| (key.hash, key.guardrail_id)).collect()
    }

    #[test]
    fn a_role_without_guardrail_has_nothing_to_guard() {
        let role = role_of(None);
        assert!(role.guarded_keys().is_empty() && role.is_guarded());
    }

    #[test]
    fn another_guardrail_reaches_every_living_key_and_none_before_it_is_handed_out_again() {
        for before in [None, Some(id('1'))] {
            let mut role = role_of(before);
            role.definition.terms.guardrail_id = Some(id('2'));
            let (old, current) = (role.superseded[0].hash.clone(), role.current.hash.clone());
            let both = [(old.clone(), id('2')), (current.clone(), id('2'))];
            assert_eq!(unguarded(&role), both);
            assert!(!role.is_guarded());
            role.note_guarded(&current, &id('2'));
            assert!(role.is_guarded());
            role.note_guarded(&old, &id('2'));
            assert_eq!(unguarded(&role), []);
        }
    }

    #[test]
    fn a_guardrail_that_is_cleared_is_enforced_no_more_and_stays() {
        let mut role = role_of(Some(id('1')));
        role.note_unproved(&role.current.hash.clone());
        role.definition.terms.guardrail_id = None;
        assert!(role.is_guarded() && role.unguarded_keys().is_empty());
        assert_eq!(role.current.guardrail_id, Some(id('1')));
    }

    #[test]
    fn a_wish_leaves_every_key_in_doubt_until_it_is_proved() {
        let mut role = role_of(Some(id('1')));
        let (old, current) = (role.superseded[0].hash.clone(), role.current.hash.clone());
        let before = role.clone();
        let mut wish = role.definition.clone();
        wish.terms.guardrail_id = Some(id('2'));
        role = role.redefined(wish, at(120));
        assert!(role.lacks_its_guardrail());
        let wanted = |guardrail| {
            let guardrail = id(guardrail);
            [
                (old.clone(), guardrail.clone()),
                (current.clone(), guardrail),
            ]
        };
        assert_eq!(unguarded(&role), wanted('2'));
        let mut taken_back = role.clone();
        taken_back.restore_proofs(&before);
        let taken_back = taken_back.redefined(before.definition.clone(), at(120));
        assert!(taken_back.is_guarded() && !taken_back.lacks_its_guardrail());
        // As after a rejection, but it is unknown whether anything was changed.
        role = role.redefined(before.definition, at(120));
        assert_eq!(unguarded(&role), wanted('1'));
        role.note_guarded(&old, &id('1'));
        role.note_guarded(&current, &id('1'));
        assert!(!role.lacks_its_guardrail());
    }

    #[test]
    fn keys_of_another_place_keep_what_they_were_made_with() {
        let mut role = role_of(Some(id('1')));
        let terms = &mut role.definition.terms;
        terms.workspace_id = WorkspaceId::parse("0f8fad5b-d9cb-469f-a165-708677289509").ok();
        terms.guardrail_id = Some(id('2'));
        assert!(role.is_guarded() && role.unguarded_keys().is_empty());
        let current = role.current.hash.clone();
        role.note_unproved(&current);
        assert_eq!(unguarded(&role), [(current, id('1'))]);
        assert!(!role.is_guarded());
    }
}
