//! The path `restore-key/:name`: makes a superseded or held key work again for a while.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::rotation;
use crate::framework::{Call, Endpoint, Field, Outcome, Path};
use crate::logical::{Operation, Response};
use crate::openrouter::KeyHash;

/// The path.
pub fn path() -> Path<Engine> {
    Path::new("restore-key/:name", "key")
        .parameter("name", "The role's name.")
        .on(
            Operation::Update,
            Endpoint::new("Make a superseded key work again.", restore)
                .takes(FIELDS.iter().cloned())
                .answers::<View<'_>>()
                .verb("restore")
                .active_only(),
        )
        .help("Make a superseded key work again for a while.", DESCRIPTION)
}

async fn restore(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let version = call.fields.integer("key_version");
    let version = version.and_then(|version| u64::try_from(version).ok());
    let version = version.filter(|version| *version > 0).ok_or_else(|| {
        Error::invalid(
            "key_version is required: the version of a superseded or held key, at least 1",
        )
    })?;
    let seconds = call.fields.seconds("duration").unwrap_or(DEFAULT_DURATION);
    if seconds == 0 {
        return Err(Error::invalid("duration must be at least 1 second").into());
    }
    let force = call.fields.switch("force").unwrap_or(false);
    let guard = engine.change(&name).await;
    engine.require_in_service()?;
    let role = guard.load().await?.ok_or_else(|| Role::missing(&name))?;
    let role = role.rotating(&name, "restore-key")?;
    let restored = rotation::restore(&guard, role, version, seconds, force).await?;
    let view = View {
        key_hash: &restored.hash,
        key_version: version,
        revoke_at: restored.revoke_at,
    };
    Ok(Some(
        Response::showing(&view)?.with_warnings(restored.warnings),
    ))
}

/// The restored key.
#[derive(Serialize, JsonSchema)]
struct View<'a> {
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    key_hash: &'a KeyHash,
    /// The key's version: 1 is the role's first key.
    key_version: u64,
    /// When the key is revoked again.
    revoke_at: Timestamp,
}

const FIELDS: &[Field] = &[
    Field::integer(
        "key_version",
        "The version of a superseded or held key, from a read of the role.",
    )
    .required(),
    Field::duration("duration", "How long the key works from now on.").default("24h"),
    Field::switch(
        "force",
        "Restore the key even if an emergency rotation ended it.",
    )
    .default("false"),
];

/// In seconds: 24 hours.
const DEFAULT_DURATION: u64 = 24 * 60 * 60;

const DESCRIPTION: &str = "\
Makes a held key work again for duration, or a superseded key work for at least that long from now on.
Use it if an application turns out to need an old key after its grace period. A key is held
until its role's revocation_hold ends, and at least ten minutes if the role has a budget or track_usage.
Otherwise it is deleted at the end of its grace period. A deleted key cannot be restored.

With a budget the limit of the current key is lowered first, and the held key gets what it has spent
plus a tenth of what is left. If that is not possible, the key is not enabled.

The current key is not affected, and readers keep getting it. After duration the restored key ends like
any superseded key. It never works past its expiry at OpenRouter; the response has a warning in this
case.

A key that was disabled outside the engine cannot be enabled here. A key that was ended by an emergency
rotation may be in the wrong hands and requires force=true.";
