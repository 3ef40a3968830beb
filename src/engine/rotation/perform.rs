//! Performs the step that [`next_step`] returns, and stores the result.
//!
//! Everything here runs under the role's lock and starts from the role as it was last stored. Every function
//! returns the role as it is stored now. Each of them can be dropped at any await, or die with the process:
//! the order of its effects is chosen so that [`next_step`] can continue from what is stored.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::budget;
use super::ending::{Ending, enable, end, postpone};
use super::guardrail::apply_guardrail;
use super::next_key::NextKey;
use crate::engine::books::Drift;
use crate::engine::connection::Urgency;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::{Presence, delete_intent, presence, reject};
use crate::engine::role::rotating::{
    Failure, Grace, Mismatch, MismatchReason, RotatingRole, Step, failed, next_step,
};
use crate::engine::spending;
use crate::openrouter;

/// The reason for a rotation.
#[derive(Debug, Clone, Copy)]
pub enum Trigger<'a> {
    /// The rotation is due.
    Schedule,
    /// A person requested it, with this grace period for the old key. Until the new key is ordered, the
    /// caller can give up.
    Manual(Grace, &'a CancellationToken),
}

impl Trigger<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual(Grace::Emergency { .. }, _) => "emergency",
            Self::Manual(Grace::Seconds(_), _) => "manual",
        }
    }

    fn urgency(&self) -> Urgency {
        match self {
            Self::Manual(Grace::Emergency { .. }, _) => Urgency::Emergency,
            Self::Manual(..) | Self::Schedule => Urgency::Ordinary,
        }
    }
}

/// The outcome of a rotation, with the role as it is stored now.
#[derive(Debug)]
pub enum Rotation {
    /// It has a new key.
    Done(RotatingRole),
    /// OpenRouter failed, or the new key was rejected. The previous key is still current, and in service.
    Failed(RotatingRole, Error),
}

/// Performs all steps of a role that are due now. Returns when to check the role again; `None` if there is
/// nothing to wait for.
///
/// # Errors
/// Errors from storage. Errors from OpenRouter are stored with the role, and the step is retried.
pub async fn tend(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
) -> Result<Option<Timestamp>, Error> {
    let engine = guard.engine();
    while !engine.keeper.is_stopping() {
        let step = next_step(&role, engine.circumstances().await?);
        if step.needs_fence() {
            // Rewritten as it was read, which only the leader can do.
            guard.store(&role).await?;
        }
        role = match step {
            Step::Wait(until) => {
                spending::report_rotating(guard, &mut role).await?;
                return Ok(until);
            }
            Step::Postpone(hash, until) => postpone(guard, role, &hash, until).await?,
            Step::Hold(hash) => end(guard, role, &hash, Ending::Hold, Urgency::Revocation).await?,
            Step::Revoke(hash) => {
                end(guard, role, &hash, Ending::Revoke, Urgency::Revocation).await?
            }
            Step::Enable(hash) => enable(guard, role, &hash).await?.0,
            Step::ApplyGuardrail => apply_guardrail(guard, role).await?.0,
            Step::ApplyLimits => apply_limits(guard, role).await?.0,
            Step::Budget(next) => budget::follow(guard, role, next).await?.0,
            Step::AskAgain => ask_again(guard, role).await?,
            // A failure is already stored in the role, with the time of the next attempt.
            Step::Rotate { .. } => match rotate(guard, role, Trigger::Schedule).await? {
                Rotation::Done(role) | Rotation::Failed(role, _) => role,
            },
            Step::Delete => match super::delete::finish_deletion(guard, role).await? {
                Some(role) => role,
                None => return Ok(None),
            },
        };
    }
    Ok(None)
}

/// Replaces the current key.
///
/// # Errors
/// Errors from storage; [`Error::CallerGone`]. If storing the switch failed, either it took effect anyway, or
/// the new key's intent is adrift and leads to the key.
pub async fn rotate(
    guard: &RoleGuard<'_>,
    role: RotatingRole,
    trigger: Trigger<'_>,
) -> Result<Rotation, Error> {
    let engine = guard.engine();
    let nobody = CancellationToken::new();
    let (grace, caller_gone) = match trigger {
        Trigger::Schedule => (Grace::Seconds(role.definition.rotation.grace), &nobody),
        Trigger::Manual(grace, caller_gone) => (grace, caller_gone),
    };
    let next = NextKey {
        guard,
        life: &role.life,
        definition: &role.definition,
        limits: RotatingRole::limits_of_next_key(&role.definition),
        version: role.next_version(),
        manual: matches!(trigger, Trigger::Manual(..)),
        urgency: trigger.urgency(),
        caller_gone,
    };
    let (mut key, in_flight) = match next.mint().await {
        Ok(minted) => minted,
        Err(reason @ (Error::Storage(_) | Error::System(_) | Error::CallerGone)) => {
            return Err(reason);
        }
        Err(reason) => {
            let role = rotation_failed(guard, role, &reason).await?;
            return Ok(Rotation::Failed(role, reason));
        }
    };
    let is_emergency = grace.is_emergency();
    let (mut role, refused) = budget::divide(guard, role, &mut key, is_emergency).await?;
    if let Some(reason) = refused {
        if reject(engine, &key.connection, &key.hash, in_flight).await {
            budget::release(&mut role, &key.hash);
        }
        let role = rotation_failed(guard, role, &reason).await?;
        return Ok(Rotation::Failed(role, reason));
    }
    let role = role.switched_to(key, grace);
    // The switch. Before it, the intent leads to the new key; after it, the entry does. The intent is deleted
    // afterwards, so that at least one of the two is stored at any moment.
    in_flight.is_being_stored(engine.now());
    guard.store(&role).await?;
    tracing::info!(
        mount = engine.mount,
        role = %guard.name(),
        key_version = role.current.version,
        key_hash = %role.current.hash,
        manual = role.current.manual,
        "rotated"
    );
    // The caller waits for both. The role is rotated regardless of their outcome.
    let deleted = delete_intent(engine, &in_flight);
    let reported = events::rotated(engine, guard.name(), &role, trigger.name());
    tokio::join!(deleted, reported);
    Ok(Rotation::Done(role))
}

/// Applies the limits in the definition to the current key. The second result is the reason for a failure,
/// which is also stored with the role and retried.
///
/// # Errors
/// Errors from storage. The key may already have its new limits; applying them again is harmless.
pub async fn apply_limits(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
) -> Result<(RotatingRole, Option<Error>), Error> {
    let engine = guard.engine();
    let limits = role.definition.terms.limits;
    let patched = patch_limits(engine, &role).await;
    let failure = match patched {
        Ok(()) => {
            role.current.limits = limits;
            role.current.limits_unproved = false;
            role.limits_failure = None;
            None
        }
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) => {
            role.limits_failure = Some(failure(engine, role.limits_failure.as_ref(), &reason));
            Some(reason)
        }
    };
    guard.store(&role).await?;
    Ok((role, failure))
}

async fn patch_limits(engine: &Engine, role: &RotatingRole) -> Result<(), Error> {
    let key = &role.current;
    let limits = role.definition.terms.limits;
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    let doing = || "the limits of the live key could not be changed".to_owned();
    let turn = link.client(Urgency::Ordinary).await;
    let patched = turn.update_limits(&key.hash, &limits).await;
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

/// Asks OpenRouter again about a current key that was gone or disabled. If the key works, it is handed out
/// again.
///
/// # Errors
/// Errors from storage.
async fn ask_again(guard: &RoleGuard<'_>, mut role: RotatingRole) -> Result<RotatingRole, Error> {
    let engine = guard.engine();
    let now = engine.now();
    let found = match presence(engine, &role.current).await {
        Ok(Presence::There(key)) if key.disabled => Some(MismatchReason::Disabled),
        Ok(Presence::There(_) | Presence::Works) => None,
        Ok(Presence::Gone) => Some(MismatchReason::Gone),
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        // An answer that says nothing is no sign that the key works again.
        Ok(Presence::Unseen) | Err(_) => role.mismatch.map(|mismatch| mismatch.reason),
    };
    let before = role
        .mismatch
        .filter(|mismatch| Some(mismatch.reason) == found);
    role.mismatch = found.map(|reason| Mismatch {
        reason,
        since: before.map_or(now, |mismatch| mismatch.since),
        asked: Some(now),
        at_first: before.is_some_and(|mismatch| mismatch.at_first),
    });
    guard.store(&role).await?;
    if found.is_none() {
        let key = &role.current;
        let restored = (Drift::CurrentKeyRestored, &key.hash);
        let message =
            "the current key works again at OpenRouter; it is handed out again".to_owned();
        events::drift(engine, guard.name(), &key.connection, restored, message).await;
    }
    Ok(role)
}

async fn rotation_failed(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    reason: &Error,
) -> Result<RotatingRole, Error> {
    let engine = guard.engine();
    let failure = failure(engine, role.rotation_failure.as_ref(), reason);
    tracing::warn!(
        mount = engine.mount,
        role = %guard.name(),
        attempts = failure.attempts,
        retry_at = %failure.retry_at,
        %reason,
        "a rotation failed; the current key remains in service"
    );
    role.last_attempt = failure.at;
    role.rotation_failure = Some(failure);
    guard.store(&role).await?;
    events::rotation_failed(engine, guard.name(), &role, reason).await;
    Ok(role)
}

pub(super) fn failure(engine: &Engine, previous: Option<&Failure>, reason: &Error) -> Failure {
    failed(previous, reason, engine.now(), &*engine.randomness)
}
