//! A person revokes one key.
//!
//! | key | condition |
//! |---|---|
//! | a role's current key | never: `rotate-role` replaces it |
//! | a superseded key | with `force`: the order is stored in the role's entry first |
//! | a held key | always: its hold ends |
//! | a leased key | with `force`; the lease's record is deleted too |
//! | stray, unmanaged | always, behind the fence |
//! | a key of another mount | with `force`, behind the fence |
//! | pending, lost, of an unreadable role | never: recovery decides |

use super::lookup::look_up;
use crate::engine::books::Record;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::{Holdings, Owner, Unclaimed, Warrant, prove_unclaimed, retire};
use crate::engine::leasing;
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::rotating::Standing;
use crate::engine::rotation;
use crate::openrouter::KeyHash;

/// Deletes a key at OpenRouter. Returns its owner.
///
/// # Errors
/// [`Error::Invalid`] if that is not allowed or needs `force`; [`Error::Conflict`] for a key that is being
/// created; [`Error::Missing`] if OpenRouter does not know the key; [`Error::Incomplete`] and
/// [`Error::OpenRouter`] if it may still work.
pub async fn revoke(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    force: bool,
) -> Result<Owner, Error> {
    let target = Target::of(engine, connection, hash).await?;
    permit(&target.owner, hash, force)?;
    match &target.owner {
        Owner::Role(name, _) => superseded(engine, name, hash, force).await?,
        Owner::Lease(record) => leased(engine, record).await?,
        _ => unclaimed(engine, connection, hash, &target).await?,
    }
    let owner = target.owner;
    tracing::warn!(
        mount = engine.mount,
        key_hash = %hash,
        owner = owner.name(),
        "revoked a key on request"
    );
    events::key_changed(engine, events::REVOKE_KEY, connection, hash, &owner).await;
    Ok(owner)
}

/// The key to revoke or disable.
pub(super) struct Target {
    /// Its owner.
    pub(super) owner: Owner,
    /// Its name, if OpenRouter had to be asked.
    key_name: String,
    /// The role in its mark.
    marked_for: Option<RoleName>,
}

impl Target {
    /// Determines the owner of the key. Storage is read first, so that OpenRouter is not needed for the keys
    /// that it knows.
    ///
    /// # Errors
    /// [`Error::Missing`] if OpenRouter does not know the key; [`Error::Invalid`] if it was made through
    /// another connection; errors from OpenRouter or storage.
    pub(super) async fn of(
        engine: &Engine,
        connection: &ConnectionName,
        hash: &KeyHash,
    ) -> Result<Self, Error> {
        let holdings = Holdings::of(engine).await?;
        let Some(owner) = holdings.owner_by_hash(hash) else {
            let key = look_up(engine, connection, hash).await?;
            let key_name = key.ok_or_else(|| unknown(connection, hash))?.name;
            return Ok(Self {
                owner: holdings.owner(Some(hash), &key_name),
                marked_for: holdings.marked_for(&key_name).cloned(),
                key_name,
            });
        };
        match holdings.connection_of(hash) {
            Some(through) if through != connection => Err(Error::Invalid(format!(
                "key {hash} is {owner}, and was made through connection {:?}, not {:?}",
                through.to_string(),
                connection.to_string()
            ))),
            _ => Ok(Self {
                owner,
                key_name: String::new(),
                marked_for: None,
            }),
        }
    }

    /// Proves that nobody in this mount has the key, and keeps it so.
    ///
    /// # Errors
    /// See [`prove_unclaimed`].
    pub(super) async fn prove_unclaimed(
        &self,
        engine: &Engine,
        connection: &ConnectionName,
        hash: &KeyHash,
    ) -> Result<Unclaimed, Error> {
        let marked_for = self.marked_for.as_ref();
        prove_unclaimed(engine, connection, hash, &self.key_name, marked_for, None).await
    }
}

pub(super) fn unknown(connection: &ConnectionName, hash: &KeyHash) -> Error {
    Error::Missing(format!(
        "connection {:?} sees no key {hash}; it was deleted or belongs to another account",
        connection.to_string()
    ))
}

fn permit(owner: &Owner, hash: &KeyHash, force: bool) -> Result<(), Error> {
    match owner {
        Owner::Role(name, Some(Standing::Current { .. })) => Err(Error::Invalid(format!(
            "key {hash} is {owner}, which is never revoked; \"rotate-role/{name}\" with \
             rotation_grace_period=0 replaces it and revokes it"
        ))),
        Owner::Role(name, None) => Err(Error::Invalid(format!(
            "key {hash} is {owner}; \"forget-role/{name}\" removes the role, then it can be \
             revoked"
        ))),
        _ => permit_any(owner, hash, force),
    }
}

/// The conditions that revoking and disabling share.
pub(super) fn permit_any(owner: &Owner, hash: &KeyHash, force: bool) -> Result<(), Error> {
    match owner {
        Owner::Pending(_) | Owner::Lost(_) => Err(Error::Conflict(format!(
            "key {hash} is {owner}: the engine will resolve it; look it up again later"
        ))),
        Owner::Stray | Owner::Unmanaged | Owner::Role(_, Some(Standing::Held { .. })) => Ok(()),
        Owner::Role(..) | Owner::Lease(_) | Owner::OtherMount if force => Ok(()),
        Owner::Role(..) | Owner::Lease(_) | Owner::OtherMount => Err(Error::Invalid(format!(
            "key {hash} is {owner}; give force=true if that is what you want"
        ))),
    }
}

async fn superseded(
    engine: &Engine,
    name: &RoleName,
    hash: &KeyHash,
    force: bool,
) -> Result<(), Error> {
    let guard = engine.change(name).await;
    let role = guard.load_rotating().await?;
    let Some(role) = role.filter(|role| role.has_key(hash)) else {
        return Err(Error::Conflict(format!(
            "key {hash} no longer belongs to role {name}; look it up again"
        )));
    };
    if role.current.hash == *hash {
        return Err(Error::Conflict(format!(
            "key {hash} has become the current key of role {name}; look it up again"
        )));
    }
    // A held key may have been restored in the meantime.
    permit(&Owner::Role(name.clone(), role.standing(hash)), hash, force)?;
    let (_, failure) = rotation::revoke_early(&guard, role, hash).await?;
    failure.map_or(Ok(()), |reason| {
        Err(Error::Incomplete(format!(
            "key {hash} may still work: {reason}; the engine retries its revocation until \
             OpenRouter confirms it; see superseded_keys of role {name}"
        )))
    })
}

async fn leased(engine: &Engine, record: &Record) -> Result<(), Error> {
    leasing::end_early(engine, &record.key.nonce).await
}

async fn unclaimed(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    target: &Target,
) -> Result<(), Error> {
    let unclaimed = target.prove_unclaimed(engine, connection, hash).await?;
    let warrant = Warrant::Ordered(&unclaimed);
    retire(engine, connection, hash, warrant).await.map(|_| ())
}
