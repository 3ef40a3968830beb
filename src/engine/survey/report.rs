//! Publishes findings in the log, on the board, which a read of the role shows, and on the event bus.

use super::pass::Pass;
use crate::engine::books::Drift;
use crate::engine::events;
use crate::engine::names::RoleName;
use crate::openrouter::KeyHash;

/// Reports a finding about a role's key.
pub(super) async fn report(
    pass: &Pass<'_>,
    role: &RoleName,
    drift: Drift,
    hash: &KeyHash,
    message: impl Into<String>,
) {
    let found = (drift, hash);
    events::drift(pass.engine, role, pass.connection, found, message.into()).await;
}
