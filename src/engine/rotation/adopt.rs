//! Adoption: an existing key becomes a role's first key, so that an application can be brought under the
//! engine without a change.
//!
//! Until the role is stored nothing is changed, except that another mount's mark is removed from the key's
//! name, since that mount would delete the key as its own. The write of the role adopts the key. Limits and
//! the guardrail in the request are applied to the key afterwards, as for any change of a role. If the
//! process dies at any point, the key stays alive, and is adopted or not.

use jiff::Timestamp;
use secrecy::SecretString;

use super::budget::follow_all;
use super::candidate::{
    guardrail_of, prove, remove_mark, require_free, require_short_lived, workspace_of,
};
use super::guardrail::apply_guardrail;
use super::perform::apply_limits;
use super::write::{GUARDRAIL_STAYS, by_expiry, of_creation, within_bounds};
use crate::engine::connection::Link;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::keys::pin;
use crate::engine::names::{Life, RoleName};
use crate::engine::role::budget::{Ledger, Tally};
use crate::engine::role::rotating::{CurrentKey, Definition, RotatingRole, apply, rotation_due};
use crate::engine::role::{Terms, budget};
use crate::framework::Fields;
use crate::openrouter::{GuardrailId, Key, KeyHash, WorkspaceId};
use crate::schedule::Due;

/// Creates a role whose first key is the one in the request. Returns warnings for the user.
///
/// # Errors
/// Invalid input, rejections by OpenRouter, and errors from storage; [`Error::Incomplete`] for a key that is
/// not adopted and has another guardrail now. Otherwise the key is unchanged, except that another mount's
/// mark that was removed stays removed. After an error from storage the key may be adopted.
pub async fn adopt(
    guard: &RoleGuard<'_>,
    fields: &Fields,
    secret: &SecretString,
) -> Result<Vec<String>, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let asked = apply(name, None, fields)?;
    let connection = asked.terms.connection.clone();
    // Until the role is stored, so that the connection cannot be deleted in the meantime.
    let _in_use = engine.links.use_for_making(&connection)?;
    let link = engine.links.open(&*engine.storage, &connection).await?;
    // Before the connection's management key is used.
    link.bounds().check_name(&connection, name)?;
    let hash = KeyHash::of(secret);
    // No other role may adopt the key, and no one may delete it, in the meantime.
    let _alone = engine.adoptions.lock(&hash).await;
    let now = engine.now();
    if let Some(certain_at) = engine.adoptions.unsure_for_another(&hash, name, now) {
        return Err(Error::Conflict(format!(
            "it is not certain before {certain_at} whether another role has adopted api_key; try again then"
        )));
    }
    let (label, mut key) = prove(&link, &connection, secret, &hash, now).await?;
    let force = fields.switch("force").unwrap_or(false);
    let foreign = require_free(engine, &key, force).await?;
    let guardrail = guardrail_of(&link, &hash).await?;
    let mut definition = Definition {
        terms: terms(name, &asked.terms, &key, guardrail.as_ref(), fields)?,
        ..asked
    };
    definition.check(now)?;
    let unclear = pin(guard, None, &mut definition.terms, fields).await?;
    let workspace_id = workspace_of(&link, &key, &definition.terms).await?;
    let bounds = within_bounds(guard, &definition).await?;
    let longest = engine.links.open(&*engine.storage, &connection).await?;
    require_short_lived(longest.bounds().max_key_lifetime, &connection, &key, now)?;
    engine.require_in_service()?;
    if let Some(nonce) = &foreign {
        key = remove_mark(&link, &key, nonce).await?;
    }
    let own = OwnKey {
        secret,
        label,
        key: &key,
        workspace_id,
        guardrail,
    };
    // Recorded before the check, so that a teardown either prevents this or waits for it; and before the key
    // counts as the role's, so that an emergency either waits for it or finds it newer.
    let adoptions = &engine.adoptions;
    adoptions.store_begins(&hash, name, &connection, engine.now());
    let role = adopted(engine, definition, &link, own);
    let mut warnings = vec![other_holders_warning(name)];
    warnings.extend(of_creation(&role.definition));
    warnings.extend(unclear);
    warnings.extend(next_key_only(&role));
    warnings.extend(expiry(&role, now));
    if let Err(reason) = engine.require_in_service() {
        engine.adoptions.succeeded(&hash);
        return Err(reason);
    }
    guard.store(&role).await?;
    engine.adoptions.succeeded(&hash);
    drop(bounds);
    if let Err(reason) = engine.require_in_service() {
        // A teardown that began in the meantime waits for this. The key belongs to the user.
        guard.forget().await?;
        return Err(reason);
    }
    tracing::info!(mount = engine.mount, role = %name, key_hash = %hash, "adopted a key");
    apply_terms(guard, role, &key, &mut warnings).await?;
    Ok(warnings)
}

/// Applies the limits and the guardrail in the request that the key does not have. If OpenRouter rejects
/// that, nothing is adopted.
async fn apply_terms(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    key: &Key,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let (mut failures, mut assigned) = (Vec::new(), None);
    if !role.unguarded_keys().is_empty() {
        let failure;
        (role, failure) = apply_guardrail(guard, role).await?;
        if failure.is_none() {
            assigned.clone_from(&role.current.guardrail_id);
        }
        failures.extend(failure);
    }
    let is_as_asked = key.limits.agree_with(&role.definition.terms.limits);
    if failures.is_empty() && role.definition.terms.budget.is_some() {
        failures.extend(follow_all(guard, role).await?.1);
    } else if failures.is_empty() && !is_as_asked {
        failures.extend(apply_limits(guard, role).await?.1);
    }
    for reason in failures {
        if reason.is_definite() {
            guard.forget().await?;
            return Err(match assigned {
                None => reason,
                Some(guardrail) => Error::Incomplete(format!(
                    "{reason}; the key is not adopted, but it is now assigned to guardrail {guardrail}"
                )),
            });
        }
        warnings.push(format!(
            "the key is adopted, but {reason}; the engine retries until the outcome is clear"
        ));
    }
    Ok(())
}

/// Rejects a key that the role does not have: an update can only repeat the role's own `api_key`.
///
/// # Errors
/// [`Error::Invalid`].
pub(super) fn require_own(role: &RotatingRole, secret: &SecretString) -> Result<(), Error> {
    let hash = KeyHash::of(secret);
    if role.has_key(&hash) || role.adopted.as_ref() == Some(&hash) {
        return Ok(());
    }
    Err(Error::invalid(
        "api_key is adopted only when a role is created; this role has other keys. To hand this key \
         out, write another role",
    ))
}

/// The terms in the request; those that are missing are taken from the key.
fn terms(
    name: &RoleName,
    asked: &Terms,
    key: &Key,
    guardrail: Option<&GuardrailId>,
    fields: &Fields,
) -> Result<Terms, Error> {
    let names_limits = asked.budget.is_some()
        || (fields.has("limit") && (fields.has("limit_reset") || key.limits.reset.is_none()));
    let limits = match key.limits.as_asked() {
        Some(limits) => limits,
        None if names_limits => asked.limits,
        None => {
            return Err(Error::Invalid(format!(
                "the key has {}, which a role cannot ask for; give limit and limit_reset",
                key.limits
            )));
        }
    };
    let of_key = Terms {
        limits,
        workspace_id: key.workspace_id.clone(),
        // Its id is pinned as if it was written.
        guardrail: guardrail.map(ToString::to_string),
        ..asked.clone()
    };
    let mut terms = Terms::apply(name, Some(&of_key), fields)?;
    budget::exclude_limit(&mut terms, fields)?;
    Ok(terms)
}

/// The key, as OpenRouter shows it.
struct OwnKey<'a> {
    secret: &'a SecretString,
    label: String,
    key: &'a Key,
    workspace_id: Option<WorkspaceId>,
    guardrail: Option<GuardrailId>,
}

fn adopted(engine: &Engine, definition: Definition, link: &Link, own: OwnKey<'_>) -> RotatingRole {
    let OwnKey {
        secret,
        label,
        key,
        workspace_id,
        guardrail,
    } = own;
    let since = engine.now();
    let current = CurrentKey {
        secret: secret.clone(),
        hash: key.hash.clone(),
        label,
        name: key.shown_name(),
        version: 1,
        connection: definition.terms.connection.clone(),
        workspace_id,
        address: link.address().id().clone(),
        since,
        ordered: None,
        anchor: since,
        manual: true,
        expires_at: key.expires_at,
        limits: key.limits.as_asked().unwrap_or(definition.terms.limits),
        limits_unproved: key.limits.as_asked().is_none(),
        guardrail_id: guardrail,
        guardrail_unproved: false,
        promised_until: None,
        counted: false,
    };
    // The key's current limit may exceed the budget. Its spending in the window counts.
    let ledger = definition
        .terms
        .budget()
        .map(|(budget, counting)| Ledger::of_keys(&budget, counting, [key.hash.clone()], since));
    RotatingRole {
        adopted: Some(key.hash.clone()),
        tally: definition
            .terms
            .counts_ended_keys()
            .then(|| Tally::begun(since)),
        ledger,
        ..RotatingRole::new(definition, Life::new(&*engine.randomness), current)
    }
}

fn other_holders_warning(name: &RoleName) -> String {
    format!(
        "the key is adopted as it is, and whoever had it before still has it; once every application \
         reads it from creds/{name}, write to rotate-role/{name} to replace it"
    )
}

/// The warning about terms that take effect with the next key. The engine does not move a living key to another
/// workspace, whose guardrail therefore has to wait too, and never removes a key from a guardrail.
fn next_key_only(role: &RotatingRole) -> Option<String> {
    let (terms, has) = (&role.definition.terms, &role.current.guardrail_id);
    if terms.place() == role.place_of_current() {
        return (has.is_some() && terms.guardrail_id.is_none()).then(|| GUARDRAIL_STAYS.to_owned());
    }
    let mut fields = "workspace".to_owned();
    if terms.guardrail_id != *has {
        fields.push_str(", guardrail");
    }
    let guardrail = has.as_ref().map_or("none".to_owned(), ToString::to_string);
    Some(format!(
        "{fields} cannot be changed on the live key; what was written takes effect at the next \
         rotation, and until then the key is handed out as it is (guardrail: {guardrail})"
    ))
}

/// OpenRouter cannot change when the key expires.
fn expiry(role: &RotatingRole, now: Timestamp) -> Option<String> {
    if let Due::Now { .. } = rotation_due(role, now) {
        let expiry = role.current.expires_at?;
        return Some(format!(
            "the key expires at {expiry}, before a whole grace period is over, so it is replaced at \
             once"
        ));
    }
    by_expiry(role, now)
}
