//! Revokes every key of a role while its mount is torn down. The role stays.
//!
//! # Expected flow
//! 1. It is stored that the role is torn down: no node hands out its key any more, and every superseded key
//!    is due. That write also proves that this node may still write the role's entry.
//! 2. Every key is revoked, the current one last. With a budget each is disabled and read just before,
//!    without waiting for its requests in flight.
//! 3. The result is stored. If the process dies before that, revoking the keys again is harmless.
//!
//! If the teardown is cancelled, the role's entry determines what happens next: see
//! [`rotation_due`](crate::engine::role::rotating::rotation_due).

use super::budget;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, retire};
use crate::engine::role::rotating::{Mismatch, MismatchReason, RotatingRole};
use crate::openrouter::KeyHash;

/// Whether OpenRouter has confirmed that every key of the role is gone.
fn is_torn_down(role: &RotatingRole) -> bool {
    let gone = |mismatch: Mismatch| {
        mismatch.reason == MismatchReason::TornDown && mismatch.asked.is_some()
    };
    role.superseded.is_empty() && role.mismatch.is_some_and(gone)
}

/// Revokes every key of the role, trying each once. Returns those that may still work, with the reasons.
///
/// # Errors
/// Errors from storage. The caller retries.
pub async fn tear_down(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
) -> Result<Vec<(KeyHash, Error)>, Error> {
    if is_torn_down(&role) {
        return Ok(Vec::new());
    }
    let engine = guard.engine();
    let now = engine.now();
    for key in &mut role.superseded {
        key.revoke_at = key.revoke_at.min(now);
        key.failure = None;
    }
    let before = role
        .mismatch
        .filter(|mismatch| mismatch.reason == MismatchReason::TornDown);
    let mut mismatch = before.unwrap_or(Mismatch::concluded(MismatchReason::TornDown, now));
    role.mismatch = Some(mismatch);
    guard.store(&role).await?;
    let mut left = Vec::new();
    let keys: Vec<_> = role
        .keys()
        .map(|(hash, connection)| (hash.clone(), connection.clone()))
        .collect();
    for (hash, connection) in keys {
        let warrant = || Warrant::OfRole(guard, Urgency::Revocation);
        let reading = budget::read_at_once(guard, &role, &hash, warrant).await?;
        match retire(engine, &connection, &hash, warrant()).await {
            Ok(_) => {
                role.count_ended(&hash, reading, engine.now());
                if hash == role.current.hash {
                    mismatch.asked = Some(engine.now());
                } else {
                    role.superseded.retain(|key| key.hash != hash);
                }
            }
            Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
            Err(reason) => left.push((hash, reason)),
        }
    }
    role.mismatch = Some(mismatch);
    guard.store(&role).await?;
    if left.is_empty() {
        tracing::warn!(
            mount = engine.mount,
            role = %guard.name(),
            "revoked every key of a role, since the mount is torn down"
        );
    }
    Ok(left)
}
