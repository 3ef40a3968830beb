//! Compares guardrail assignments. If a key was removed from its guardrail in the dashboard, or given another
//! one, it is assigned again, and not handed out while that fails.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::Surroundings;
use super::pass::Pass;
use super::report::report;
use crate::engine::books::{Drift, LeasedKey};
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{assign_each, seen};
use crate::engine::leasing::resume_guardrail;
use crate::engine::names::{Place, RoleName};
use crate::engine::role::Role;
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::{MismatchReason, RotatingRole};
use crate::engine::rotation::apply_guardrail;
use crate::openrouter::{self, GuardrailId, KeyHash};

/// Compares the assignments of the keys at a place. Makes no request if no role there has a guardrail.
///
/// # Errors
/// Errors from OpenRouter or storage. What cannot be repaired for a role is stored with it and retried.
pub(super) async fn compare_assignments(
    pass: &Pass<'_>,
    around: &Surroundings,
) -> Result<(), Error> {
    let place = &around.place;
    let of_roles = pass.engine.register.guarded(place);
    let (mut expected, mut owners) = (BTreeMap::new(), BTreeMap::new());
    for (hash, guardrail, role) in of_roles.into_iter().chain(leased(pass, place)) {
        owners.insert(hash.clone(), role);
        expected.insert(hash, guardrail);
    }
    let missing = missing(&pass.link, &expected).await?;
    let Some(one) = missing.first() else {
        return Ok(());
    };
    // A management key of another account sees no assignments, and not the key either.
    if !pass.sees_the_account(around.sees_the_account, one).await?
        && seen(&pass.link, one).await?.is_none()
    {
        return Ok(());
    }
    let roles: BTreeSet<&RoleName> = missing.iter().filter_map(|hash| owners.get(hash)).collect();
    let mut outcome = Ok(());
    for role in roles {
        // A failure with one role does not affect the others.
        outcome = outcome.and(repair(pass, place, role).await);
    }
    outcome
}

async fn missing(
    link: &Link,
    expected: &BTreeMap<KeyHash, GuardrailId>,
) -> Result<BTreeSet<KeyHash>, Error> {
    if expected.is_empty() {
        return Ok(BTreeSet::new());
    }
    let turn = link.client(Urgency::Ordinary).await;
    let missing = turn.unassigned(expected).await;
    missing.map_err(Error::while_doing("guardrails cannot be compared"))
}

/// The guardrail of each key under a lease at a place, and the role of the lease.
fn leased(pass: &Pass<'_>, place: &Place) -> Vec<(KeyHash, GuardrailId, RoleName)> {
    let leases = &pass.books.leases;
    // One that has ended is disabled, and needs no guardrail.
    let living = leases.all().filter(|record| record.ended.is_none());
    let records = living.filter(|record| record.place() == *place);
    let held = records.filter_map(|record| {
        let key = record.key;
        Some((key.key_hash, record.guardrail_id?, key.role))
    });
    held.collect()
}

/// Takes the role's lock, and compares again under it: the key or the guardrail may have changed since the
/// listing.
async fn repair(pass: &Pass<'_>, place: &Place, name: &RoleName) -> Result<(), Error> {
    let guard = pass.engine.change(name).await;
    // The role may be gone, or another role with its name may exist. Its leases are alive in any case.
    match guard.load().await? {
        Some(Role::Rotating(role)) => {
            repair_role(pass, &guard, place, *role).await?;
            repair_leases(pass, &guard, None, place).await
        }
        Some(Role::Dynamic(role)) => repair_leases(pass, &guard, Some(*role), place).await,
        None => repair_leases(pass, &guard, None, place).await,
    }
}

async fn repair_role(
    pass: &Pass<'_>,
    guard: &RoleGuard<'_>,
    place: &Place,
    mut role: RotatingRole,
) -> Result<(), Error> {
    let is_gone = role.mismatch.map(|mismatch| mismatch.reason) == Some(MismatchReason::Gone);
    let mut keys = role.guarded_keys();
    // Keys that are not assigned yet are handled by the keeper, and a key that is gone needs no guardrail.
    keys.retain(|key| {
        let gone = is_gone && key.hash == role.current.hash;
        key.place == *place && key.is_proved && !gone
    });
    let expected = keys.into_iter().map(|key| (key.hash, key.guardrail_id));
    let missing = missing(&pass.link, &expected.collect()).await?;
    if missing.is_empty() || role.deletion.is_some() {
        return Ok(());
    }
    for key_hash in &missing {
        role.note_unproved(key_hash);
    }
    // First stored, so that the key is not handed out.
    guard.store(&role).await?;
    for key_hash in &missing {
        let message = "a key was removed from its guardrail at OpenRouter, or given another one; \
                       it is assigned again";
        let drift = Drift::GuardrailChanged;
        report(pass, guard.name(), drift, key_hash, message).await;
    }
    apply_guardrail(guard, role).await.map(|_| ())
}

async fn repair_leases(
    pass: &Pass<'_>,
    guard: &RoleGuard<'_>,
    role: Option<DynamicRole>,
    place: &Place,
) -> Result<(), Error> {
    let mut records = Vec::new();
    for record in pass.books.leases.all() {
        // A key that is still to be assigned is handled by the keeper.
        let is_due = role
            .as_ref()
            .is_some_and(|role| record.guardrail_to_assign(role).is_some());
        let is_of_role = record.key.role == *guard.name() && record.ended.is_none();
        if is_of_role && record.place() == *place && !is_due {
            let assigned = record.guardrail_id;
            records.extend(assigned.map(|guardrail| (record.key, guardrail)));
        }
    }
    let expected = records
        .iter()
        .map(|(key, guardrail)| (key.key_hash.clone(), guardrail.clone()));
    let missing = missing(&pass.link, &expected.collect()).await?;
    records.retain(|(key, _)| missing.contains(&key.key_hash));
    if records.is_empty() {
        return Ok(());
    }
    match role.filter(|role| role.terms.guardrail_id.is_some()) {
        Some(role) => repair_leases_of_role(pass, guard, role, records).await,
        None => repair_orphaned_leases(pass, guard, records).await,
    }
}

/// Repairs the leases of a role that has a guardrail. Failures are stored with the role, shown, and retried.
async fn repair_leases_of_role(
    pass: &Pass<'_>,
    guard: &RoleGuard<'_>,
    role: DynamicRole,
    missing: Vec<(LeasedKey, GuardrailId)>,
) -> Result<(), Error> {
    let storage = &*pass.engine.storage;
    for (key, guardrail) in missing {
        let lease = pass.books.leases.lock(&key.nonce).await;
        lease
            .note_unproved(storage, &guardrail, &role.terms)
            .await?;
        let message = format!("{REMOVED}; it is assigned again");
        let drift = Drift::GuardrailChanged;
        report(pass, guard.name(), drift, &key.key_hash, message).await;
    }
    resume_guardrail(guard, role).await.map(|_| ())
}

/// Repairs the leases of a role that is gone or no longer has a guardrail, so that no role entry can store
/// what is left to do. A rejection is reported once, and retried with each comparison until the lease ends.
async fn repair_orphaned_leases(
    pass: &Pass<'_>,
    guard: &RoleGuard<'_>,
    missing: Vec<(LeasedKey, GuardrailId)>,
) -> Result<(), Error> {
    let mut by_guardrail = BTreeMap::<GuardrailId, Vec<KeyHash>>::new();
    for (key, guardrail) in missing {
        by_guardrail
            .entry(guardrail)
            .or_default()
            .push(key.key_hash);
    }
    let mut outcome = Ok(());
    for (guardrail, keys) in by_guardrail {
        // A deposed node does not know the role's current state.
        guard.fence(None).await?;
        outcome = outcome.and(assign_again(pass, guard, &guardrail, &keys).await);
    }
    outcome
}

async fn assign_again(
    pass: &Pass<'_>,
    guard: &RoleGuard<'_>,
    guardrail: &GuardrailId,
    keys: &[KeyHash],
) -> Result<(), Error> {
    let assigned = assign_each(guard, &pass.link, Urgency::Ordinary, guardrail, keys).await?;
    let failure = match assigned.broken_off {
        // The guardrail is gone, or accepts none of them.
        Some(Error::OpenRouter {
            doing,
            reason:
                reason @ (openrouter::Error::NotFound { .. } | openrouter::Error::Refused { .. }),
        }) => Some(Error::OpenRouter { doing, reason }),
        Some(reason) => return Err(reason),
        None => assigned.refusal,
    };
    let (drift, board) = (Drift::GuardrailChanged, &pass.engine.board);
    for key in keys {
        let is_assigned = assigned.proved.contains(key) || assigned.gone.contains(key);
        let message = match &failure {
            Some(Error::OpenRouter { reason, .. }) if !is_assigned => format!(
                "{REMOVED}, and it cannot be assigned to guardrail {guardrail} again: {reason}; revoke \
                 the lease if it must not be used without it"
            ),
            _ => {
                board.is_over(key, drift);
                format!("{REMOVED}; it is assigned again")
            }
        };
        if board.is_news(key, drift, &message) {
            report(pass, guard.name(), drift, key, message).await;
        }
    }
    Ok(())
}

const REMOVED: &str =
    "the key of a lease was removed from its guardrail at OpenRouter, or given another one";
