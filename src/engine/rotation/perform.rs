//! The shell around [`next_step`]: does a step's work and stores what came of it.
//!
//! Everything here runs under the role's lock, with the role as it was last stored in hand. Every
//! function returns the role as it is stored now. Any of them may be dropped at any await, or die
//! with the process: each order of effects is chosen so that [`next_step`] then finds its way from
//! what is stored, and says so where it matters.

use jiff::Timestamp;

use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::{delete_key, strike};
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::role::rotating::{Failure, Grace, RotatingRole, Step, failed, next_step};
use crate::engine::rotation::NextKey;
use crate::openrouter::{self, KeyHash};

/// Why a role is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// It is due.
    Schedule,
    /// A person asked for it, with this grace period for the old key.
    Person(Grace),
}

/// Takes a role through all steps that are due now, and returns when it is to be looked at again;
/// `None` when there is nothing to wait for, or no such role.
///
/// # Errors
/// Storage's own. What OpenRouter does wrong is stored with the role and tried again.
pub async fn tend(engine: &Engine, name: &RoleName) -> Result<Option<Timestamp>, Error> {
    let _held = engine.role_locks.lock(&name.key()).await;
    let Some(mut role) = Role::load_rotating(&*engine.storage, name).await? else {
        return Ok(None);
    };
    while !engine.keeper.is_stopping() {
        role = match next_step(&role, engine.clock.now()) {
            Step::Wait(until) => return Ok(until),
            Step::Revoke(hash) => revoke(engine, name, role, &hash).await?,
            Step::ApplyLimits => apply_limits(engine, name, role).await?.0,
            // The failure is in the role by now, with the time of the next try.
            Step::Rotate { .. } => match rotate(engine, name, role, Trigger::Schedule).await? {
                Ok(role) | Err((role, _)) => role,
            },
            Step::Delete => match super::delete::finish_deletion(engine, name, role).await? {
                Some(role) => role,
                None => return Ok(None),
            },
        };
    }
    Ok(None)
}

/// Replaces the current key. The inner error is a failure of OpenRouter's or of the new key, with
/// the role as it is stored now: the key before is still current, and in service.
///
/// # Errors
/// Storage's own. If it was the switch that could not be stored, either it took effect, or the new
/// key's intent is adrift and leads to it.
pub async fn rotate(
    engine: &Engine,
    name: &RoleName,
    role: RotatingRole,
    trigger: Trigger,
) -> Result<Result<RotatingRole, (RotatingRole, Error)>, Error> {
    let next = NextKey {
        role: name,
        definition: &role.definition,
        version: role.next_version(),
        manual: trigger != Trigger::Schedule,
    };
    let (key, in_flight) = match next.mint(engine).await {
        Ok(minted) => minted,
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) => {
            let role = rotation_failed(engine, name, role, &reason).await?;
            return Ok(Err((role, reason)));
        }
    };
    let grace = match trigger {
        Trigger::Schedule => Grace::Seconds(role.definition.rotation.grace),
        Trigger::Person(grace) => grace,
    };
    let role = role.switched_to(key, grace);
    // The switch. Before it, the new key is known by its intent; after it, by the entry. The intent
    // is struck out second, so that there is no moment at which neither is stored.
    role.store(&*engine.storage, name).await?;
    strike(engine, &in_flight).await;
    tracing::info!(
        mount = engine.mount,
        role = %name,
        key_version = role.current.version,
        key_hash = %role.current.hash,
        manual = role.current.manual,
        "rotated"
    );
    events::rotated(engine, name, &role).await;
    Ok(Ok(role))
}

/// Gives the current key the limits of the definition. The second result is why that failed, which
/// is then stored with the role and tried again.
///
/// # Errors
/// Storage's own. The key may have its new limits then; giving them once more does no harm.
pub async fn apply_limits(
    engine: &Engine,
    name: &RoleName,
    mut role: RotatingRole,
) -> Result<(RotatingRole, Option<Error>), Error> {
    let limits = role.definition.terms.limits;
    let patched = patch_limits(engine, &role).await;
    let failure = match patched {
        Ok(()) => {
            role.current.limits = limits;
            role.limits_failure = None;
            None
        }
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) => {
            role.limits_failure = Some(failure(engine, role.limits_failure.as_ref(), &reason));
            Some(reason)
        }
    };
    role.store(&*engine.storage, name).await?;
    Ok((role, failure))
}

async fn patch_limits(engine: &Engine, role: &RotatingRole) -> Result<(), Error> {
    let key = &role.current;
    let limits = role.definition.terms.limits;
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    let doing = || "the limits of the live key could not be changed".to_owned();
    let patched = link.client().await.update_limits(&key.hash, &limits).await;
    let patched = patched.map_err(Error::while_doing(doing()))?;
    if patched.limits.agree_with(&limits) {
        Ok(())
    } else {
        Err(Error::OpenRouter {
            doing: doing(),
            reason: openrouter::Error::Unclear {
                reason: "its answer shows other limits than were asked for".to_owned(),
                retry_after: None,
            },
        })
    }
}

/// Revokes a superseded key and forgets it; or stores why that failed, and when it is tried again.
///
/// # Errors
/// Storage's own. The key may be gone then; revoking it once more succeeds.
async fn revoke(
    engine: &Engine,
    name: &RoleName,
    mut role: RotatingRole,
    hash: &KeyHash,
) -> Result<RotatingRole, Error> {
    let Some(key) = role.superseded.iter_mut().find(|key| key.hash == *hash) else {
        return Ok(role);
    };
    // Forgotten only once OpenRouter has confirmed that it is gone.
    match delete_key(engine, &key.connection, hash).await {
        Ok(()) => {
            tracing::info!(mount = engine.mount, role = %name, key_hash = %hash, "revoked");
            role.superseded.retain(|key| key.hash != *hash);
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
        }
    }
    role.store(&*engine.storage, name).await?;
    Ok(role)
}

/// Revokes every superseded key whose time has come, trying each once, and returns the role and
/// what went wrong.
///
/// # Errors
/// Storage's own.
pub async fn revoke_all(
    engine: &Engine,
    name: &RoleName,
    mut role: RotatingRole,
) -> Result<(RotatingRole, Option<String>), Error> {
    while let Step::Revoke(hash) = next_step(&role, engine.clock.now()) {
        role = revoke(engine, name, role, &hash).await?;
    }
    let now = engine.clock.now();
    let failed = role.superseded.iter().find(|key| key.revoke_at <= now);
    let failure = failed.and_then(|key| key.failure.clone());
    Ok((role, failure.map(|failure| failure.message)))
}

async fn rotation_failed(
    engine: &Engine,
    name: &RoleName,
    mut role: RotatingRole,
    reason: &Error,
) -> Result<RotatingRole, Error> {
    let failure = failure(engine, role.rotation_failure.as_ref(), reason);
    tracing::warn!(
        mount = engine.mount,
        role = %name,
        attempts = failure.attempts,
        retry_at = %failure.retry_at,
        %reason,
        "a rotation failed, the current key stays in service"
    );
    role.last_attempt = failure.at;
    role.rotation_failure = Some(failure);
    role.store(&*engine.storage, name).await?;
    events::rotation_failed(engine, name, &role).await;
    Ok(role)
}

fn failure(engine: &Engine, previous: Option<&Failure>, reason: &Error) -> Failure {
    failed(previous, reason, engine.clock.now(), &*engine.randomness)
}
