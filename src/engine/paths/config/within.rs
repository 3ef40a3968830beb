//! Checks that the roles that use a connection are within its new bounds.

use jiff::Timestamp;

use crate::engine::clock::seconds_until;
use crate::engine::connection::Bounds;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::Role;
use crate::logical::StorageError;

/// Rejects [tightened](Bounds::tightened) bounds that a role using the connection exceeds, by its definition
/// or by its current key. Superseded keys and keys under leases are not affected. No role can be stored at
/// the same time, since that needs the connection's lock: see
/// [`RoleGuard::within_bounds`](crate::engine::context::RoleGuard::within_bounds).
pub(super) async fn require_roles(
    engine: &Engine,
    connection: &ConnectionName,
    bounds: &Bounds,
) -> Result<Option<String>, Error> {
    let (now, mut beyond, mut unreadable) = (engine.now(), Vec::new(), Vec::new());
    for name in Role::names(&*engine.storage).await? {
        let role = match Role::load(&*engine.storage, &name).await {
            Ok(role) => role,
            Err(Error::Storage(StorageError::Malformed { .. })) => {
                unreadable.push(name.to_string());
                continue;
            }
            Err(reason) => return Err(reason),
        };
        if let Some(role) = role
            && let Err(reason) = within(&role, connection, &name, bounds, now)
        {
            let reason = if is_being_deleted(&role) {
                format!("it is being deleted, which \"forget-role/{name}\" ends: {reason}")
            } else {
                reason.to_string()
            };
            beyond.push((name.to_string(), reason));
        }
    }
    if !beyond.is_empty() {
        let (names, reasons): (Vec<_>, Vec<_>) = beyond.into_iter().unzip();
        let shown = reasons.get(..MAX_REASONS).unwrap_or(&reasons);
        return Err(Error::Invalid(format!(
            "{} roles that use the connection would be beyond its bounds: {}; change them first ({})",
            names.len(),
            names.join(", "),
            shown.join("; ")
        )));
    }
    Ok((!unreadable.is_empty()).then(|| {
        format!(
            "roles {} are unreadable; they may be beyond the connection's bounds",
            unreadable.join(", ")
        )
    }))
}

/// Checks that a role and its current key, if they use the connection, are within its bounds.
fn within(
    role: &Role,
    connection: &ConnectionName,
    name: &RoleName,
    bounds: &Bounds,
    now: Timestamp,
) -> Result<(), Error> {
    if role.terms().connection == *connection {
        let limit = role.terms().ceiling();
        bounds.check_role(connection, name, limit, role.lifetime(now))?;
    }
    let Role::Rotating(role) = role else {
        return Ok(());
    };
    let key = &role.current;
    if key.connection != *connection {
        return Ok(());
    }
    if key.limits_unproved && bounds.max_limit.is_some() {
        return Err(Error::Invalid(format!(
            "the limit of its current key is not known yet: a change of it is still being applied, see \
             \"roles/{name}\""
        )));
    }
    // A change of the limit may be pending, and a change of the lifetime applies to the next key.
    let lives = key.expires_at.map(|end| seconds_until(key.since, end));
    bounds
        .check_role(connection, name, key.limits.limit, lives)
        .map_err(|reason| match role.deletion {
            None => Error::Invalid(format!(
                "its current key is beyond them, which \"rotate-role/{name}\" replaces: {reason}"
            )),
            Some(_) => reason,
        })
}

/// Whether the role's deletion has begun: then it can be neither changed nor rotated.
fn is_being_deleted(role: &Role) -> bool {
    matches!(role, Role::Rotating(role) if role.deletion.is_some())
}

/// Adds advice for a connection that was forgotten and is written again: its roles cannot be changed without
/// it.
pub(super) fn with_advice(reason: Error, is_new: bool) -> Error {
    match reason {
        Error::Invalid(reason) if is_new => Error::Invalid(format!(
            "{reason}; write the connection without bounds before, since roles cannot be changed without \
             it"
        )),
        other => other,
    }
}

/// How many roles that exceed a connection's bounds are explained in one error.
const MAX_REASONS: usize = 10;
