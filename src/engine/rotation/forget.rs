//! Forgets a role that cannot be deleted: revokes the keys that can be revoked, names the others, and removes
//! the role in any case.
//!
//! Each hash that is left behind is logged before the role's entry is removed, so that it is not lost if the
//! caller is gone. If the process dies, the role still exists, its deletion has begun, and the keeper
//! continues it. If no key is to be revoked, no deletion begins: the keeper would revoke the keys. The role then
//! stays as it was until its entry is removed.

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

/// What is left of a forgotten role.
pub struct Forgotten {
    /// The keys that may still be alive and are no longer tracked.
    pub left_behind: BTreeSet<KeyHash>,
    /// The reason, for one of them.
    pub reason: String,
}

/// Forgets a role, and revokes its keys if `revoke` is set. `None` if there is no such role.
///
/// # Errors
/// Errors from storage. The role then still exists.
pub async fn forget(guard: &RoleGuard<'_>, revoke: bool) -> Result<Option<Forgotten>, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let forgotten = match guard.load().await {
        Ok(None) => return Ok(None),
        Ok(Some(Role::Rotating(mut role))) => {
            if revoke {
                begin_deletion(guard, &mut role).await?;
                revoke_keys(guard, &role).await
            } else {
                Forgotten {
                    left_behind: role.keys().map(|(hash, _)| hash.clone()).collect(),
                    reason: "it was not asked to revoke them".to_owned(),
                }
            }
        }
        Ok(Some(Role::Dynamic(role))) => {
            let leases = engine.books().await?.leases;
            leases.detach(&*engine.storage, name, &role).await?;
            Forgotten {
                left_behind: BTreeSet::new(),
                reason: String::new(),
            }
        }
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
            "forgetting a role; one of its keys is left behind"
        );
    }
    guard.forget().await?;
    if let Some(books) = engine.books_if_open() {
        books.leases.note_pool(name, None);
    }
    Ok(Some(forgotten))
}

/// Revokes all keys concurrently, so that a request that hangs does not delay the others.
async fn revoke_keys(guard: &RoleGuard<'_>, role: &RotatingRole) -> Forgotten {
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

/// Concurrent revocations. More would only wait for their turns.
const CONCURRENCY: usize = 8;
