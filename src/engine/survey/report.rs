//! Publishes findings in the log, on the board, which a read of the role shows, and on the event bus.

use super::pass::Pass;
use crate::engine::books::{Drift, Noted};
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
    let (engine, message) = (pass.engine, message.into());
    tracing::warn!(
        mount = engine.mount,
        role = %role,
        connection = %pass.connection,
        key_hash = %hash,
        drift = drift.as_str(),
        "{message}"
    );
    events::drift(engine, role, pass.connection, drift, hash).await;
    let noted = Noted {
        found_at: engine.now(),
        drift,
        key_hash: hash.clone(),
        message,
    };
    engine.board.post(role, noted);
}
