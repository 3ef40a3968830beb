//! The end of a superseded key: [looked at](super::last_look) once more, disabled where the role wants
//! that, deleted; and the way back from a hold. Everything here runs under the role's lock, as in
//! [`perform`](super::perform).

use jiff::Timestamp;

use super::budget;
use super::last_look::{Look, last_look, report_late_use};
use super::perform::failure;
use crate::engine::clock::after;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Switched, Warrant, hold, release, retire};
use crate::engine::role::rotating::{RotatingRole, Stage, Step, SupersededKey, next_step};
use crate::openrouter::{self, KeyHash};

/// How a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is disabled, and deleted only if that cannot be done.
    Hold,
    /// It is deleted.
    Revoke,
}

/// Ends a superseded key; or stores why that failed, and when it is tried again. One that was found, and
/// that somebody still uses, is left for a person to decide.
///
/// # Errors
/// Storage's own. The key may have ended then; ending it once more succeeds.
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
    let late_use = match last_look(engine, key, urgency).await? {
        Look::Nothing => None,
        Look::UsedLate(used) if key.found && !key.emergency => {
            key.awaits_person = Some(used.used_at);
            key.failure = None;
            guard.store(&role).await?;
            report_late_use(guard, &role, &used, true).await;
            return Ok(role);
        }
        Look::UsedLate(used) => Some(used),
        Look::Needed(reason) => {
            key.failure = Some(failure(engine, key.failure.as_ref(), &reason));
            guard.store(&role).await?;
            return Ok(role);
        }
    };
    // Of those nobody was asked whether they were used late: what was known stays.
    let was_looked_at = !key.stage.is_held() && key.stage != Stage::Ordered;
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
            role.superseded.retain(|key| key.hash != *hash);
            // Where there is no final reading of it.
            role.count_ended(hash, None, engine.now());
        }
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) => {
            tracing::warn!(
                mount = engine.mount,
                role = %name,
                key_hash = %hash,
                %reason,
                "a superseded key could not be revoked, it is tried again"
            );
            key.failure = Some(failure(engine, key.failure.as_ref(), &reason));
            guard.store(&role).await?;
            return Ok(role);
        }
    }
    if was_looked_at {
        role.late_use.clone_from(&late_use);
    }
    guard.store(&role).await?;
    if let Some(used) = late_use {
        report_late_use(guard, &role, &used, false).await;
    }
    Ok(role)
}

/// What has become of a key.
enum Ended {
    /// It is disabled, and waits like this to be deleted.
    Disabled(Stage),
    /// OpenRouter does not have it any more.
    Gone,
}

/// Disables or deletes. What cannot be disabled is deleted: at once where OpenRouter refuses, or in an
/// emergency; else not before the second try, so that a short outage does not cost the way back. Under a
/// budget every key is disabled first, and deleted once its final reading was taken.
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
    let is_to_be_read = role.counts_against_budget(hash);
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
                let is_refused = matches!(
                    &reason,
                    Error::OpenRouter {
                        reason: openrouter::Error::Refused { .. },
                        ..
                    }
                );
                if !(is_refused || is_ordered || key.emergency || key.failure.is_some()) {
                    return Err(reason);
                }
                tracing::warn!(
                    mount = engine.mount,
                    role = %guard.name(),
                    key_hash = %hash,
                    %reason,
                    "a superseded key cannot be held, so it is deleted"
                );
            }
        }
    }
    budget::count_final(guard, role, hash, urgency).await?;
    // Forgotten only once OpenRouter has confirmed that it is gone.
    retire(engine, &key.connection, hash, warrant())
        .await
        .map(|_| Ended::Gone)
}

/// Moves the end of a key that fell due while nobody worked.
///
/// # Errors
/// Storage's own.
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

/// Enables a held key that is wanted back. The second result is why that failed, which is then stored
/// with the role and tried again.
///
/// # Errors
/// Storage's own. The key may be enabled then; enabling it once more does no harm.
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
            role.superseded.retain(|key| key.hash != *hash);
            role.count_ended(hash, None, engine.now());
            Some(Error::Missing(format!(
                "OpenRouter does not have key {hash} any more"
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

/// Deletes a superseded or held key before its time, since a person has ordered that: without a last look,
/// and without a hold. Under a budget it is disabled now, and deleted once its final reading was taken. Returns the role, and why the key may still work, which is then tried again.
///
/// # Errors
/// Storage's own.
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
    // Disabled already, it waits for its final reading.
    if role.settles_at(hash).is_some_and(|at| at > now) {
        return Ok((role, None));
    }
    let role = end(guard, role, hash, Ending::Revoke, Urgency::Emergency).await?;
    let key = role.superseded.iter().find(|key| key.hash == *hash);
    let failure = key.and_then(|key| key.failure.as_ref());
    let failure = failure.map(|failure| failure.message.clone());
    Ok((role, failure))
}

/// Ends every superseded key whose time has come, trying each once, and returns the role and what went
/// wrong.
///
/// # Errors
/// Storage's own.
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
