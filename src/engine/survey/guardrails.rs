//! Which keys are still held to their guardrails. Somebody may have taken one off in the dashboard, or
//! given it another: it is assigned again, and while that fails it is not handed out.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::books::Ledger;
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::keys::hold;
use crate::engine::names::{Place, RoleName};
use crate::engine::role::Role;
use crate::engine::role::rotating::RotatingRole;
use crate::engine::rotation::apply_guardrail;
use crate::openrouter::{GuardrailId, KeyHash};

/// Compares the assignments of the keys at a place. Where no role has a guardrail it asks for nothing.
///
/// # Errors
/// OpenRouter's and storage's. What cannot be mended in a role is stored with it and tried again.
pub(super) async fn compare_assignments(
    engine: &Engine,
    link: &Link,
    place: &Place,
    ledger: &Ledger,
) -> Result<(), Error> {
    let leased = leased(engine, place).await?;
    let of_roles = ledger.guarded(place);
    let of_roles =
        of_roles.map(|(hash, (guardrail, role))| (hash.clone(), guardrail.clone(), role));
    let of_leases = leased
        .iter()
        .map(|(hash, guardrail, role)| (hash.clone(), guardrail.clone(), role));
    let (mut expected, mut owners) = (BTreeMap::new(), BTreeMap::new());
    for (hash, guardrail, role) in of_roles.chain(of_leases) {
        owners.insert(hash.clone(), role);
        expected.insert(hash, guardrail);
    }
    let missing = missing(link, &expected).await?;
    let roles: BTreeSet<&RoleName> = missing
        .iter()
        .filter_map(|hash| owners.get(hash).copied())
        .collect();
    for role in roles {
        mend(engine, link, place, role).await?;
    }
    Ok(())
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

/// What each key under a lease at a place is held to, and of which role it is.
async fn leased(
    engine: &Engine,
    place: &Place,
) -> Result<Vec<(KeyHash, GuardrailId, RoleName)>, Error> {
    let leases = engine.books().await?.leases;
    let records = leases.all().filter(|record| record.place() == *place);
    let held = records.filter_map(|record| {
        let key = record.key;
        Some((key.key_hash, record.guardrail_id?, key.role))
    });
    Ok(held.collect())
}

/// Under the role's lock: since the listing a key may have become another, or the guardrail.
async fn mend(engine: &Engine, link: &Link, place: &Place, name: &RoleName) -> Result<(), Error> {
    let guard = engine.change(name).await;
    match guard.load().await? {
        Some(Role::Rotating(role)) => mend_role(&guard, link, place, *role).await?,
        // The role may be gone, or be another one by now: its leases are alive all the same.
        Some(Role::Dynamic(_)) | None => {}
    }
    mend_leases(&guard, link, place).await
}

async fn mend_role(
    guard: &RoleGuard<'_>,
    link: &Link,
    place: &Place,
    mut role: RotatingRole,
) -> Result<(), Error> {
    let engine = guard.engine();
    let mut keys = role.guarded_keys();
    // What is not held already is the keeper's.
    keys.retain(|key| key.place == *place && key.is_held);
    let expected = keys.into_iter().map(|key| (key.hash, key.guardrail_id));
    let missing = missing(link, &expected.collect()).await?;
    if missing.is_empty() || role.deletion.is_some() {
        return Ok(());
    }
    for key_hash in &missing {
        tracing::warn!(
            mount = engine.mount,
            role = %guard.name(),
            %key_hash,
            "a key was taken off its guardrail at OpenRouter, it is assigned again"
        );
        role.note_unguarded(key_hash);
    }
    // First of all it is not handed out.
    guard.store(&role).await?;
    apply_guardrail(guard, role).await.map(|_| ())
}

async fn mend_leases(guard: &RoleGuard<'_>, link: &Link, place: &Place) -> Result<(), Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let role = guard.load().await?;
    let leases = engine.books().await?.leases;
    let mut expected = BTreeMap::new();
    for record in leases.all() {
        // One that is to be held to another guardrail is the keeper's.
        let lacks = role
            .as_ref()
            .is_some_and(|role| record.lacks(role.terms()).is_some());
        if record.key.role == *name && record.place() == *place && !lacks {
            let held = record.guardrail_id.map(|id| (record.key.key_hash, id));
            expected.extend(held);
        }
    }
    for key_hash in missing(link, &expected).await? {
        tracing::warn!(
            mount = engine.mount,
            role = %name,
            %key_hash,
            "the key of a lease was taken off its guardrail at OpenRouter, it is assigned again"
        );
        let Some(guardrail) = expected.get(&key_hash) else {
            continue;
        };
        let keys = std::slice::from_ref(&key_hash);
        match hold(link, Urgency::Ordinary, guardrail, keys).await {
            Ok(_) => {}
            // It was handed out already, and trying again is useless.
            Err(Error::OpenRouter { doing, reason }) if reason.is_definite() => {
                tracing::warn!(mount = engine.mount, %key_hash, %reason, "{doing}");
            }
            Err(reason) => return Err(reason),
        }
    }
    Ok(())
}
