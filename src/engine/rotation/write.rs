//! Creates and changes a rotating role.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::adopt::require_own;
use super::budget::follow_all;
use super::guardrail::{apply_guardrail, resume_guardrail};
use super::next_key::NextKey;
use super::perform::apply_limits;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{delete_intent, pin};
use crate::engine::names::Life;
use crate::engine::role::budget::{Ledger, Tally};
use crate::engine::role::rotating::{Definition, KeyLifetime, RotatingRole, apply, rotation_due};
use crate::framework::{Fields, Held};
use crate::schedule::Due;

/// Makes the role's first key, and then the role. If the key fails, there is no role. Returns warnings for
/// the user.
///
/// # Errors
/// Invalid input, rejections by OpenRouter, errors from storage; [`Error::CallerGone`].
pub async fn create(
    guard: &RoleGuard<'_>,
    fields: &Fields,
    caller_gone: &CancellationToken,
) -> Result<Vec<String>, Error> {
    let engine = guard.engine();
    let mut definition = apply(guard.name(), None, fields)?;
    definition.check(engine.now())?;
    let looked_up = pin(guard, None, &mut definition.terms, fields).await?;
    drop(within_bounds(guard, &definition).await?);
    let life = Life::new(&*engine.randomness);
    let first = NextKey {
        guard,
        life: &life,
        definition: &definition,
        limits: RotatingRole::limits_of_first_key(&definition),
        version: 1,
        manual: true,
        urgency: Urgency::Ordinary,
        caller_gone,
    };
    let (key, in_flight) = first.mint().await?;
    let mut warnings = of_creation(&definition);
    let ledger = definition
        .terms
        .budget()
        .map(|(budget, counting)| Ledger::begun(&budget, counting, key.hash.clone(), engine.now()));
    warnings.extend(looked_up);
    let role = RotatingRole {
        tally: definition
            .terms
            .counts_ended_keys()
            .then(|| Tally::begun(engine.now())),
        ledger,
        ..RotatingRole::new(definition, life, key)
    };
    // The bounds may have been tightened in the meantime.
    let _bounds = within_bounds(guard, &role.definition).await?;
    // If this fails, the intent is adrift and leads to the key, whether or not the role was stored.
    in_flight.is_being_stored(engine.now());
    guard.store(&role).await?;
    delete_intent(engine, &in_flight).await;
    Ok(warnings)
}

/// Applies the fields in the request. Returns warnings for the user.
///
/// # Errors
/// Invalid input, rejections by OpenRouter, errors from storage.
pub async fn update(
    guard: &RoleGuard<'_>,
    before: RotatingRole,
    fields: &Fields,
) -> Result<Vec<String>, Error> {
    let engine = guard.engine();
    before.require_lasting(guard.name())?;
    if let Some(secret) = fields.secret("api_key") {
        require_own(&before, secret)?;
    }
    let now = engine.now();
    let mut definition = apply(guard.name(), Some(&before.definition), fields)?;
    definition.check(now)?;
    let old_terms = &before.definition.terms;
    let looked_up = pin(guard, Some(old_terms), &mut definition.terms, fields).await?;
    if definition == before.definition {
        return try_guardrail_again(guard, before, fields).await;
    }
    let connection = &definition.terms.connection;
    let _in_use = engine.links.use_for_making(connection)?;
    let bounds = within_bounds(guard, &definition).await?;
    let asks_for_guardrail = definition.terms.guardrail_id != old_terms.guardrail_id;
    let asks_for_limits = definition.terms.limits != before.definition.terms.limits;
    let role = before.clone().redefined(definition, now);
    let mut warnings = of_update(&before, &role, now);
    warnings.extend(looked_up);
    // The change is stored before a living key is changed. If the process dies in between, the keys get their
    // guardrail and limits later.
    guard.store(&role).await?;
    drop(bounds);
    let mut role = role;
    if asks_for_guardrail && !role.unguarded_keys().is_empty() {
        let failure;
        (role, failure) = apply_guardrail(guard, role).await?;
        match failure {
            None => {}
            Some(reason) if reason.is_definite() && role.lacks_its_guardrail() => {
                role.restore_proofs(&before);
                return Err(take_back(guard, role, before, reason).await);
            }
            Some(reason) => warnings.push(unguarded(&role, &reason)),
        }
    }
    // Limits of an earlier write that are still pending are handled by the keeper. Their failure does not
    // fail this write.
    let (role, failure) = follow_all(guard, role).await?;
    warnings.extend(failure.map(|reason| tried_again(&reason)));
    if (asks_for_limits || before.definition.terms.budget.is_some()) && role.lacks_its_limits() {
        let (role, failure) = apply_limits(guard, role).await?;
        match failure {
            None => {}
            Some(reason) if reason.is_definite() => {
                return Err(take_back(guard, role, before, reason).await);
            }
            Some(reason) => warnings.push(tried_again(&reason)),
        }
    }
    Ok(warnings)
}

/// Writing a guardrail again that is still to be applied retries it now.
async fn try_guardrail_again(
    guard: &RoleGuard<'_>,
    role: RotatingRole,
    fields: &Fields,
) -> Result<Vec<String>, Error> {
    if !fields.has("guardrail") || role.unguarded_keys().is_empty() {
        return Ok(Vec::new());
    }
    let _in_use = guard
        .engine()
        .links
        .use_for_making(&role.definition.terms.connection)?;
    let (role, failure) = resume_guardrail(guard, role).await?;
    Ok(Vec::from_iter(
        failure.map(|reason| unguarded(&role, &reason)),
    ))
}

/// The warning for a change that is stored but not applied yet.
fn tried_again(reason: &Error) -> String {
    format!("the role is changed, but {reason}; the engine retries until the outcome is clear")
}

/// The warning for a guardrail change that is stored but not applied yet.
fn unguarded(role: &RotatingRole, reason: &Error) -> String {
    let unusable = if role.is_guarded() {
        ""
    } else {
        ", and the current key is not handed out until then"
    };
    format!("{}{unusable}", tried_again(reason))
}

/// Restores the role's definition before a change that was rejected, and returns the rejection. Readers may
/// have got the key on the new terms in the meantime: their promises are kept.
///
/// In the meantime the connection's bounds may have been tightened, so that they no longer allow the old
/// definition. Then the new one stays, and the error says so.
async fn take_back(
    guard: &RoleGuard<'_>,
    role: RotatingRole,
    before: RotatingRole,
    refusal: Error,
) -> Error {
    let _bounds = match within_bounds(guard, &before.definition).await {
        Ok(held) => held,
        Err(reason) => return refusal.that_stays(reason),
    };
    let mut role = role.redefined(before.definition, guard.engine().now());
    // The keys were not changed, so their grants are as before.
    role.ledger = before.ledger;
    role.tally = before.tally;
    role.alert = before.alert;
    for key in &mut role.superseded {
        if let Some(old) = before.superseded.iter().find(|old| old.hash == key.hash) {
            key.counted = old.counted;
            key.disabled_to_end = old.disabled_to_end;
        }
    }
    role.current.counted = before.current.counted;
    role.current.limits_unproved = before.current.limits_unproved;
    role.limits_failure = before.limits_failure;
    role.guardrail_failure = before.guardrail_failure;
    role.rotation_failure = before.rotation_failure;
    role.current.anchor = before.current.anchor;
    match guard.store(&role).await {
        Ok(()) => refusal,
        Err(reason) => reason,
    }
}

pub(super) fn of_creation(definition: &Definition) -> Vec<String> {
    let mut warnings = Vec::new();
    if definition.terms.limits.limit.is_some() {
        warnings.push(LIMIT_IS_PER_KEY.to_owned());
    }
    warnings.extend(short_lived(definition));
    warnings
}

fn of_update(before: &RotatingRole, after: &RotatingRole, now: Timestamp) -> Vec<String> {
    let (old, new) = (&before.definition, &after.definition);
    let waits: Vec<&str> = [
        ("key_name", old.terms.key_name != new.terms.key_name),
        (
            "workspace",
            old.terms.workspace_id != new.terms.workspace_id,
        ),
        ("connection", old.terms.connection != new.terms.connection),
        (
            "creator_user_id",
            old.terms.creator_user_id != new.terms.creator_user_id,
        ),
        (
            "guardrail",
            old.terms.guardrail_id != new.terms.guardrail_id
                && new.terms.guardrail_id.is_some()
                && after.place_of_current() != new.terms.place(),
        ),
        (
            "key_max_lifetime",
            old.rotation.lifetime(now) != new.rotation.lifetime(now),
        ),
    ]
    .into_iter()
    .filter_map(|(field, changed)| changed.then_some(field))
    .collect();
    let mut warnings = Vec::new();
    if !waits.is_empty() {
        warnings.push(format!(
            "{} cannot be changed on the live key; the change takes effect at the next rotation",
            waits.join(", ")
        ));
    }
    if old.terms.guardrail_id.is_some() && new.terms.guardrail_id.is_none() {
        warnings.push(GUARDRAIL_STAYS.to_owned());
    }
    if old.terms.limits.limit != new.terms.limits.limit && new.terms.limits.limit.is_some() {
        warnings.push(LIMIT_IS_PER_KEY.to_owned());
    }
    if old.terms.limits.limit.is_some() && new.terms.budget.is_some() {
        warnings
            .push("limit and limit_reset are cleared, since budget takes their place".to_owned());
    } else if old.terms.limits.reset.is_some() && new.terms.limits.limit.is_none() {
        warnings.push("limit_reset is cleared together with limit".to_owned());
    }
    if old.terms.budget.is_some() && new.terms.budget.is_none() && new.terms.limits.limit.is_some()
    {
        warnings
            .push("budget and budget_reset are cleared, since limit takes their place".to_owned());
    }
    warnings.extend(by_expiry(after, now));
    warnings.extend(short_lived(new));
    warnings
}

/// The warning if the current key's expiry, which cannot be changed, brings its rotation forward.
pub(super) fn by_expiry(role: &RotatingRole, now: Timestamp) -> Option<String> {
    let planned = role
        .definition
        .rotation
        .schedule
        .due(role.current.anchor, now);
    let (Due::At(planned), Due::At(due)) = (planned, rotation_due(role, now)) else {
        return None;
    };
    (due < planned).then(|| {
        format!(
            "the current key expires at {}, so it is rotated at {due}, earlier than the schedule \
             says",
            role.current.expires_at.unwrap_or(due)
        )
    })
}

fn short_lived(definition: &Definition) -> Option<String> {
    let policy = &definition.rotation;
    (!policy.automated && matches!(policy.key_lifetime, KeyLifetime::Seconds(_))).then(|| {
        "rotation is not automated, but key_max_lifetime is set: readers are left without a key \
         unless rotate-role is called before the key expires"
            .to_owned()
    })
}

pub(super) async fn within_bounds(
    guard: &RoleGuard<'_>,
    definition: &Definition,
) -> Result<Held, Error> {
    let lifetime = definition.rotation.lifetime(guard.engine().now());
    guard.within_bounds(&definition.terms, lifetime).await
}

pub(super) const GUARDRAIL_STAYS: &str = "\
    living keys keep their guardrail; the next key is made without one";
const LIMIT_IS_PER_KEY: &str = "\
    limit is a limit of each key: a rotation starts a new key with the full amount, while the \
    superseded one can still spend what it has left until its grace period is over";
