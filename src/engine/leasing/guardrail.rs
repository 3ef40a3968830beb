//! Applies a changed guardrail of a dynamic role to the keys under its leases. The key of a new lease gets
//! its guardrail before it is handed out: see [`keys`](crate::engine::keys).
//!
//! Each lease's record stores which guardrail its key has, so the remaining work is known even after a crash.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::engine::books::LeasedKey;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Failures, Target, assign_each};
use crate::engine::role::Terms;
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::failed;
use crate::engine::spending;
use crate::openrouter::KeyHash;

/// Performs what is due for a dynamic role. Returns when there is more to do; `None` if there is nothing.
///
/// # Errors
/// Errors from storage. Errors from OpenRouter are stored with the role, and the work is retried.
pub async fn tend(
    guard: &RoleGuard<'_>,
    mut role: DynamicRole,
) -> Result<Option<Timestamp>, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let leases = engine.books().await?.leases;
    spending::report_dynamic(guard, &mut role).await?;
    if leases.unguarded(name, &role).is_empty() {
        return Ok(None);
    }
    if let Some(failure) = &role.guardrail_failure
        && failure.retry_at > engine.now()
    {
        return Ok(Some(failure.retry_at));
    }
    let (role, _) = resume_guardrail(guard, role).await?;
    Ok(role.guardrail_failure.map(|failure| failure.retry_at))
}

/// Applies a change that was stored earlier. First the role is rewritten as it was read, as for a rotating
/// role: a deposed node must not undo what the new leader has done.
///
/// # Errors
/// As [`apply_guardrail`]. Nothing is sent to OpenRouter if this node may not write.
pub async fn resume_guardrail(
    guard: &RoleGuard<'_>,
    role: DynamicRole,
) -> Result<(DynamicRole, Option<Error>), Error> {
    guard.store_dynamic(&role).await?;
    apply_guardrail(guard, role).await
}

/// Assigns each key under a lease to the guardrail that it should have. Called right after the role was
/// stored. The second result is the reason for a failure, which is also stored with the role and retried. If
/// several assignments fail, the failure of the role's own guardrail is reported. The failure is definite
/// only if no key was assigned to that guardrail.
///
/// # Errors
/// Errors from storage. The keys may already be assigned; assigning them again is harmless.
pub(super) async fn apply_guardrail(
    guard: &RoleGuard<'_>,
    mut role: DynamicRole,
) -> Result<(DynamicRole, Option<Error>), Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let mut unguarded = BTreeMap::<Target, Vec<_>>::new();
    for (record, guardrail) in engine.books().await?.leases.unguarded(name, &role) {
        let target = (record.key.connection.clone(), guardrail);
        unguarded.entry(target).or_default().push(record.key);
    }
    let mut failures = Failures::of(&role.terms);
    let mut is_proved = true;
    for (number, (target, keys)) in unguarded.into_iter().enumerate() {
        if number > 0 {
            // Another leader may have been elected since the last request, and may have changed the
            // role's guardrail.
            guard.store_dynamic(&role).await?;
        }
        let assigned = assign_keys(guard, &role.terms, &target, &keys).await;
        // Keys that OpenRouter refuses are marked in their records.
        is_proved &= assigned.is_ok() || !failures.is_own(&target);
        let assigned = assigned.and_then(|refusal| refusal.map_or(Ok(()), Err));
        failures.note(&target, assigned)?;
    }
    let failure = failures.shown;
    let before = role.guardrail_failure.take();
    let was_unproved = role.guardrails_unproved;
    role.guardrails_unproved &= !is_proved;
    role.guardrail_failure = failure.as_ref().map(|reason| {
        tracing::warn!(
            mount = engine.mount,
            role = %name,
            %reason,
            "failed to apply the role's guardrail to keys under leases; it is retried"
        );
        failed(before.as_ref(), reason, engine.now(), &*engine.randomness)
    });
    if role.guardrail_failure != before || role.guardrails_unproved != was_unproved {
        guard.store_dynamic(&role).await?;
    }
    Ok((role, failure))
}

/// Stores with each key's record the outcome for it. Keys that OpenRouter no longer knows need no guardrail.
/// Returns why OpenRouter refuses a key, if it refuses one.
///
/// # Errors
/// The error after which no further key was tried. Errors from storage.
async fn assign_keys(
    guard: &RoleGuard<'_>,
    terms: &Terms,
    (connection, guardrail): &Target,
    keys: &[LeasedKey],
) -> Result<Option<Error>, Error> {
    let engine = guard.engine();
    let storage = &*engine.storage;
    let link = engine.links.open(storage, connection).await?;
    let leases = engine.books().await?.leases;
    let hashes: Vec<KeyHash> = keys.iter().map(|key| key.key_hash.clone()).collect();
    let mut assigned = assign_each(guard, &link, Urgency::Ordinary, guardrail, &hashes).await?;
    for key in keys {
        let hash = &key.key_hash;
        let lease = leases.lock(&key.nonce).await;
        if assigned.refused.contains(hash) {
            lease.note_unproved(storage, guardrail, terms).await?;
        } else if assigned.proved.contains(hash) || assigned.gone.contains(hash) {
            lease.note_guarded(storage, guardrail, terms).await?;
        }
    }
    let is_decided = assigned.broken_off.is_none();
    match assigned.failure() {
        Some(reason) if !is_decided => Err(reason),
        refusal => Ok(refusal),
    }
}
