//! The end of a superseded key: it is [checked](super::last_check) once more, disabled if the role wants that,
//! and deleted. Also enables held keys again. Everything here runs under the role's lock, as in
//! [`perform`](super::perform).

use jiff::Timestamp;

use super::budget;
use super::last_check::{LastCheck, last_check, report_late_use};
use super::perform::failure;
use crate::engine::clock::after;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Switched, Warrant, hold, release, retire};
use crate::engine::role::rotating::{RotatingRole, Stage, Step, SupersededKey, next_step};
use crate::openrouter::KeyHash;

/// How a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The key is disabled, or deleted if that is not possible.
    Hold,
    /// The key is deleted.
    Revoke,
}

/// Ends a superseded key, or stores the failure and the time of the retry. A key that a comparison found, and
/// that is still in use, is left for a person to decide.
///
/// # Errors
/// Errors from storage. The key may already have ended; ending it again succeeds.
pub(super) async fn end(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    hash: &KeyHash,
    ending: Ending,
    urgency: Urgency,
) -> Result<RotatingRole, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let Some(key) = role.superseded.iter_mut().find(|key| key.hash == *hash) else {
        return Ok(role);
    };
    let late_use = match last_check(engine, key, urgency).await? {
        LastCheck::Nothing => None,
        LastCheck::UsedLate(used) if key.found && !key.emergency => {
            key.awaits_person = Some(used.used_at);
            key.failure = None;
            guard.store(&role).await?;
            report_late_use(guard, &role, &used, true).await;
            return Ok(role);
        }
        LastCheck::UsedLate(used) => Some(used),
        LastCheck::Needed(reason) => {
            key.failure = Some(failure(engine, key.failure.as_ref(), &reason));
            guard.store(&role).await?;
            return Ok(role);
        }
    };
    // Keys in other stages are not checked for late use, so the last known result is kept.
    let was_checked = !key.stage.is_held() && key.stage != Stage::Ordered;
    let ended = carry_out(guard, &mut role, hash, ending, urgency).await;
    let Some(key) = role.superseded.iter_mut().find(|key| key.hash == *hash) else {
        return Ok(role);
    };
    match ended {
        Ok(Ended::Disabled(stage)) => {
            tracing::info!(mount = engine.mount, role = %name, key_hash = %hash, "disabled");
            key.stage = stage;
            key.failure = None;
        }
        Ok(Ended::Gone) => {
            tracing::info!(mount = engine.mount, role = %name, key_hash = %hash, "revoked");
            // If there is no final reading of the key.
            role.count_ended(hash, None, engine.now());
            role.superseded.retain(|key| key.hash != *hash);
        }
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) => {
            tracing::warn!(
                mount = engine.mount,
                role = %name,
                key_hash = %hash,
                %reason,
                "failed to revoke a superseded key; it is retried"
            );
            key.failure = Some(failure(engine, key.failure.as_ref(), &reason));
            guard.store(&role).await?;
            return Ok(role);
        }
    }
    if was_checked {
        role.late_use.clone_from(&late_use);
    }
    guard.store(&role).await?;
    if let Some(used) = late_use {
        report_late_use(guard, &role, &used, false).await;
    }
    Ok(role)
}

/// The result of ending a key.
enum Ended {
    /// It is disabled, and waits in this stage to be deleted.
    Disabled(Stage),
    /// OpenRouter no longer has it.
    Gone,
}

/// Disables or deletes a key. A key that cannot be disabled is deleted: at once if OpenRouter rejects the
/// request or in an emergency, otherwise not before the second try, so that a short outage does not make a
/// restore impossible. If ended keys are counted, every key is disabled first, and deleted after its final
/// reading.
async fn carry_out(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    hash: &KeyHash,
    ending: Ending,
    urgency: Urgency,
) -> Result<Ended, Error> {
    let engine = guard.engine();
    let Some(key) = role.superseded.iter().find(|key| key.hash == *hash) else {
        return Ok(Ended::Gone);
    };
    let key = key.clone();
    let warrant = || Warrant::OfRole(guard, urgency);
    let is_ordered = key.stage == Stage::Ordered;
    let is_to_be_read = role.is_to_be_counted(hash);
    let awaits_reading = is_to_be_read && role.settles_at(hash).is_none();
    if ending == Ending::Hold || (is_ordered && awaits_reading) {
        match hold(engine, &key.connection, hash, warrant()).await {
            Ok(Switched::Done) => {
                let since = engine.now();
                role.count_disabled(hash, since);
                if is_ordered {
                    return Ok(Ended::Disabled(Stage::Ordered));
                }
                let seconds = role.definition.rotation.hold;
                let until = after(since, seconds).min(key.expires_at.unwrap_or(Timestamp::MAX));
                let until = until.max(role.settles_at(hash).unwrap_or(Timestamp::MIN));
                return Ok(Ended::Disabled(Stage::Held { since, until }));
            }
            Ok(Switched::Gone) => return Ok(Ended::Gone),
            Err(reason) => {
                if !(reason.is_refused() || is_ordered || key.emergency || key.failure.is_some()) {
                    return Err(reason);
                }
                tracing::warn!(
                    mount = engine.mount,
                    role = %guard.name(),
                    key_hash = %hash,
                    %reason,
                    "a superseded key cannot be disabled, so it is deleted"
                );
            }
        }
    }
    budget::count_final(guard, role, hash, urgency).await?;
    // The key is forgotten only after OpenRouter has confirmed that it is gone.
    retire(engine, &key.connection, hash, warrant())
        .await
        .map(|_| Ended::Gone)
}

/// Postpones the end of a key that became due while no node was active.
///
/// # Errors
/// Errors from storage.
pub(super) async fn postpone(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    hash: &KeyHash,
    until: Timestamp,
) -> Result<RotatingRole, Error> {
    if let Some(key) = role.superseded.iter_mut().find(|key| key.hash == *hash) {
        tracing::info!(
            mount = guard.engine().mount,
            role = %guard.name(),
            key_hash = %hash,
            %until,
            "a revocation fell due while the engine was not running; it is postponed"
        );
        key.revoke_at = until;
        key.postponed = true;
        guard.store(&role).await?;
    }
    Ok(role)
}

/// Enables a held key that is being restored. The second result is the error, which is also stored with the
/// role and retried.
///
/// # Errors
/// Errors from storage. The key may already be enabled; enabling it again is harmless.
pub(super) async fn enable(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    hash: &KeyHash,
) -> Result<(RotatingRole, Option<Error>), Error> {
    let engine = guard.engine();
    let Some(key) = role.superseded.iter_mut().find(|key| key.hash == *hash) else {
        return Ok((role, None));
    };
    let failed = match release(guard, &key.connection, hash).await {
        Ok(Switched::Done) => {
            key.stage = Stage::Grace;
            key.failure = None;
            None
        }
        Ok(Switched::Gone) => {
            role.count_ended(hash, None, engine.now());
            role.superseded.retain(|key| key.hash != *hash);
            Some(Error::Missing(format!(
                "OpenRouter no longer has key {hash}"
            )))
        }
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) => {
            key.failure = Some(failure(engine, key.failure.as_ref(), &reason));
            Some(reason)
        }
    };
    guard.store(&role).await?;
    Ok((role, failed))
}

/// Deletes a superseded or held key early, because a person ordered it: without a last check or a hold. With
/// a budget the key is disabled now, and deleted after its final reading. Returns the role, and the reason
/// why the key may still work, in which case the deletion is retried.
///
/// # Errors
/// Errors from storage.
pub async fn revoke_early(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    hash: &KeyHash,
) -> Result<(RotatingRole, Option<String>), Error> {
    let now = guard.engine().now();
    let Some(key) = role.superseded.iter_mut().find(|key| key.hash == *hash) else {
        return Ok((role, None));
    };
    match &mut key.stage {
        Stage::Held { until, .. } => *until = now.min(*until),
        stage => *stage = Stage::Ordered,
    }
    key.revoke_at = key.revoke_at.min(now);
    key.awaits_person = None;
    key.failure = None;
    guard.store(&role).await?;
    // The key is already disabled and waits for its final reading.
    if role.settles_at(hash).is_some_and(|at| at > now) {
        return Ok((role, None));
    }
    let role = end(guard, role, hash, Ending::Revoke, Urgency::Emergency).await?;
    let key = role.superseded.iter().find(|key| key.hash == *hash);
    let failure = key.and_then(|key| key.failure.as_ref());
    let failure = failure.map(|failure| failure.message.clone());
    Ok((role, failure))
}

/// Ends every superseded key that is due, trying each once. Returns the role and the first error.
///
/// # Errors
/// Errors from storage.
pub async fn revoke_all(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
) -> Result<(RotatingRole, Option<String>), Error> {
    let engine = guard.engine();
    loop {
        let (hash, ending) = match next_step(&role, engine.circumstances().await?) {
            Step::Hold(hash) => (hash, Ending::Hold),
            Step::Revoke(hash) => (hash, Ending::Revoke),
            _ => break,
        };
        role = end(guard, role, &hash, ending, Urgency::Emergency).await?;
    }
    let now = engine.now();
    let lives = |key: &&SupersededKey| {
        let is_disabled = key.stage.is_held() || role.settles_at(&key.hash).is_some();
        key.revoke_at <= now && !is_disabled
    };
    let failed = role.superseded.iter().filter(lives);
    let failure = failed.filter_map(|key| key.failure.clone()).next();
    Ok((role, failure.map(|failure| failure.message)))
}
