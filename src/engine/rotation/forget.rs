//! Forgetting a role that cannot be deleted properly: what can be revoked is revoked, the rest is
//! named, and the role is gone whatever came of it.
//!
//! Each hash that is left behind is in the log before the role's entry goes, so that nothing is lost
//! with an answer for which nobody waits any more. Should the process die on the way, the role is
//! still there, its deletion has begun, and the keeper goes on with it.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};

use super::delete::begin_deletion;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, mentioned, retire};
use crate::engine::role::Role;
use crate::engine::role::rotating::RotatingRole;
use crate::logical::StorageError;
use crate::openrouter::KeyHash;

/// What is left of a role that was forgotten.
pub struct Forgotten {
    /// The keys that may still be alive, and that nothing here leads to any more.
    pub left_behind: BTreeSet<KeyHash>,
    /// Why, of one of them.
    pub reason: String,
}

/// Forgets a role, and revokes its keys if `revoke` says so. `None` when there is no such role.
///
/// # Errors
/// Storage's own: the role is still there then.
pub async fn forget(guard: &RoleGuard<'_>, revoke: bool) -> Result<Option<Forgotten>, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let forgotten = match guard.load().await {
        Ok(None) => return Ok(None),
        Ok(Some(Role::Rotating(mut role))) => {
            begin_deletion(guard, &mut role).await?;
            if revoke {
                revoke_what_can_be(guard, &role).await
            } else {
                Forgotten {
                    left_behind: role.keys().map(|(hash, _)| hash.clone()).collect(),
                    reason: "it was not asked to revoke them".to_owned(),
                }
            }
        }
        Ok(Some(Role::Dynamic(_))) => Forgotten {
            left_behind: BTreeSet::new(),
            reason: String::new(),
        },
        Err(reason @ Error::Storage(StorageError::Malformed { .. })) => {
            let value = engine.storage.get(&name.key()).await?;
            Forgotten {
                left_behind: mentioned(&value.unwrap_or_default()).0,
                reason: reason.to_string(),
            }
        }
        Err(reason) => return Err(reason),
    };
    for key_hash in &forgotten.left_behind {
        tracing::warn!(
            mount = engine.mount,
            role = %name,
            %key_hash,
            reason = forgotten.reason,
            "a role is forgotten, and a key of it left behind"
        );
    }
    guard.forget().await?;
    Ok(Some(forgotten))
}

/// Revokes all keys at once: those that hang must not keep the others waiting.
async fn revoke_what_can_be(guard: &RoleGuard<'_>, role: &RotatingRole) -> Forgotten {
    let engine = guard.engine();
    let keys = role.keys();
    let keys: Vec<_> = keys
        .map(|(hash, via)| (hash.clone(), via.clone()))
        .collect();
    let retired = stream::iter(keys)
        .map(|(hash, connection)| async move {
            let warrant = Warrant::OfRole(guard, Urgency::Revocation);
            let retired = retire(engine, &connection, &hash, warrant).await;
            retired.err().map(|reason| (hash, reason))
        })
        .buffer_unordered(CONCURRENCY)
        .collect::<Vec<_>>()
        .await;
    let mut forgotten = Forgotten {
        left_behind: BTreeSet::new(),
        reason: String::new(),
    };
    for (hash, reason) in retired.into_iter().flatten() {
        forgotten.left_behind.insert(hash);
        forgotten.reason = reason.to_string();
    }
    forgotten
}

/// Revocations at a time: more would wait for their turns anyway.
const CONCURRENCY: usize = 8;
