//! A person disables one key, or enables it again.
//!
//! | key | condition |
//! |---|---|
//! | a role's current key | with `force`: it is withheld first, then disabled, as if it was disabled at
//! OpenRouter |
//! | a superseded key | with `force`; the role records that it was not disabled by the engine itself, and a
//! restoration of the key that is pending ends |
//! | a held key | it is disabled already; only `restore-key` enables it |
//! | a leased key, or one of another mount | with `force` |
//! | stray, unmanaged | always, behind the fence |
//! | pending, lost | never: recovery decides |
//!
//! Enabling a key is harmless, so it needs no `force`. A key that the engine has ended, or is about to
//! delete, is not enabled.

use jiff::Timestamp;

use super::revoke::{Target, permit_any, unknown};
use crate::engine::connection::Urgency;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::Owner;
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::rotating::{
    Mismatch, MismatchReason, RotatingRole, Stage, Standing, SupersededKey,
};
use crate::openrouter::{self, KeyHash};

/// Disables a key, or enables it again. Returns its owner.
///
/// # Errors
/// [`Error::Invalid`] if that is not allowed or needs `force`; [`Error::Conflict`] for a key that is being
/// created; [`Error::Missing`] if OpenRouter does not know the key; errors from OpenRouter.
pub async fn set_disabled(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    disabled: bool,
    force: bool,
) -> Result<Owner, Error> {
    // A role that adopts the key at the same time would not know that it is disabled.
    let alone = engine.adoptions.lock(hash).await;
    let target = Target::of(engine, connection, hash).await?;
    let owner = target.owner.clone();
    permit_any(&owner, hash, force || !disabled)?;
    match &owner {
        // Enabling a key harms nobody.
        owner if owner.is_unclaimed() && disabled => {
            // The proof takes it again, after the lock of the role in the key's mark.
            drop(alone);
            let _unclaimed = target.prove_unclaimed(engine, connection, hash).await?;
            switch(engine, connection, hash, true).await?;
        }
        Owner::Role(name, Some(Standing::Held { version, .. })) if !disabled => {
            return Err(Error::Invalid(format!(
                "key {hash} is {owner}; write to \"restore-key/{name}\" with key_version={version} to \
                 make it work again"
            )));
        }
        Owner::Lease(record)
            if !disabled && (record.ended.is_some() || record.until <= engine.now()) =>
        {
            return Err(Error::Invalid(format!(
                "key {hash} is not enabled: it is {owner} that ended at {}, and is being deleted",
                record.ended.unwrap_or(record.until)
            )));
        }
        Owner::Role(name, Some(_)) => {
            // An adoption takes the role's lock first.
            drop(alone);
            of_role(engine, name, connection, hash, disabled).await?;
        }
        _ => switch(engine, connection, hash, disabled).await?,
    }
    tracing::warn!(
        mount = engine.mount,
        key_hash = %hash,
        owner = owner.name(),
        disabled,
        "disabled or enabled a key on request"
    );
    let kind = match disabled {
        true => events::DISABLE_KEY,
        false => events::ENABLE_KEY,
    };
    events::key_changed(engine, kind, connection, hash, &owner).await;
    Ok(owner)
}

/// Runs under the role's lock, so that readers and the reconciliation see the change.
async fn of_role(
    engine: &Engine,
    name: &RoleName,
    connection: &ConnectionName,
    hash: &KeyHash,
    disabled: bool,
) -> Result<(), Error> {
    let guard = engine.change(name).await;
    let role = guard.load_rotating().await?;
    let mut role = role.filter(|role| role.has_key(hash)).ok_or_else(|| {
        Error::Conflict(format!(
            "key {hash} no longer belongs to role {name}; look it up again"
        ))
    })?;
    if !disabled {
        permit_enabling(&role, hash, engine.now())?;
    }
    match (role.standing(hash), disabled) {
        (Some(Standing::Current { .. }), true) => disable_current(&guard, role, connection).await,
        (Some(Standing::Held { .. }), true) => switch(engine, connection, hash, true).await,
        (Some(Standing::Held { .. }), false) => Err(Error::Conflict(format!(
            "key {hash} is held by now; look it up again"
        ))),
        // It was disabled in order to be ended, or is about to be.
        _ if !disabled && role.is_ending(hash) => Err(Error::Conflict(format!(
            "key {hash} is being revoked and can no longer be enabled"
        ))),
        _ => {
            if disabled {
                end_restoration(&guard, &mut role, hash).await?;
            }
            switch(engine, connection, hash, disabled).await?;
            note(&guard, role, hash, disabled).await
        }
    }
}

/// Rejects enabling a key of the role that the engine has ended, or is about to delete.
fn permit_enabling(role: &RotatingRole, hash: &KeyHash, now: Timestamp) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Invalid(format!("key {hash} is not enabled: {why}")));
    let Some(key) = role.superseded.iter().find(|key| key.hash == *hash) else {
        return Ok(());
    };
    let version = key.version;
    if key.stage == Stage::Ordered {
        return refuse("it is being deleted, as was ordered with revoke-key".to_owned());
    }
    let is_due = key.stage == Stage::Grace && key.revoke_at <= now;
    if is_due && key.awaits_person.is_none() {
        return refuse(format!(
            "its revocation was due at {} and is retried until it succeeds; restore-key with \
             key_version={version} makes it work for longer",
            key.revoke_at
        ));
    }
    Ok(())
}

/// The key is withheld before it is disabled. If the process dies in between, the engine asks OpenRouter
/// about the key, and hands it out again if it works.
async fn disable_current(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    connection: &ConnectionName,
) -> Result<(), Error> {
    let engine = guard.engine();
    role.require_lasting(guard.name())?;
    let (hash, before) = (role.current.hash.clone(), role.mismatch);
    role.mismatch = Some(Mismatch::found(MismatchReason::Disabled, engine.now()));
    guard.store(&role).await?;
    let switched = switch(engine, connection, &hash, true).await;
    let is_unclear = matches!(
        &switched,
        Err(Error::OpenRouter { reason, .. }) if !reason.is_definite()
    );
    if switched.is_err() && !is_unclear {
        role.mismatch = before;
        guard.store(&role).await?;
    }
    switched
}

/// Ends a restoration of the key that OpenRouter has not confirmed: the keeper would enable the key again. Stored
/// before the key is disabled.
async fn end_restoration(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    hash: &KeyHash,
) -> Result<(), Error> {
    let is_it = |key: &&mut SupersededKey| key.hash == *hash && key.stage == Stage::Restoring;
    let Some(key) = role.superseded.iter_mut().find(is_it) else {
        return Ok(());
    };
    key.stage = Stage::Grace;
    key.failure = None;
    key.disabled_outside = Some(guard.engine().now());
    guard.store(role).await
}

/// Stores the key's new state, if it differs.
async fn note(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    hash: &KeyHash,
    disabled: bool,
) -> Result<(), Error> {
    let now = guard.engine().now();
    if role.current.hash == *hash {
        let mismatch = role.mismatch.map(|mismatch| mismatch.reason);
        if !mismatch.is_some_and(MismatchReason::is_dead) {
            return Ok(());
        }
        role.mismatch = None;
    } else if let Some(key) = role.superseded.iter_mut().find(|key| key.hash == *hash) {
        if key.disabled_outside.is_some() == disabled {
            return Ok(());
        }
        key.disabled_outside = disabled.then_some(now);
    }
    guard.store(&role).await
}

async fn switch(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    disabled: bool,
) -> Result<(), Error> {
    let link = engine.links.open(&*engine.storage, connection).await?;
    let turn = link.client(Urgency::Emergency).await;
    match turn.set_disabled(hash, disabled).await {
        Ok(()) => Ok(()),
        Err(openrouter::Error::NotFound { .. }) => Err(unknown(connection, hash)),
        Err(reason) => {
            let participle = if disabled { "disabled" } else { "enabled" };
            let doing = format!("key {hash} could not be {participle}");
            Err(Error::OpenRouter { doing, reason })
        }
    }
}
