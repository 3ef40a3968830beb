//! The paths `revoke-key/:connection/:hash` and `disable-key/:connection/:hash`. Both need `sudo`, since they
//! reach every key of the account.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::keys::{OwnerView, connection_of_path, hash_of_path};
use crate::engine::context::Engine;
use crate::engine::custody::{revoke, set_disabled};
use crate::engine::error::Error;
use crate::framework::{Call, Endpoint, Field, Outcome, Path};
use crate::logical::{Operation, Response};
use crate::openrouter::KeyHash;

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let revoke = Path::new("revoke-key/:connection/:hash", "key")
        .on(
            Operation::Update,
            Endpoint::new("Delete one key at OpenRouter.", revoke_key)
                .takes([FORCE])
                .answers::<View<'_>>()
                .verb("revoke")
                .active_only(),
        )
        .help("Delete one key at OpenRouter.", REVOKE_DESCRIPTION);
    let disable = Path::new("disable-key/:connection/:hash", "key")
        .on(
            Operation::Update,
            Endpoint::new(
                "Disable one key at OpenRouter, or enable it again.",
                disable_key,
            )
            .takes([DISABLED, FORCE])
            .answers::<View<'_>>()
            .verb("disable")
            .active_only(),
        )
        .help(
            "Disable one key at OpenRouter, or enable it again.",
            DISABLE_DESCRIPTION,
        );
    [revoke, disable]
        .map(|path| {
            path.parameter("connection", "The connection that sees the key.")
                .parameter("hash", "The key's hash, 64 hexadecimal digits.")
        })
        .into()
}

async fn revoke_key(engine: Arc<Engine>, call: Call) -> Outcome {
    let (connection, hash) = (
        connection_of_path(&call.fields)?,
        hash_of_path(&call.fields)?,
    );
    let force = call.fields.switch("force").unwrap_or(false);
    let owner = revoke(&engine, &connection, &hash, force).await?;
    let view = View {
        key_hash: &hash,
        owner: OwnerView::of(&owner),
        disabled: None,
    };
    Ok(Some(Response::showing(&view)?))
}

async fn disable_key(engine: Arc<Engine>, call: Call) -> Outcome {
    let (connection, hash) = (
        connection_of_path(&call.fields)?,
        hash_of_path(&call.fields)?,
    );
    let disabled = call.fields.switch("disabled").ok_or_else(|| {
        Error::invalid("disabled is required: true disables the key, false enables it again")
    })?;
    let force = call.fields.switch("force").unwrap_or(false);
    let owner = set_disabled(&engine, &connection, &hash, disabled, force).await?;
    let view = View {
        key_hash: &hash,
        owner: OwnerView::of(&owner),
        disabled: Some(disabled),
    };
    Ok(Some(Response::showing(&view)?))
}

/// The key and its owner.
#[derive(Serialize, JsonSchema)]
struct View<'a> {
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    key_hash: &'a KeyHash,
    #[serde(flatten)]
    owner: OwnerView<'a>,
    /// Whether the key is disabled now. Only in the answer of `disable-key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<bool>,
}

const FORCE: Field = Field::switch(
    "force",
    "Required for a superseded key, a key under a lease, and a key of another mount, which may be \
     in use.",
)
.default("false");

const DISABLED: Field =
    Field::switch("disabled", "true disables the key, false enables it again.").required();

const REVOKE_DESCRIPTION: &str = "\
Deletes a key at OpenRouter permanently. Unmanaged, stray and held keys are deleted without force. A
superseded key, a key under a lease, and a key of another mount require force=true. A role's current key
cannot be revoked here: `rotate-role` with rotation_grace_period=0 replaces it and then revokes it. A
key that is being created, or whose outcome is unknown, is left to the engine.

If OpenRouter's answer is unclear, the key may still work, and the response is an error. The engine
keeps retrying the revocation of a superseded key; for any other key, repeat the request. Requires the
sudo capability.";

const DISABLE_DESCRIPTION: &str = "\
Disables a key until it is enabled again. The same keys can be disabled
as with `revoke-key`, and the same ones require force=true. A role's current key can also be disabled
with force=true. It is then no longer handed out, and is not replaced automatically: enable it, or write
to `rotate-role`. Enabling a key does not require force. A held key is enabled with `restore-key`.
Requires the sudo capability.";
