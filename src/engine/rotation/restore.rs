//! Restores a key: a superseded key works for longer, or a held key works again.
//!
//! The intention is stored before the key is enabled. If the process dies in between, the keeper enables the
//! key. With a budget the current key is lowered first, to make room.

use jiff::Timestamp;

use super::budget;
use super::ending::enable;
use crate::engine::clock::after;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::role::rotating::{MAX_SUPERSEDED, RotatingRole, Stage, SupersededKey};
use crate::openrouter::{self, KeyHash};

/// A restored key.
#[derive(Debug)]
pub struct Restored {
    /// Its hash.
    pub hash: KeyHash,
    /// The time until which it works.
    pub revoke_at: Timestamp,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Makes a superseded key of the role work for this many seconds from now.
///
/// # Errors
/// [`Error::Invalid`] if there is no such key, or it must not be restored; [`Error::Conflict`] if the role
/// has too many superseded keys; rejections by OpenRouter, after which the key is held as before; errors from
/// storage.
pub async fn restore(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    version: u64,
    seconds: u64,
    force: bool,
) -> Result<Restored, Error> {
    role.require_lasting(guard.name())?;
    let now = guard.engine().now();
    let place = place_of(guard, &role, version)?;
    let has_room = role.superseded_by_rotation() < MAX_SUPERSEDED;
    let key = role.superseded.get(place).ok_or_else(|| none(guard))?;
    permit(key, now, force)?;
    let before = key.clone();
    if before.stage.is_held() && !has_room {
        return Err(Error::Conflict(format!(
            "role {:?} has {MAX_SUPERSEDED} superseded keys in their grace period; wait for one of \
             them to be revoked",
            guard.name().to_string()
        )));
    }
    if before.counted {
        return Err(Error::Conflict(format!(
            "the spending of key {} is already counted in the role's usage, and the key is being \
             deleted",
            before.hash
        )));
    }
    if before.stage.is_held() {
        let refused;
        (role, refused) = budget::make_room(guard, role, &before.hash).await?;
        if let Some(reason) = refused {
            return Err(reason);
        }
    } else {
        require_enabled(guard, &before).await?;
    }
    let mut restored = extend(&before, now, seconds);
    let key = role
        .superseded
        .iter_mut()
        .find(|key| key.hash == before.hash);
    let key = key.ok_or_else(|| none(guard))?;
    if restored.revoke_at > key.revoke_at || key.stage.is_held() {
        key.revoke_at = restored.revoke_at;
        key.failure = None;
        key.awaits_person = None;
        if key.stage.is_held() {
            key.stage = Stage::Restoring;
            key.disabled_to_end = None;
        }
        guard.store(&role).await?;
    } else {
        restored.revoke_at = key.revoke_at;
        restored
            .warnings
            .push(format!("it works until {} anyway", key.revoke_at));
    }
    restored.warnings.extend(share(&role, &before.hash));
    if before.stage.is_held() {
        let (role, failed) = enable(guard, role, &restored.hash).await?;
        if let Some(reason) = failed {
            restored
                .warnings
                .push(not_enabled(guard, role, before, reason).await?);
        }
    }
    Ok(restored)
}

/// The warning about the share of a budget that the key gets.
fn share(role: &RotatingRole, hash: &KeyHash) -> Option<String> {
    let limit = role.limit_of(hash)?;
    Some(format!(
        "its limit is {limit} US dollars, a share of the role's budget: what is left of the budget is \
         divided between it and the current key"
    ))
}

fn place_of(guard: &RoleGuard<'_>, role: &RotatingRole, version: u64) -> Result<usize, Error> {
    let name = guard.name().to_string();
    if role.current.version == version {
        return Err(Error::Invalid(format!(
            "key_version {version} is the current key of role {name:?}, which is handed out already"
        )));
    }
    let place = role
        .superseded
        .iter()
        .position(|key| key.version == version);
    place.ok_or_else(|| {
        let versions = role.superseded.iter().map(|key| key.version.to_string());
        let versions: Vec<String> = versions.collect();
        Error::Invalid(format!(
            "key_version must be that of a superseded or held key of role {name:?}: {}; a deleted \
             key cannot be brought back",
            if versions.is_empty() {
                "there is none".to_owned()
            } else {
                versions.join(", ")
            }
        ))
    })
}

fn none(guard: &RoleGuard<'_>) -> Error {
    Error::Invalid(format!(
        "role {:?} has no such key",
        guard.name().to_string()
    ))
}

fn permit(key: &SupersededKey, now: Timestamp, force: bool) -> Result<(), Error> {
    if let Some(expired) = key.expires_at.filter(|expiry| *expiry <= now) {
        return Err(Error::Invalid(format!(
            "key {} expired at {expired}, which OpenRouter cannot undo",
            key.hash
        )));
    }
    if key.stage == Stage::Ordered {
        return Err(Error::Invalid(format!(
            "key {} is being deleted, as was ordered with revoke-key",
            key.hash
        )));
    }
    if let Some(since) = key.disabled_outside {
        return Err(disabled_outside(key, since));
    }
    if key.emergency && !force {
        return Err(Error::Invalid(format!(
            "key {} was ended by an emergency rotation, so it may be in the wrong hands; give \
             force=true to restore it anyway",
            key.hash
        )));
    }
    Ok(())
}

fn disabled_outside(key: &SupersededKey, since: Timestamp) -> Error {
    Error::Invalid(format!(
        "key {} was disabled outside the engine (found at {since}); only keys that the engine \
         disabled can be enabled here",
        key.hash
    ))
}

/// Checks that a key that is to work for longer is enabled.
async fn require_enabled(guard: &RoleGuard<'_>, key: &SupersededKey) -> Result<(), Error> {
    let engine = guard.engine();
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    match link.client(Urgency::Ordinary).await.key(&key.hash).await {
        Ok(seen) if seen.disabled && key.stage.is_grace() => {
            Err(disabled_outside(key, engine.now()))
        }
        Ok(_) => Ok(()),
        Err(openrouter::Error::NotFound { .. }) => Err(Error::Invalid(format!(
            "key {} is gone at OpenRouter, and a deleted key cannot be brought back",
            key.hash
        ))),
        Err(reason) => Err(Error::while_doing("the key cannot be looked up")(reason)),
    }
}

/// How long the key is to work, at most until it expires.
fn extend(key: &SupersededKey, now: Timestamp, seconds: u64) -> Restored {
    let wanted = after(now, seconds);
    let mut warnings = Vec::new();
    let revoke_at = match key.expires_at.filter(|expiry| *expiry < wanted) {
        None => wanted,
        Some(expiry) => {
            warnings.push(format!(
                "the key expires at {expiry}, which OpenRouter cannot change, so it works until then"
            ));
            expiry
        }
    };
    Restored {
        hash: key.hash.clone(),
        revoke_at,
        warnings,
    }
}

/// Handles a key that could not be enabled. If that is certain, the key is held as before.
async fn not_enabled(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    before: SupersededKey,
    reason: Error,
) -> Result<String, Error> {
    if !reason.is_definite() {
        return Ok(format!(
            "the key may not work yet: {reason}; the engine retries until it does"
        ));
    }
    let hash = before.hash.clone();
    if let Some(key) = role.superseded.iter_mut().find(|key| key.hash == hash) {
        *key = before;
        role.count_disabled(&hash, guard.engine().now());
        guard.store(&role).await?;
    }
    Err(reason)
}
