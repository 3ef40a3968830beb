//! The paths `forget-role/:name` and `forget-connection/:name`, for roles and connections that cannot be
//! deleted. Both need `sudo`: the keys that they leave behind can still spend.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::config::settle::settle;
use crate::engine::connection::missing;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::Holdings;
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::Role;
use crate::engine::rotation;
use crate::engine::stored;
use crate::framework::{Call, Endpoint, Field, Outcome, Path};
use crate::logical::{Operation, Response};
use crate::openrouter::KeyHash;

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let role = Path::new("forget-role/:name", "role")
        .parameter("name", "The role's name.")
        .on(
            Operation::Update,
            Endpoint::new(
                "Forget a role, and leave behind the keys that cannot be revoked.",
                forget_role,
            )
            .takes(ROLE_FIELDS.iter().cloned())
            .answers::<View<'_>>()
            .verb("forget")
            .active_only(),
        )
        .help(
            "Forget a role whose keys cannot be revoked.",
            ROLE_DESCRIPTION,
        );
    let connection = Path::new("forget-connection/:name", "connection")
        .parameter("name", "The connection's name.")
        .on(
            Operation::Update,
            Endpoint::new(
                "Forget a connection, and leave behind the keys made with it.",
                forget_connection,
            )
            .answers::<View<'_>>()
            .verb("forget")
            .active_only(),
        )
        .help(
            "Forget a connection that is in use.",
            CONNECTION_DESCRIPTION,
        );
    vec![role, connection]
}

async fn forget_role(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let guard = engine.change(&name).await;
    let revoke = call.fields.switch("revoke_keys").unwrap_or(true);
    let Some(forgotten) = rotation::forget(&guard, revoke).await? else {
        return Err(Role::missing(&name).into());
    };
    let warning = (!forgotten.left_behind.is_empty()).then(|| {
        format!(
            "{} of the role's keys may still work at OpenRouter and are no longer tracked: {}",
            forgotten.left_behind.len(),
            forgotten.reason
        )
    });
    let view = View {
        keys_left_behind: &forgotten.left_behind,
    };
    Ok(Some(Response::showing(&view)?.with_warnings(warning)))
}

async fn forget_connection(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = ConnectionName::parse(call.fields.text("name").unwrap_or_default())?;
    let _held = engine.connection_locks.lock(&name.key()).await;
    let _closed = engine.links.close(&name)?;
    if !stored::exists(&*engine.storage, &name.key()).await? {
        return Err(missing(&name).into());
    }
    let left_behind = BTreeSet::from_iter(Holdings::of(&engine).await?.keys_of(&name));
    for key_hash in &left_behind {
        tracing::warn!(
            mount = engine.mount,
            connection = %name,
            %key_hash,
            "forgetting a connection; a key made with it is left behind"
        );
    }
    let deleted = engine.storage.delete(&name.key()).await;
    // Even if the deletion reported failure, the connection may be gone.
    settle(&engine, &name, deleted.map_err(Error::from)).await?;
    let warning = (!left_behind.is_empty()).then(|| {
        format!(
            "{} keys can no longer be revoked until the connection is written again, with a management \
             key of the same account",
            left_behind.len()
        )
    });
    let view = View {
        keys_left_behind: &left_behind,
    };
    Ok(Some(Response::showing(&view)?.with_warnings(warning)))
}

/// The keys that are left behind.
#[derive(Serialize, JsonSchema)]
struct View<'a> {
    /// The hashes of the keys that may still work at OpenRouter.
    keys_left_behind: &'a BTreeSet<KeyHash>,
}

const ROLE_FIELDS: &[Field] = &[Field::switch(
    "revoke_keys",
    "Whether to revoke the keys that can be revoked. With false the role's keys stay alive.",
)
.default("true")];

const ROLE_DESCRIPTION: &str = "\
Revokes the role's keys, all at once with one attempt each, and removes the role in any case. The
response lists in keys_left_behind the hashes of the keys that may still work; each is also in the
server's log. The engine no longer tracks these keys: delete them at OpenRouter.

If OpenRouter can be reached, use `delete` on the role instead. This path is for a lost management key,
an account that is gone, or an unreadable entry. The leases of a dynamic role outlive it, as with
`delete`. Requires the sudo capability.";

const CONNECTION_DESCRIPTION: &str = "\
Removes a connection even if roles or leases use it. The keys made with it stay alive at OpenRouter
until they expire, or until the connection is written again with a management key of the same account.
The response lists them in keys_left_behind, and they are in the server's log. Requires the sudo
capability.";
