//! The kill switch: switching one key off, or on again, because a person has ordered it.
//!
//! | whose | how |
//! |---|---|
//! | a role's current key | with `force`: it is withheld first, then switched off, as if somebody had done that at OpenRouter |
//! | a superseded key | with `force`; its role remembers who was not the engine |
//! | a held key | it is off already; only `restore-key` switches it on |
//! | under a lease, another mount's | with `force` |
//! | stray, unmanaged | freely |
//! | pending, lost | never: the recovery decides about it |
//!
//! To switch a key on takes it from nobody, so it needs no `force`.

use super::revoke::{Target, permit_any, unknown};
use crate::engine::connection::Urgency;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::Owner;
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::rotating::{Misfit, RotatingRole, Standing, Unfit};
use crate::openrouter::{self, KeyHash};

/// Disables a key, or enables it again. Returns whose it is.
///
/// # Errors
/// [`Error::Invalid`] where that is not allowed, or needs `force`; [`Error::Conflict`] for a key in the
/// making; [`Error::Missing`] when OpenRouter does not know the key; OpenRouter's own.
pub async fn set_disabled(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    disabled: bool,
    force: bool,
) -> Result<Owner, Error> {
    let owner = Target::of(engine, connection, hash).await?.owner;
    permit_any(&owner, hash, force || !disabled)?;
    match &owner {
        Owner::Role(name, Some(Standing::Held { version, .. })) if !disabled => {
            return Err(Error::Invalid(format!(
                "key {hash} is {owner}; write to \"restore-key/{name}\" with key_version={version} to \
                 make it work again"
            )));
        }
        Owner::Role(name, Some(_)) => of_role(engine, name, connection, hash, disabled).await?,
        _ => switch(engine, connection, hash, disabled).await?,
    }
    tracing::warn!(
        mount = engine.mount,
        key_hash = %hash,
        owner = owner.name(),
        disabled,
        "switched a key, as it was ordered"
    );
    let kind = match disabled {
        true => "openrouter/disable-key",
        false => "openrouter/enable-key",
    };
    events::key_changed(engine, kind, connection, hash, &owner).await;
    Ok(owner)
}

/// Under the role's lock, so that its readers and the comparisons know of it.
async fn of_role(
    engine: &Engine,
    name: &RoleName,
    connection: &ConnectionName,
    hash: &KeyHash,
    disabled: bool,
) -> Result<(), Error> {
    let guard = engine.change(name).await;
    let role = guard.load_rotating().await?;
    let role = role.filter(|role| role.has_key(hash)).ok_or_else(|| {
        Error::Conflict(format!(
            "key {hash} is none of role {name} any more; look it up again"
        ))
    })?;
    match (role.standing(hash), disabled) {
        (Some(Standing::Current { .. }), true) => disable_current(&guard, role, connection).await,
        (Some(Standing::Held { .. }), true) => switch(engine, connection, hash, true).await,
        (Some(Standing::Held { .. }), false) => Err(Error::Conflict(format!(
            "key {hash} is held by now; look it up again"
        ))),
        // It has been disabled for its end, or is about to be.
        _ if !disabled && role.is_ending(hash) => Err(Error::Conflict(format!(
            "key {hash} is being revoked, and cannot be enabled any more"
        ))),
        _ => {
            switch(engine, connection, hash, disabled).await?;
            note(&guard, role, hash, disabled).await
        }
    }
}

/// It is withheld before it dies. Should the process die in between, the engine asks OpenRouter about the
/// key, and hands it out again if it works.
async fn disable_current(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    connection: &ConnectionName,
) -> Result<(), Error> {
    let engine = guard.engine();
    role.require_lasting(guard.name())?;
    let (hash, before) = (role.current.hash.clone(), role.unfit);
    role.unfit = Some(Unfit::found(Misfit::Disabled, engine.now()));
    guard.store(&role).await?;
    let switched = switch(engine, connection, &hash, true).await;
    let is_unclear = matches!(
        &switched,
        Err(Error::OpenRouter { reason, .. }) if !reason.is_definite()
    );
    if switched.is_err() && !is_unclear {
        role.unfit = before;
        guard.store(&role).await?;
    }
    switched
}

/// Stores what the key is like now, if that differs.
async fn note(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    hash: &KeyHash,
    disabled: bool,
) -> Result<(), Error> {
    let now = guard.engine().now();
    if role.current.hash == *hash {
        let unfit = role.unfit.map(|unfit| unfit.reason);
        if !unfit.is_some_and(Misfit::is_dead) {
            return Ok(());
        }
        role.unfit = None;
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
