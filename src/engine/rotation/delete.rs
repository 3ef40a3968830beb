//! Deletes a rotating role: first its keys, then the role.
//!
//! # Expected flow
//! 1. The deletion is stored. From now on the key is no longer handed out.
//! 2. Every key is revoked, the current one last.
//! 3. The role's entry is removed.
//!
//! # If OpenRouter fails
//! While the current key is certainly alive, the deletion is cancelled and the role stays as it was. If it is
//! unclear whether the key still works, or the process dies, the deletion stays stored, and the keeper
//! continues until OpenRouter has confirmed it.

use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, retire};
use crate::engine::role::rotating::{Deletion, RotatingRole, failed};

/// Deletes a role.
///
/// # Errors
/// [`Error::Incomplete`] if a key could not be revoked; errors from storage.
pub async fn delete(guard: &RoleGuard<'_>, mut role: RotatingRole) -> Result<(), Error> {
    let begun_before = role.deletion.is_some();
    begin_deletion(guard, &mut role).await?;
    let name = guard.name().to_string();
    match revoke_keys(guard, &mut role).await {
        Ok(()) => guard.forget().await,
        Err(Stopped::CurrentLives(reason)) if !begun_before => {
            role.deletion = None;
            guard.store(&role).await?;
            Err(Error::Incomplete(format!(
                "role {name:?} stays as it was: {reason}; \"forget-role/{name}\" forgets it and \
                 leaves its keys behind"
            )))
        }
        Err(Stopped::CurrentLives(reason) | Stopped::Unclear(reason)) => {
            not_yet(guard, role, &reason).await?;
            Err(Error::Incomplete(format!(
                "role {name:?} no longer hands out its key; its deletion has not finished and \
                 continues in the background: {reason}; \"forget-role/{name}\" forgets it and \
                 leaves its keys behind"
            )))
        }
    }
}

/// Stores that the role's deletion has begun. Also if it has begun before: the write proves that this node may
/// still end the role's keys.
///
/// # Errors
/// Errors from storage.
pub(super) async fn begin_deletion(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
) -> Result<(), Error> {
    let since = guard.engine().now();
    role.deletion.get_or_insert(Deletion {
        since,
        failure: None,
    });
    guard.store(role).await
}

/// Continues a deletion that has begun. Returns `None` when it is complete.
///
/// # Errors
/// Errors from storage.
pub(super) async fn finish_deletion(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
) -> Result<Option<RotatingRole>, Error> {
    match revoke_keys(guard, &mut role).await {
        Ok(()) => {
            guard.forget().await?;
            Ok(None)
        }
        Err(Stopped::CurrentLives(reason) | Stopped::Unclear(reason)) => {
            not_yet(guard, role, &reason).await.map(Some)
        }
    }
}

/// Why the revocation of a role's keys stopped, and what is known about its current key.
enum Stopped {
    /// The current key was not touched.
    CurrentLives(Error),
    /// The current key may be dead.
    Unclear(Error),
}

/// Revokes the superseded keys, then the current one, until one fails. Removes the revoked keys from `role`.
async fn revoke_keys(guard: &RoleGuard<'_>, role: &mut RotatingRole) -> Result<(), Stopped> {
    let engine = guard.engine();
    let warrant = || Warrant::OfRole(guard, Urgency::Revocation);
    while let Some(key) = role.superseded.first() {
        retire(engine, &key.connection, &key.hash, warrant())
            .await
            .map_err(Stopped::CurrentLives)?;
        let hash = key.hash.clone();
        // Counted in case the role stays.
        role.count_ended(&hash, None, engine.now());
        role.superseded.retain(|key| key.hash != hash);
    }
    let current = &role.current;
    retire(engine, &current.connection, &current.hash, warrant())
        .await
        .map(|_| ())
        .map_err(|reason| match &reason {
            Error::OpenRouter { reason: said, .. } if !said.is_definite() => {
                Stopped::Unclear(reason)
            }
            _ => Stopped::CurrentLives(reason),
        })
}

async fn not_yet(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    reason: &Error,
) -> Result<RotatingRole, Error> {
    let engine = guard.engine();
    let now = engine.now();
    let (since, previous) = role
        .deletion
        .take()
        .map_or((now, None), |deletion| (deletion.since, deletion.failure));
    role.deletion = Some(Deletion {
        since,
        failure: Some(failed(previous.as_ref(), reason, now, &*engine.randomness)),
    });
    guard.store(&role).await?;
    Ok(role)
}
