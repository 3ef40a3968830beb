//! Writing, showing and deleting a dynamic role. None of these creates or revokes a key.

use schemars::JsonSchema;
use serde::Serialize;

use super::guardrail::{apply_guardrail, resume_guardrail};
use crate::engine::books::Leases;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::keys::pin;
use crate::engine::names::{Life, RoleName};
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::{Terms, TermsView, capped};
use crate::framework::Fields;
use crate::logical::Response;

/// Creates or changes a role. Returns warnings for the user.
///
/// # Errors
/// Invalid input, and errors from storage.
pub async fn write(
    guard: &RoleGuard<'_>,
    before: Option<&DynamicRole>,
    fields: &Fields,
) -> Result<Vec<String>, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let mut role = DynamicRole::apply(name, before, fields)?;
    let old_terms = before.map(|before| &before.terms);
    let looked_up = pin(guard, old_terms, &mut role.terms, fields).await?;
    if before == Some(&role) {
        return try_guardrail_again(guard, role, fields).await;
    }
    if before.is_none() {
        role.life = Life::new(&*engine.randomness);
    }
    let had_budget = old_terms.is_some_and(|terms| terms.budget.is_some());
    match (&role.terms.budget, &mut role.pool) {
        (Some(budget), Some(pool)) if had_budget => pool.rebudget(budget, engine.now()),
        // What leases have spent that ended before there was a budget does not count against it.
        (Some(budget), Some(pool)) => pool.restart(budget, engine.now()),
        (None, pool) if !role.terms.track_usage => *pool = None,
        (Some(_), None) | (None, _) => {}
    }
    // Until the role is stored, so that the connection cannot be deleted in the meantime.
    let _in_use = engine.links.use_for_making(&role.terms.connection)?;
    let bounds = guard
        .within_bounds(&role.terms, Some(role.lifetime()))
        .await?;
    let mut warnings = looked_up;
    let longest = capped(role.max_ttl, engine.system.max_lease_ttl().await?);
    if longest < role.max_ttl {
        warnings.push(format!(
            "max_ttl of {} seconds is more than the mount's maximum lease duration, so leases end \
             after {longest} seconds",
            role.max_ttl
        ));
    }
    if role.terms.limits.limit.is_some()
        && role.terms.budget.is_none()
        && before.is_none_or(|b| b.terms.limits != role.terms.limits)
    {
        warnings.push(LIMIT_IS_PER_LEASE.to_owned());
    }
    let leases = engine.books().await?.leases;
    let unbudgeted = leases.without_grant(name);
    if role.terms.budget.is_some()
        && before.is_some_and(|b| b.terms.budget.is_none())
        && unbudgeted > 0
    {
        warnings.push(format!(
            "{unbudgeted} leases were made without a budget, so what they may spend is unknown; no \
             new lease can be issued until they end"
        ));
    }
    let asks_for_guardrail =
        old_terms.and_then(|b| b.guardrail_id.as_ref()) != role.terms.guardrail_id.as_ref();
    if asks_for_guardrail {
        // A failure of the old guardrail says nothing about the new one.
        role.guardrail_failure = None;
    }
    if role.terms.guardrail_id.is_some() {
        leases.expect_guardrail(name, &role.terms);
    }
    let loses_guardrail = asks_for_guardrail && role.terms.guardrail_id.is_none();
    if let Some(before) = before
        && (before.terms.place() != role.terms.place() || loses_guardrail)
    {
        leases.detach(&*engine.storage, name, before).await?;
    }
    // Stored together with the new guardrail, before any key is assigned. If the outcome of an assignment
    // remains unclear, no later write trusts the guardrails in the keys' records. That includes the keys that
    // have the new guardrail by their records: they were compared before this write, not after it.
    role.guardrails_unproved |= asks_for_guardrail;
    role.guardrails_unproved &= !leases.unguarded(name, &role).is_empty();
    let stored = guard.store_dynamic(&role).await;
    if stored.is_ok() || role.pool.is_some() {
        // A store that failed may have been committed. The new pool counts no less than the one before.
        leases.note_pool(name, role.pool.as_ref());
    }
    stored?;
    drop(bounds);
    let only_guardrail = |before: &DynamicRole| {
        let same = Terms {
            guardrail: role.terms.guardrail.clone(),
            guardrail_id: role.terms.guardrail_id.clone(),
            ..before.terms.clone()
        };
        same == role.terms && !leases.unguarded(name, &role).is_empty()
    };
    let waits = before.is_some_and(|b| {
        let of_keys = |terms: &Terms| Terms {
            budget_alert_percent: None,
            track_usage: false,
            ..terms.clone()
        };
        of_keys(&b.terms) != of_keys(&role.terms) && !only_guardrail(b)
    });
    let living = leases.of_role(name);
    if waits && living > 0 {
        warnings.push(format!(
            "{living} keys under leases keep their terms; the change takes effect with the next \
             lease"
        ));
    }
    if let Some(before) = before
        && asks_for_guardrail
        && !leases.unguarded(name, &role).is_empty()
    {
        let (role, failure) = apply_guardrail(guard, role).await?;
        match failure {
            None => {}
            Some(reason) if reason.is_definite() && lacks_its_guardrail(&leases, name, &role) => {
                return Err(take_back(guard, &leases, before, reason).await);
            }
            Some(reason) => warnings.push(unguarded(&reason)),
        }
    }
    Ok(warnings)
}

/// Whether a key in the role's current place does not have the role's own guardrail.
fn lacks_its_guardrail(leases: &Leases, name: &RoleName, role: &DynamicRole) -> bool {
    let unguarded = leases.unguarded(name, role);
    unguarded
        .iter()
        .any(|(record, _)| record.lacks_guardrail_of(&role.terms).is_some())
}

/// Writing a guardrail again that is still to be applied retries it now.
async fn try_guardrail_again(
    guard: &RoleGuard<'_>,
    role: DynamicRole,
    fields: &Fields,
) -> Result<Vec<String>, Error> {
    let engine = guard.engine();
    if !fields.has("guardrail") || role.terms.guardrail_id.is_none() {
        return Ok(Vec::new());
    }
    let leases = engine.books().await?.leases;
    if leases.unguarded(guard.name(), &role).is_empty() {
        return Ok(Vec::new());
    }
    let _in_use = engine.links.use_for_making(&role.terms.connection)?;
    let (_, failure) = resume_guardrail(guard, role).await?;
    Ok(Vec::from_iter(failure.as_ref().map(unguarded)))
}

/// The warning for a guardrail change that is stored but not applied yet.
fn unguarded(reason: &Error) -> String {
    format!("the role is changed, but {reason}; the engine retries until the outcome is clear")
}

/// Restores the role's definition before a change that was rejected, and returns the rejection. If the
/// connection's bounds no longer allow the old definition, the new one stays.
async fn take_back(
    guard: &RoleGuard<'_>,
    leases: &Leases,
    before: &DynamicRole,
    refusal: Error,
) -> Error {
    let lifetime = Some(before.lifetime());
    let _bounds = match guard.within_bounds(&before.terms, lifetime).await {
        Ok(held) => held,
        Err(reason) => return refusal.that_stays(reason),
    };
    match guard.store_dynamic(before).await {
        Ok(()) => {
            leases.note_pool(guard.name(), before.pool.as_ref());
            refusal
        }
        Err(reason) => reason,
    }
}

/// The response to a read of the role, and its warnings.
pub fn status<'a>(
    engine: &Engine,
    name: &RoleName,
    role: &'a DynamicRole,
) -> (View<'a>, Vec<String>) {
    let books = &engine.books_if_open();
    let view = View {
        terms: role.terms.view(),
        credential_type: "dynamic",
        ttl: role.ttl,
        max_ttl: role.max_ttl,
        max_leases: role.max_leases,
        living_leases: books.as_ref().map(|books| books.leases.of_role(name)),
    };
    let pending = || {
        let unguarded = books.as_ref()?.leases.unguarded(name, role);
        (!unguarded.is_empty()).then_some("the change is in progress")
    };
    let failure = role.guardrail_failure.as_ref();
    let reason = failure.map(|failure| failure.message.as_str());
    let problems = reason
        .or_else(pending)
        .map(|reason| format!("keys under leases do not have the role's guardrail yet: {reason}"));
    let alert = role.watch().and_then(|watch| watch.in_words(engine.now()));
    (view, problems.into_iter().chain(alert).collect())
}

/// The response to a read of the role.
#[derive(Serialize, JsonSchema)]
pub struct View<'a> {
    #[serde(flatten)]
    terms: TermsView<'a>,
    /// `dynamic`.
    credential_type: &'static str,
    /// The duration of a lease, in seconds.
    ttl: u64,
    /// The maximum duration of a lease with renewals, in seconds.
    max_ttl: u64,
    /// The highest number of leases at a time; null if unlimited.
    max_leases: Option<u32>,
    /// The number of living leases. Null on a node that only serves reads.
    living_leases: Option<usize>,
}

/// Deletes the role. Its leases stay: each can still be revoked, and ends at its time.
///
/// # Errors
/// Errors from storage.
pub async fn delete(guard: &RoleGuard<'_>, role: &DynamicRole) -> Result<Option<Response>, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let leases = engine.books().await?.leases;
    leases.detach(&*engine.storage, name, role).await?;
    let unguarded = leases.unguarded(name, role).len();
    guard.forget().await?;
    leases.note_pool(name, None);
    let living = leases.of_role(name);
    let alive = (living > 0).then(|| {
        format!(
            "{living} leases of the role are alive; they can no longer be renewed but can be \
             revoked, and their keys are deleted when they end"
        )
    });
    let unguarded = (unguarded > 0).then(|| {
        format!(
            "{unguarded} of their keys did not have the role's last guardrail yet and will not get \
             it; revoke their leases if they must not be used without it"
        )
    });
    let warnings: Vec<String> = alive.into_iter().chain(unguarded).collect();
    Ok((!warnings.is_empty()).then(|| Response::default().with_warnings(warnings)))
}

const LIMIT_IS_PER_LEASE: &str = "\
    limit is a limit of each key: every lease begins with the full amount; max_leases limits how \
    many there are at a time";
