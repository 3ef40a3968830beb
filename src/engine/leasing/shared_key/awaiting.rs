//! A read that meets a dead key whose rotation is due.
//!
//! That happens right after an unseal or a failover: the key expired while nobody worked, and the engine
//! has only begun to look after its roles. The rotation takes a moment. Whoever reads in that moment waits
//! for it here; what takes longer, or has failed, is answered with 503, which Vault's clients retry.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Handout;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::role::rotating::{SharedKey, Successor, Withheld};

/// The terms on which the role's current key is handed out, and the key by then. Costs nothing unless the
/// key is dead and its rotation is due; then one storage call for each look, and at most the sum of
/// [`PAUSES`].
///
/// # Errors
/// Those of [`Handout::of`], and storage's own.
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
        // A rotation that has failed is retried after seconds or hours, and where the keeper is not at
        // work there is nobody to rotate. A key that is to be held to a guardrail is not dead.
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

/// Between two looks. They grow, so that many readers that wait are no burden on the storage that the
/// rotation needs too. Together two seconds: less than any client waits for an answer.
const PAUSES: [SignedDuration; 5] = [
    SignedDuration::from_millis(100),
    SignedDuration::from_millis(200),
    SignedDuration::from_millis(300),
    SignedDuration::from_millis(500),
    SignedDuration::from_millis(900),
];
