//! Reads that find a dead key whose rotation is due.
//!
//! This happens right after an unseal or a failover: the key expired while no node was active, and the engine
//! has only just started its work. The rotation takes a moment. Reads in that moment wait for it here. If it
//! takes longer or has failed, the answer is 503, which Vault's clients retry.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Handout;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::role::rotating::{SharedKey, Successor, Withheld};

/// Returns the terms on which the role's current key is handed out, and that key. Free unless the key is dead
/// and its rotation is due. In that case it makes one storage call per check, and takes at most the sum of
/// [`PAUSES`].
///
/// # Errors
/// Errors of [`Handout::of`] and of storage.
pub(super) async fn handout(
    engine: &Engine,
    name: &RoleName,
    mut key: Arc<SharedKey>,
) -> Result<(Handout, Arc<SharedKey>), Error> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let reason = match Handout::of(&key, engine.now()) {
            Ok(handout) => return Ok((handout, key)),
            Err(reason) => reason,
        };
        // A failed rotation is retried after seconds or hours, and if the keeper is not at work, nothing
        // rotates the key. A key that waits for its guardrail is not dead.
        let is_imminent = matches!(reason, Error::Awaited(_))
            && !matches!(key.withheld, Some(Withheld::Unguarded(_)))
            && key.successor == Successor::Due
            && engine.keeper.is_at_work();
        let pause = pauses.next().filter(|_| is_imminent).ok_or(reason)?;
        engine.clock.sleep_until(later(engine.now(), pause)).await;
        let role = Role::require(&*engine.storage, name)
            .await?
            .rotating(name, "this read")?;
        key = Arc::new(SharedKey::of(role));
    }
}

fn later(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

/// Pauses between two checks. They grow, so that many waiting readers do not burden the storage that the
/// rotation needs too. Their sum is two seconds, less than any client waits for an answer.
const PAUSES: [SignedDuration; 5] = [
    SignedDuration::from_millis(100),
    SignedDuration::from_millis(200),
    SignedDuration::from_millis(300),
    SignedDuration::from_millis(500),
    SignedDuration::from_millis(900),
];
