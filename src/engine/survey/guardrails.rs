//! Which keys are still held to their guardrails. Somebody may have taken one off in the dashboard, or
//! given it another: it is assigned again, and while that fails it is not handed out.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::books::Ledger;
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::hold;
use crate::engine::names::{Place, RoleName};
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
    let mut expected: BTreeMap<KeyHash, GuardrailId> = of_roles
        .map(|(hash, (guardrail, _))| (hash.clone(), guardrail.clone()))
        .collect();
    expected.extend(leased.clone());
    let missing = missing(link, &expected).await?;
    let roles = ledger.guarded(place);
    let roles: BTreeSet<&RoleName> = roles
        .filter(|(hash, _)| missing.contains(*hash))
        .map(|(_, (_, role))| role)
        .collect();
    for role in roles {
        mend_role(engine, link, place, role).await?;
    }
    let lost = leased
        .into_iter()
        .filter(|(hash, _)| missing.contains(hash));
    for (hash, guardrail) in lost {
        mend_lease(engine, link, &hash, &guardrail).await?;
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

/// What each key under a lease at a place is held to.
async fn leased(engine: &Engine, place: &Place) -> Result<BTreeMap<KeyHash, GuardrailId>, Error> {
    let leases = engine.books().await?.leases;
    let records = leases.all().filter(|record| record.place() == *place);
    let held = records.filter_map(|record| Some((record.key.key_hash, record.guardrail_id?)));
    Ok(held.collect())
}

/// Under the role's lock: since the listing the key may have become another, or the guardrail.
async fn mend_role(
    engine: &Engine,
    link: &Link,
    place: &Place,
    name: &RoleName,
) -> Result<(), Error> {
    let guard = engine.change(name).await;
    let Some(mut role) = guard.load_rotating().await? else {
        return Ok(());
    };
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
            role = %name,
            %key_hash,
            "a key was taken off its guardrail at OpenRouter, it is assigned again"
        );
        role.note_unguarded(key_hash);
    }
    // First of all it is not handed out.
    guard.store(&role).await?;
    apply_guardrail(&guard, role).await.map(|_| ())
}

async fn mend_lease(
    engine: &Engine,
    link: &Link,
    key_hash: &KeyHash,
    guardrail: &GuardrailId,
) -> Result<(), Error> {
    tracing::warn!(
        mount = engine.mount,
        %key_hash,
        "the key of a lease was taken off its guardrail at OpenRouter, it is assigned again"
    );
    let keys = std::slice::from_ref(key_hash);
    match hold(link, Urgency::Ordinary, guardrail, keys).await {
        Ok(_) => Ok(()),
        // It was handed out already, and trying again is useless.
        Err(Error::OpenRouter { doing, reason }) if reason.is_definite() => {
            tracing::warn!(mount = engine.mount, %key_hash, %reason, "{doing}");
            Ok(())
        }
        Err(reason) => Err(reason),
    }
}
