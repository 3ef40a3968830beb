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
//! stays and the keeper goes on until OpenRouter has confirmed. With `force`, what cannot be
//! revoked is named and left behind.

use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::delete_key;
use crate::engine::names::RoleName;
use crate::engine::role::rotating::{Deletion, RotatingRole, failed};
use crate::engine::task::Task;
use crate::logical::{Data, Response};
use crate::openrouter::KeyHash;

/// Deletes a role that the caller has the turn to change.
///
/// # Errors
/// [`Error::Incomplete`] when a key could not be revoked; storage's own.
pub async fn delete(
    engine: &Engine,
    name: &RoleName,
    mut role: RotatingRole,
    force: bool,
) -> Result<Option<Response>, Error> {
    let begun_before = role.deletion.is_some();
    if !begun_before {
        role.deletion = Some(Deletion {
            since: engine.clock.now(),
            failure: None,
        });
        role.store(&*engine.storage, name).await?;
    }
    if force {
        return abandon(engine, name, &mut role).await;
    }
    match revoke_keys(engine, &mut role).await {
        Ok(()) => {
            forget(engine, name).await?;
            Ok(None)
        }
        Err(Stopped::CurrentLives(reason)) if !begun_before => {
            role.deletion = None;
            role.store(&*engine.storage, name).await?;
            Err(Error::Incomplete(format!(
                "role {:?} stays as it was: {reason}; force=true forgets it and leaves its keys \
                 behind",
                name.to_string()
            )))
        }
        Err(Stopped::CurrentLives(reason) | Stopped::Unclear(reason)) => {
            not_yet(engine, name, role, &reason).await?;
            Err(Error::Incomplete(format!(
                "role {:?} hands out its key no more and its deletion goes on by itself, but is \
                 not over: {reason}; force=true forgets it and leaves its keys behind",
                name.to_string()
            )))
        }
    }
}

/// Goes on with a deletion that has begun. `None` when it is over.
///
/// # Errors
/// Storage's own.
pub async fn finish_deletion(
    engine: &Engine,
    name: &RoleName,
    mut role: RotatingRole,
) -> Result<Option<RotatingRole>, Error> {
    match revoke_keys(engine, &mut role).await {
        Ok(()) => {
            forget(engine, name).await?;
            Ok(None)
        }
        Err(Stopped::CurrentLives(reason) | Stopped::Unclear(reason)) => {
            not_yet(engine, name, role, &reason).await.map(Some)
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
async fn revoke_keys(engine: &Engine, role: &mut RotatingRole) -> Result<(), Stopped> {
    while let Some(key) = role.superseded.first() {
        delete_key(engine, &key.connection, &key.hash)
            .await
            .map_err(Stopped::CurrentLives)?;
        role.superseded.remove(0);
    }
    let current = &role.current;
    delete_key(engine, &current.connection, &current.hash)
        .await
        .map_err(|reason| match &reason {
            Error::OpenRouter { reason: said, .. } if !said.is_definite() => {
                Stopped::Unclear(reason)
            }
            _ => Stopped::CurrentLives(reason),
        })
}

/// Revokes what can be revoked, and forgets the role whatever came of it.
async fn abandon(
    engine: &Engine,
    name: &RoleName,
    role: &mut RotatingRole,
) -> Result<Option<Response>, Error> {
    let mut left: Vec<KeyHash> = Vec::new();
    let mut reasons = Vec::new();
    for (hash, connection) in role.keys() {
        if let Err(reason) = delete_key(engine, connection, hash).await {
            left.push(hash.clone());
            reasons.push(reason.to_string());
        }
    }
    forget(engine, name).await?;
    let Some(reason) = reasons.first() else {
        return Ok(None);
    };
    tracing::warn!(
        mount = engine.mount,
        role = %name,
        keys = left.len(),
        %reason,
        "a role was forgotten by force, its keys are left behind"
    );
    let warning = format!(
        "{} of the role's keys may still work at OpenRouter and are not known here any more: \
         {reason}",
        left.len()
    );
    let hashes: Vec<String> = left.iter().map(ToString::to_string).collect();
    let data = Data::from_iter([("keys_left_behind".to_owned(), hashes.into())]);
    Ok(Some(Response::with_data(data).with_warnings([warning])))
}

async fn not_yet(
    engine: &Engine,
    name: &RoleName,
    mut role: RotatingRole,
    reason: &Error,
) -> Result<RotatingRole, Error> {
    let now = engine.clock.now();
    let (since, previous) = role
        .deletion
        .take()
        .map_or((now, None), |deletion| (deletion.since, deletion.failure));
    role.deletion = Some(Deletion {
        since,
        failure: Some(failed(previous.as_ref(), reason, now, &*engine.randomness)),
    });
    role.store(&*engine.storage, name).await?;
    Ok(role)
}

async fn forget(engine: &Engine, name: &RoleName) -> Result<(), Error> {
    engine.storage.delete(&name.key()).await?;
    engine.keeper.forget(&Task::Tend(name.clone()));
    tracing::info!(mount = engine.mount, role = %name, "deleted a role");
    Ok(())
}
