//! The path `rotate-role/:name`: rotates a role now.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::role::rotating::{RotatingRole, rotation_due};
use crate::engine::rotation::{revoke_all, rotate_manually};
use crate::framework::{Call, Endpoint, Field, Outcome, Path};
use crate::logical::{Operation, Response};
use crate::openrouter::KeyHash;

/// The path.
pub fn path() -> Path<Engine> {
    Path::new("rotate-role/:name", "role")
        .parameter("name", "The role's name.")
        .on(
            Operation::Update,
            Endpoint::new("Replace a role's key now.", rotate_now)
                .takes(FIELDS.iter().cloned())
                .answers::<View<'_>>()
                .verb("rotate")
                .active_only(),
        )
        .help("Rotate a role's key now.", DESCRIPTION)
}

async fn rotate_now(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    engine.require_in_service()?;
    let asked_grace = call.fields.seconds("rotation_grace_period");
    let (guard, role) = take_turn(&engine, &name, asked_grace).await?;
    let caller_gone = &call.request.caller_gone;
    let mut role = rotate_manually(&guard, role, asked_grace, Timestamp::MAX, caller_gone).await?;
    if asked_grace == Some(0) {
        let unrevoked;
        (role, unrevoked) = revoke_all(&guard, role).await?;
        if let Some(reason) = unrevoked {
            return Err(Error::Incomplete(format!(
                "role {:?} has a new key, version {}, but an old one may still work: {reason}; the \
                 engine retries its revocation until OpenRouter confirms it; see superseded_keys \
                 of the role",
                name.to_string(),
                role.current.version
            ))
            .into());
        }
    }
    let view = View::of(&role, engine.now());
    Ok(Some(Response::showing(&view)?))
}

/// Waits for the role's lock. If the role was rotated in the meantime, the request is rejected, since the
/// caller has what it asked for, unless it is an emergency.
async fn take_turn<'a>(
    engine: &'a Engine,
    name: &RoleName,
    asked_grace: Option<u64>,
) -> Result<(RoleGuard<'a>, RotatingRole), Error> {
    let rotating = |role: Role| role.rotating(name, "rotate-role");
    let load = async |guard: &RoleGuard<'_>| {
        let role = guard.load().await?;
        role.ok_or_else(|| Role::missing(name)).and_then(rotating)
    };
    if let Some(guard) = engine.try_change(name) {
        let role = load(&guard).await?;
        return Ok((guard, role));
    }
    let before = Role::require(&*engine.storage, name).await?;
    let before = rotating(before)?;
    let guard = engine.change(name).await;
    let role = load(&guard).await?;
    if role.current.version != before.current.version && asked_grace != Some(0) {
        return Err(Error::Conflict(format!(
            "role {:?} was rotated at {} while this request waited for its turn",
            name.to_string(),
            role.current.since
        )));
    }
    Ok((guard, role))
}

/// The result of a rotation, without a secret.
#[derive(Serialize, JsonSchema)]
struct View<'a> {
    /// The hash of the new key.
    key_hash: &'a KeyHash,
    /// The new key as OpenRouter shows it, mostly masked.
    key_label: &'a str,
    /// The new key's name at OpenRouter.
    key_name: &'a str,
    /// The new key's version.
    key_version: u64,
    /// When the role was rotated.
    last_vault_rotation: Timestamp,
    /// When the next automatic rotation is due; null if there is none.
    next_vault_rotation: Option<Timestamp>,
    /// When the new key expires at OpenRouter; null if it does not.
    expires_at: Option<Timestamp>,
    /// The older keys that still work.
    superseded_keys: Vec<Superseded<'a>>,
}

#[derive(Serialize, JsonSchema)]
struct Superseded<'a> {
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    hash: &'a KeyHash,
    /// The key's version: 1 is the role's first key.
    version: u64,
    /// When the key is revoked.
    revoke_at: Timestamp,
}

impl<'a> View<'a> {
    fn of(role: &'a RotatingRole, now: Timestamp) -> Self {
        let key = &role.current;
        let working = role.superseded.iter().filter(|key| !key.stage.is_held());
        let superseded = working.map(|key| Superseded {
            hash: &key.hash,
            version: key.version,
            revoke_at: key.revoke_at,
        });
        Self {
            key_hash: &key.hash,
            key_label: &key.label,
            key_name: &key.name,
            key_version: key.version,
            last_vault_rotation: key.since,
            next_vault_rotation: rotation_due(role, now).time(),
            expires_at: key.expires_at,
            superseded_keys: superseded.collect(),
        }
    }
}

const FIELDS: &[Field] = &[Field::duration(
    "rotation_grace_period",
    "How long the old key keeps working after this rotation. 0 is an emergency: every older key\n\
     of the role is revoked before the response is sent, or disabled if the role has a\n\
     revocation_hold, a budget or track_usage.",
)
.default("the role's own")];

const DESCRIPTION: &str = "\
Creates a new key, hands it out from now on, and counts the next automatic rotation from now. The old
key keeps working for rotation_grace_period, by default the role's own.

If a key has leaked, set rotation_grace_period=0: every older key of the role is revoked, or disabled if
the role has a revocation_hold, a budget or track_usage, before the response is sent. Readers have a
dead key until they read again.

Returns the new key's metadata and when the older keys are revoked, but never a secret. A role with
disable_automated_rotation is rotated only by this path.";
