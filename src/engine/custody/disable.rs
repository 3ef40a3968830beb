//! The kill switch: switching one key off, or on again, because a person has ordered it.

use super::revoke::{Target, permit_any, unknown};
use crate::engine::connection::Urgency;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::Owner;
use crate::engine::names::ConnectionName;
use crate::engine::role::rotating::Standing;
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
    // To enable a key again takes it from nobody.
    permit_any(&owner, hash, force || !disabled)?;
    if let Owner::Role(name, Some(Standing::Current { .. })) = &owner
        && disabled
    {
        return Err(Error::Invalid(format!(
            "key {hash} is {owner}; readers would be handed a dead key. \"rotate-role/{name}\" with \
             rotation_grace_period=0 replaces it and revokes it"
        )));
    }
    let link = engine.links.open(&*engine.storage, connection).await?;
    let turn = link.client(Urgency::Emergency).await;
    match turn.set_disabled(hash, disabled).await {
        Ok(()) => {}
        Err(openrouter::Error::NotFound { .. }) => {
            return Err(unknown(connection, hash));
        }
        Err(reason) => {
            let doing = format!("key {hash} could not be {}", participle(disabled));
            return Err(Error::OpenRouter { doing, reason });
        }
    }
    drop(turn);
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

fn participle(disabled: bool) -> &'static str {
    if disabled { "disabled" } else { "enabled" }
}
