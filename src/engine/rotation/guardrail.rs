//! Applies a role's guardrail to its living keys, after the guardrail was changed or a key was removed from
//! it at OpenRouter. For new keys, see [`keys`](crate::engine::keys).

use std::collections::BTreeMap;

use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Failures, Presence, Target, assign_each, half_done, presence};
use crate::engine::role::rotating::{Mismatch, MismatchReason, RotatingRole, failed};
use crate::openrouter::{self, KeyHash};

/// Applies a change that was stored earlier. First the role is rewritten as it was read: a deposed node keeps
/// reading the old role, and must not assign its keys to a guardrail that the new leader has replaced.
///
/// # Errors
/// As [`apply_guardrail`]. Nothing is sent to OpenRouter if this node may not write.
pub async fn resume_guardrail(
    guard: &RoleGuard<'_>,
    role: RotatingRole,
) -> Result<(RotatingRole, Option<Error>), Error> {
    guard.store(&role).await?;
    apply_guardrail(guard, role).await
}

/// Assigns each of the role's living keys to the guardrail that it should have. Called right after the role
/// was stored. The second result is the reason for a failure, which is also stored with the role and retried.
/// If several assignments fail, the failure of the role's own guardrail is reported.
///
/// # Errors
/// Errors from storage. The keys may already be assigned; assigning them again is harmless.
pub async fn apply_guardrail(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
) -> Result<(RotatingRole, Option<Error>), Error> {
    let engine = guard.engine();
    let mut failures = Failures::of(&role.definition.terms);
    for (number, (target, keys)) in by_guardrail(&role).into_iter().enumerate() {
        if number > 0 {
            // Another leader may have been elected since the last request.
            guard.store(&role).await?;
        }
        let assigned = assign_keys(guard, &mut role, &target, &keys).await;
        failures.note(&target, assigned)?;
    }
    let failure = failures.shown;
    role.guardrail_failure = failure.as_ref().map(|reason| {
        tracing::warn!(
            mount = engine.mount,
            role = %guard.name(),
            %reason,
            "failed to apply the role's guardrail to its keys; it is retried"
        );
        let before = role.guardrail_failure.as_ref();
        failed(before, reason, engine.now(), &*engine.randomness)
    });
    guard.store(&role).await?;
    Ok((role, failure))
}

/// The keys that are not assigned as they should be, grouped by connection and guardrail.
fn by_guardrail(role: &RotatingRole) -> BTreeMap<Target, Vec<KeyHash>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for key in role.unguarded_keys() {
        let target = (key.place.connection, key.guardrail_id);
        keys.entry(target).or_default().push(key.hash);
    }
    keys
}

/// Records which keys are assigned. If the current key turns out to be gone, that is recorded, and the key is
/// replaced. It is no reason to reject the guardrail: the next key is made with it.
async fn assign_keys(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    (connection, guardrail): &Target,
    keys: &[KeyHash],
) -> Result<(), Error> {
    let engine = guard.engine();
    let link = engine.links.open(&*engine.storage, connection).await?;
    let mut assigned = assign_each(guard, &link, Urgency::Ordinary, guardrail, keys).await?;
    let current = role.current.hash.clone();
    let gone = assigned.gone.iter().filter(|key| **key != current);
    for key in assigned.proved.iter().chain(gone) {
        role.note_guarded(key, guardrail);
    }
    let failure = assigned.failure();
    if !assigned.gone.contains(&current) {
        return failure.map_or(Ok(()), Err);
    }
    let refused = |reason| Error::OpenRouter {
        doing: format!("the current key cannot be assigned to guardrail {guardrail}"),
        reason,
    };
    let is_begun =
        !assigned.proved.is_empty() || failure.is_some_and(|reason| !reason.is_definite());
    let seen = presence(engine, &role.current).await;
    if let Presence::Gone = seen.map_err(|reason| half_done(is_begun, reason))? {
        if !role
            .mismatch
            .is_some_and(|mismatch| mismatch.reason.is_dead())
        {
            role.mismatch = Some(Mismatch::found(MismatchReason::Gone, engine.now()));
        }
        return Err(refused(openrouter::Error::Unclear {
            reason: "it is gone, the management key does not see it".to_owned(),
            retry_after: None,
        }));
    }
    // The key may be in another account and work there.
    let reason = openrouter::Error::NotFound {
        message: "the management key does not see it".to_owned(),
    };
    Err(half_done(is_begun, refused(reason)))
}
