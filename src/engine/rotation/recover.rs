//! Recovery: what becomes of an intent that is adrift.
//!
//! # Expected flow
//! 1. If the role's entry has the key of this nonce, the order went well and only the last stroke
//!    was missing: the intent is struck out.
//! 2. Otherwise nobody knows the key's secret. It is looked for by its nonce, over all pages of its
//!    workspace, disabled and expired keys included, and deleted.
//! 3. When it was found and deleted, the intent is struck out. When it was not found, the intent
//!    stays and the look is repeated, for an order may still be on its way when OpenRouter is first
//!    asked; only a look [`SETTLED`] after the order was announced strikes it out.
//!
//! # Guarantees
//! - A key that is current or superseded in storage is never deleted here: no task can store the
//!   key any more, since the intent is adrift, so what step 1 sees is final.
//! - An intent is struck out only when its key is in service, or deleted, or cannot exist.
//!
//! # Assumptions
//! An order that OpenRouter has received takes effect, and shows in its lists, within [`SETTLED`].

use jiff::Timestamp;

use super::intent::Intent;
use crate::engine::clock::after;
use crate::engine::connection::Link;
use crate::engine::error::Error;
use crate::engine::nonce::Nonce;
use crate::engine::role::Role;
use crate::engine::state::Engine;

/// What is known after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The intent is struck out, or was not adrift.
    Settled,
    /// Nothing was found, and it is too early to be sure.
    LookAgain(Timestamp),
}

/// Looks once.
///
/// # Errors
/// When OpenRouter or storage failed: the intent stays, and another look is needed.
pub async fn recover(engine: &Engine, nonce: &Nonce) -> Result<Recovery, Error> {
    let Some(written) = engine.intents.adrift(nonce) else {
        return Ok(Recovery::Settled);
    };
    let intent = written.data;
    let role = Role::load(&*engine.storage, &intent.role).await?;
    if !role.is_some_and(|role| role.has_key_of(nonce)) {
        let link = engine
            .links
            .open(&*engine.storage, &intent.connection)
            .await?;
        // Taken before the look: what shows up during it must be looked for again.
        let looked_at = engine.clock.now();
        if !delete_by_nonce(engine, &link, &intent).await?
            && let Some(at) = next_look(written.at, looked_at)
        {
            return Ok(Recovery::LookAgain(at));
        }
    }
    engine.intents.strike(&*engine.storage, nonce).await?;
    Ok(Recovery::Settled)
}

/// Whether there was anything to delete.
async fn delete_by_nonce(engine: &Engine, link: &Link, intent: &Intent) -> Result<bool, Error> {
    let workspace = intent.workspace_id.as_ref();
    let found = link
        .client()
        .await
        .find_by_nonce(&intent.nonce.marker(), workspace)
        .await
        .map_err(Error::while_doing(
            "an unconfirmed key cannot be looked for",
        ))?;
    for key in &found {
        link.client()
            .await
            .delete_key(&key.hash)
            .await
            .map_err(Error::while_doing("an unconfirmed key cannot be deleted"))?;
        tracing::info!(
            mount = engine.mount,
            role = %intent.role,
            key_hash = %key.hash,
            "deleted a key whose creation was never confirmed"
        );
    }
    Ok(!found.is_empty())
}

/// When to look again after a look at `now` that found nothing.
fn next_look(announced: Timestamp, now: Timestamp) -> Option<Timestamp> {
    LOOKS
        .iter()
        .map(|seconds| after(announced, *seconds))
        .find(|at| *at > now)
}

/// Seconds after the announcement at which an order that left no trace is looked for again.
const LOOKS: [u64; 4] = [5, 30, 120, SETTLED];

/// How long after its announcement an order may still take effect, in seconds: the longest request
/// of a connection takes a minute, and the rest is for OpenRouter's lists to catch up.
pub const SETTLED: u64 = 10 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_at_growing_distances_and_end_when_the_order_has_settled() {
        let announced = Timestamp::from_second(1_000).unwrap();
        let look = |offset| next_look(announced, after(announced, offset)).map(|t| t.as_second());
        assert_eq!(look(0), Some(1_005));
        assert_eq!(look(5), Some(1_030));
        assert_eq!(look(200), Some(1_600));
        assert_eq!(look(600), None);
    }
}
