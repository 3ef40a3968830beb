//! Deleting a rotating role: its keys first, then itself.
//!
//! # Expected flow
//! 1. The deletion is stored: from now on the key is not handed out any more.
//! 2. Every key is revoked, the current one last.
//! 3. The role's entry is removed.
//!
//! # What happens when OpenRouter fails
//! As long as the current key is certainly alive, the mark is taken off and the role stays as it
//! was. When it is unclear whether that key still works, or the process died on the way, the mark
//! stays and the keeper goes on until OpenRouter has confirmed.

use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, retire};
use crate::engine::role::rotating::{Deletion, RotatingRole, failed};

/// Deletes a role.
///
/// # Errors
/// [`Error::Incomplete`] when a key could not be revoked; storage's own.
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
                "role {name:?} does not hand out its key any more and its deletion goes on by \
                 itself, but is not over: {reason}; \"forget-role/{name}\" forgets it and leaves \
                 its keys behind"
            )))
        }
    }
}

/// Stores that the role's deletion has begun, unless it had.
///
/// # Errors
/// Storage's own.
pub(super) async fn begin_deletion(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
) -> Result<(), Error> {
    if role.deletion.is_none() {
        role.deletion = Some(Deletion {
            since: guard.engine().now(),
            failure: None,
        });
        guard.store(role).await?;
    }
    Ok(())
}

/// Goes on with a deletion that has begun. `None` when it is over.
///
/// # Errors
/// Storage's own.
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

/// Why the revocation of a role's keys stopped, by what is known of its current key.
enum Stopped {
    /// It was not touched.
    CurrentLives(Error),
    /// It may be dead.
    Unclear(Error),
}

/// Revokes the superseded keys, then the current one, up to the first that fails. What is gone is
/// taken out of `role`.
async fn revoke_keys(guard: &RoleGuard<'_>, role: &mut RotatingRole) -> Result<(), Stopped> {
    let engine = guard.engine();
    let warrant = || Warrant::OfRole(guard, Urgency::Revocation);
    while let Some(key) = role.superseded.first() {
        retire(engine, &key.connection, &key.hash, warrant())
            .await
            .map_err(Stopped::CurrentLives)?;
        let gone = role.superseded.remove(0);
        // Should the role stay.
        role.count_ended(&gone.hash, None, engine.now());
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
