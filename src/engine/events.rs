//! News for the server's event bus, where it has one: rotations, and those that failed.

use std::collections::BTreeMap;

use crate::engine::context::Engine;
use crate::engine::names::RoleName;
use crate::engine::role::rotating::RotatingRole;
use crate::logical::Event;

/// A role has a new key.
pub async fn rotated(engine: &Engine, name: &RoleName, role: &RotatingRole) {
    let mut metadata = about(name, role, "rotate");
    metadata.insert("modified", "true".to_owned());
    metadata.insert("key_version", role.current.version.to_string());
    send(engine, "openrouter/rotate", metadata).await;
}

/// A rotation failed; the current key stays in service.
pub async fn rotation_failed(engine: &Engine, name: &RoleName, role: &RotatingRole) {
    let mut metadata = about(name, role, "rotate");
    if let Some(failure) = &role.rotation_failure {
        metadata.insert("attempts", failure.attempts.to_string());
        metadata.insert("reason", failure.message.clone());
    }
    send(engine, "openrouter/rotate-fail", metadata).await;
}

fn about(
    name: &RoleName,
    role: &RotatingRole,
    operation: &'static str,
) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("path", name.key()),
        ("operation", operation.to_owned()),
        ("connection", role.definition.terms.connection.to_string()),
    ])
}

async fn send(engine: &Engine, kind: &'static str, metadata: BTreeMap<&'static str, String>) {
    let id = u128::from_be_bytes(engine.randomness.bytes());
    let id = format!("{id:032x}");
    engine.events.send(Event { kind, id, metadata }).await;
}
