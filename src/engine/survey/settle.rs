//! Asking OpenRouter about what is doubtful, and storing what is true of it: what is gone first, and
//! each finding by itself, so that what cannot be found out about one key costs no other.

use jiff::Timestamp;

use crate::engine::books::OpenBooks;
use crate::engine::connection::Link;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::keys::{is_gone, is_there};
use crate::engine::names::{Nonce, Origin, Place, RoleName};
use crate::engine::role::rotating::{Misfit, RotatingRole, Unfit};
use crate::openrouter::Key;

/// What is doubtful about a role.
#[derive(Default)]
pub(super) struct Doubt {
    /// Its current key was not listed.
    pub(super) unlisted: bool,
    /// Keys that it is said to have, and that were not in its entry.
    pub(super) strays: Vec<Key>,
}

/// Asks OpenRouter about what is doubtful, under the role's lock, and stores what is true of it.
///
/// # Errors
/// The first of those that were met: what they were about is still doubtful, the rest is stored.
pub(super) async fn settle(
    engine: &Engine,
    link: &Link,
    place: &Place,
    name: RoleName,
    doubt: Doubt,
) -> Result<(), Error> {
    let guard = engine.change(&name).await;
    // A lease's key expires soon, and by itself.
    let Some(mut role) = guard.load_rotating().await? else {
        return Ok(());
    };
    let mut outcome = Ok(());
    if doubt.unlisted {
        outcome = outcome.and(note_if_gone(&guard, &mut role).await);
    }
    let mut strays = doubt.strays;
    strays.sort_by_key(|key| key.created_at);
    for key in strays {
        outcome = outcome.and(take_in(&guard, link, place, &mut role, key).await);
    }
    outcome
}

async fn note_if_gone(guard: &RoleGuard<'_>, role: &mut RotatingRole) -> Result<(), Error> {
    let engine = guard.engine();
    if !is_gone(engine, &role.current).await? {
        return Ok(());
    }
    tracing::warn!(
        mount = engine.mount,
        role = %guard.name(),
        key_hash = %role.current.hash,
        "the current key is gone at OpenRouter"
    );
    let now = engine.now();
    role.unfit = Some(Unfit {
        reason: Misfit::Gone,
        since: now,
        asked: Some(now),
    });
    guard.store(role).await
}

async fn take_in(
    guard: &RoleGuard<'_>,
    link: &Link,
    place: &Place,
    role: &mut RotatingRole,
    key: Key,
) -> Result<(), Error> {
    let engine = guard.engine();
    // Since the listing it may have become the role's, or have been revoked and forgotten.
    let claimed = origin_of(engine, &engine.books().await?, &key.name);
    let is_ours = claimed == Some(engine.origin(guard.name(), &role.life));
    if role.has_key(&key.hash) || !is_ours || !is_there(link, &key.hash).await? {
        return Ok(());
    }
    tracing::warn!(
        mount = engine.mount,
        role = %guard.name(),
        key_hash = %key.hash,
        "a key of the role's was unknown to storage, it is superseded now"
    );
    let now: Timestamp = engine.now();
    role.take_in(key, place, now);
    guard.store(role).await
}

/// Which role of this mount a key of that name is said to be of; `None` for what is not this mount's,
/// or is spoken for. Without a UUID of its own a mount cannot tell its keys from others'.
pub(super) fn origin_of(engine: &Engine, books: &OpenBooks, key_name: &str) -> Option<Origin> {
    let nonce = Nonce::of_key_name(key_name)?;
    let origin = nonce.origin()?;
    let ours = !engine.mount.is_empty() && origin.is_of_mount(&engine.mount);
    let spoken_for = || books.intents.is_known(&nonce) || books.leases.living(&nonce).is_some();
    (ours && !spoken_for()).then_some(origin)
}
