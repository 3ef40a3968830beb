//! Events for the server's event bus, if it has one: rotations, failed rotations, superseded keys that are
//! still used, keys that a person revoked, disabled or enabled, budgets that are nearly spent, drift, and
//! finished runs.

use std::collections::BTreeMap;

use crate::engine::books::{Copies, Drift, Noted, Outcome};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::Owner;
use crate::engine::names::{ConnectionName, RoleName, RunId};
use crate::engine::role::Terms;
use crate::engine::role::budget::Alert;
use crate::engine::role::rotating::{LateUse, RotatingRole};
use crate::framework::EventKind;
use crate::logical::Event;
use crate::openrouter::KeyHash;

/// All events, for the reference.
pub const ALL: [EventKind; 12] = [
    ROTATE,
    ROTATE_FAIL,
    SUPERSEDED_KEY_USED,
    BUDGET_ALERT,
    DRIFT,
    TWO_COPIES,
    REVOKE_KEY,
    DISABLE_KEY,
    ENABLE_KEY,
    ROTATE_ALL,
    TIDY,
    TEARDOWN,
];

const ROTATE: EventKind = EventKind {
    name: "openrouter/rotate",
    sent: "a rotating role has a new key",
    metadata: &["connection", "modified", "key_version"],
};
const ROTATE_FAIL: EventKind = EventKind {
    name: "openrouter/rotate-fail",
    sent: "a rotation failed; the current key stays in service",
    metadata: &["connection", "attempts", "reason"],
};
const SUPERSEDED_KEY_USED: EventKind = EventKind {
    name: "openrouter/superseded-key-used",
    sent: "a superseded key was used after every lease on it had expired",
    metadata: &[
        "connection",
        "key_hash",
        "key_version",
        "last_used_at",
        "leased_until",
        "revoked",
    ],
};
const BUDGET_ALERT: EventKind = EventKind {
    name: "openrouter/budget-alert",
    sent: "a role has spent `budget_alert_percent` of its budget, or all of it; once a window each; `resets_at` only if the budget resets",
    metadata: &["connection", "level", "budget", "spent", "resets_at"],
};
const DRIFT: EventKind = EventKind {
    name: "openrouter/drift",
    sent: "the reconciliation found a key that differs from what is expected",
    metadata: &["connection", "drift", "key_hash"],
};
const TWO_COPIES: EventKind = EventKind {
    name: "openrouter/two-copies",
    sent: "another copy of this storage is active; sent again at each reconciliation",
    metadata: &["connection", "since", "key_hashes"],
};
/// The metadata of an operation on one key.
const OF_KEY: &[&str] = &["connection", "modified", "key_hash", "owner", "role"];
/// By `revoke-key`.
pub const REVOKE_KEY: EventKind = EventKind {
    name: "openrouter/revoke-key",
    sent: "`revoke-key` has deleted a key; `role` only if the key belongs to one",
    metadata: OF_KEY,
};
/// By `disable-key`.
pub const DISABLE_KEY: EventKind = EventKind {
    name: "openrouter/disable-key",
    sent: "`disable-key` has disabled a key",
    metadata: OF_KEY,
};
/// The same, for enabling.
pub const ENABLE_KEY: EventKind = EventKind {
    name: "openrouter/enable-key",
    sent: "`disable-key` with `disabled=false` has enabled a key",
    metadata: OF_KEY,
};
/// The metadata of a finished run.
const OF_RUN: &[&str] = &["connection", "total", "done", "skipped", "left"];
const ROTATE_ALL: EventKind = EventKind {
    name: "openrouter/rotate-all",
    sent: "a `rotate-all` has finished",
    metadata: OF_RUN,
};
const TIDY: EventKind = EventKind {
    name: "openrouter/tidy",
    sent: "a `tidy` has finished",
    metadata: OF_RUN,
};
const TEARDOWN: EventKind = EventKind {
    name: "openrouter/teardown",
    sent: "a `teardown` has finished",
    metadata: &["total", "done", "skipped", "left"],
};

/// A role has a new key. `trigger` is the reason for the rotation.
pub async fn rotated(engine: &Engine, name: &RoleName, role: &RotatingRole, trigger: &'static str) {
    engine.meters.rotated(trigger);
    let mut metadata = about(name, role, "rotate");
    metadata.insert("modified", "true".to_owned());
    metadata.insert("key_version", role.current.version.to_string());
    send(engine, ROTATE, metadata).await;
}

/// A rotation failed; the current key stays in service.
pub async fn rotation_failed(
    engine: &Engine,
    name: &RoleName,
    role: &RotatingRole,
    reason: &Error,
) {
    engine.meters.rotation_failed(reason.label());
    let mut metadata = about(name, role, "rotate");
    if let Some(failure) = &role.rotation_failure {
        metadata.insert("attempts", failure.attempts.to_string());
        metadata.insert("reason", failure.message.clone());
    }
    send(engine, ROTATE_FAIL, metadata).await;
}

/// A superseded key was used after every lease on it had expired. `is_kept` says whether it is therefore not
/// revoked.
pub async fn used_late(
    engine: &Engine,
    name: &RoleName,
    role: &RotatingRole,
    used: &LateUse,
    is_kept: bool,
) {
    engine.meters.used_late();
    let mut metadata = about(name, role, "revoke");
    metadata.insert("key_hash", used.hash.to_string());
    metadata.insert("key_version", used.version.to_string());
    metadata.insert("last_used_at", used.used_at.to_string());
    metadata.insert("leased_until", used.leased_until.to_string());
    metadata.insert("revoked", (!is_kept).to_string());
    send(engine, SUPERSEDED_KEY_USED, metadata).await;
}

/// A large part of a role's budget is spent. It is also logged.
pub async fn budget_alert(engine: &Engine, name: &RoleName, terms: &Terms, alert: Alert) {
    let Some(budget) = &terms.budget else {
        return;
    };
    tracing::warn!(
        mount = engine.mount,
        role = %name,
        level = alert.level.as_str(),
        "{}",
        alert.in_words(budget)
    );
    let mut metadata = BTreeMap::from([
        ("path", name.key()),
        ("operation", "budget-alert".to_owned()),
        ("connection", terms.connection.to_string()),
        ("level", alert.level.as_str().to_owned()),
        ("budget", budget.amount.as_usd().to_string()),
        ("spent", alert.spent.as_usd().to_string()),
    ]);
    if let Some(end) = alert.ends_at() {
        metadata.insert("resets_at", end.to_string());
    }
    send(engine, BUDGET_ALERT, metadata).await;
}

/// Drift was found in a role's key. It is also logged, and shown by a read of the role.
pub async fn drift(
    engine: &Engine,
    role: &RoleName,
    connection: &ConnectionName,
    (drift, hash): (Drift, &KeyHash),
    message: String,
) {
    tracing::warn!(
        mount = engine.mount,
        role = %role,
        connection = %connection,
        key_hash = %hash,
        drift = drift.as_str(),
        "{message}"
    );
    engine.meters.drifted(drift.as_str());
    let metadata = BTreeMap::from([
        ("path", role.key()),
        ("operation", "reconcile".to_owned()),
        ("connection", connection.to_string()),
        ("drift", drift.as_str().to_owned()),
        ("key_hash", hash.to_string()),
    ]);
    send(engine, DRIFT, metadata).await;
    let noted = Noted {
        found_at: engine.now(),
        drift,
        key_hash: hash.clone(),
        message,
    };
    engine.board.post(role, noted);
}

/// Another copy of this storage is active.
pub async fn two_copies(engine: &Engine, connection: &ConnectionName, copies: &Copies) {
    let keys: Vec<String> = copies.keys.iter().map(ToString::to_string).collect();
    let metadata = BTreeMap::from([
        ("path", connection.key()),
        ("operation", "reconcile".to_owned()),
        ("connection", connection.to_string()),
        ("since", copies.since.to_string()),
        ("key_hashes", keys.join(",")),
    ]);
    send(engine, TWO_COPIES, metadata).await;
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

/// A person revoked, disabled or enabled a key.
pub async fn key_changed(
    engine: &Engine,
    kind: EventKind,
    connection: &ConnectionName,
    hash: &KeyHash,
    owner: &Owner,
) {
    let operation = kind.name.rsplit('/').next().unwrap_or(kind.name);
    let mut metadata = BTreeMap::from([
        ("path", format!("{operation}/{connection}/{hash}")),
        ("operation", operation.to_owned()),
        ("modified", "true".to_owned()),
        ("connection", connection.to_string()),
        ("key_hash", hash.to_string()),
        ("owner", owner.name().to_owned()),
    ]);
    if let Some(role) = owner.role() {
        metadata.insert("role", role.to_string());
    }
    send(engine, kind, metadata).await;
}

/// A run has finished.
pub async fn run_over(engine: &Engine, id: &RunId, outcome: &Outcome) {
    let (kind, operation, connection) = match id {
        RunId::RotateAll(connection) => (ROTATE_ALL, "rotate-all", Some(connection)),
        RunId::Tidy(connection) => (TIDY, "tidy", Some(connection)),
        RunId::Teardown => (TEARDOWN, "teardown", None),
    };
    let mut metadata = BTreeMap::from([
        ("path", id.to_string()),
        ("operation", operation.to_owned()),
        ("total", outcome.total.to_string()),
        ("done", outcome.done.to_string()),
        ("skipped", outcome.skipped.count.to_string()),
        ("left", outcome.left.count.to_string()),
    ]);
    if let Some(connection) = connection {
        metadata.insert("connection", connection.to_string());
    }
    send(engine, kind, metadata).await;
}

async fn send(engine: &Engine, kind: EventKind, metadata: BTreeMap<&'static str, String>) {
    let kind = kind.name;
    let id = u128::from_be_bytes(engine.randomness.bytes());
    let id = format!("{id:032x}");
    engine.events.send(Event { kind, id, metadata }).await;
}
