//! A rotation that a person requests, of one role or of all.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::perform::{Rotation, Trigger, rotate};
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::rotating::{Grace, MAX_SUPERSEDED, RotatingRole, RotationPolicy};

/// Replaces the current key, which keeps working for `asked_grace` seconds: 0 is an emergency, `None` is the
/// role's own grace period. In an emergency every other key that was ordered before `older_than` becomes due as
/// well. The caller revokes them.
///
/// # Errors
/// [`Error::Invalid`] for a grace period that is too short; [`Error::Conflict`] for a role that is being
/// deleted or has too many superseded keys; errors from OpenRouter, which are stored with the role; errors
/// from storage.
pub async fn rotate_manually(
    guard: &RoleGuard<'_>,
    role: RotatingRole,
    asked_grace: Option<u64>,
    older_than: Timestamp,
    caller_gone: &CancellationToken,
) -> Result<RotatingRole, Error> {
    let grace = grace(&role.definition.rotation, asked_grace, older_than)?;
    permit(guard.name(), &role, grace)?;
    match rotate(guard, role, Trigger::Manual(grace, caller_gone)).await? {
        Rotation::Done(role) => Ok(role),
        Rotation::Failed(_, reason) => Err(reason),
    }
}

fn grace(
    policy: &RotationPolicy,
    asked: Option<u64>,
    older_than: Timestamp,
) -> Result<Grace, Error> {
    match asked {
        None => Ok(Grace::Seconds(policy.grace)),
        Some(0) => Ok(Grace::Emergency { before: older_than }),
        Some(seconds) if seconds < policy.shortest_grace() => Err(Error::Invalid(format!(
            "rotation_grace_period must be 0, to revoke the old key at once, or at least {} \
             seconds, since readers hold leases of up to {} seconds",
            policy.shortest_grace(),
            policy.ttl
        ))),
        Some(seconds) => Ok(Grace::Seconds(seconds)),
    }
}

fn permit(name: &RoleName, role: &RotatingRole, grace: Grace) -> Result<(), Error> {
    role.require_lasting(name)?;
    if role.superseded_by_rotation() >= MAX_SUPERSEDED && !grace.is_emergency() {
        return Err(Error::Conflict(format!(
            "role {:?} has {MAX_SUPERSEDED} superseded keys in their grace period; wait for one \
             of them to be revoked, or give rotation_grace_period=0 to revoke them all",
            name.to_string()
        )));
    }
    Ok(())
}
