//! The paths `forget-role/:name` and `forget-connection/:name`: the ways out where something cannot be
//! ended properly. Both need `sudo`: what they leave behind can go on spending.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

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
            "{} of the role's keys may still work at OpenRouter and are not known here any more: {}",
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
            "a connection is forgotten, and a key made with it left behind"
        );
    }
    let deleted = engine.storage.delete(&name.key()).await;
    // Even if that failed by its answer: it may be gone.
    engine.links.forget(&name).await;
    deleted.map_err(Error::from)?;
    let warning = (!left_behind.is_empty()).then(|| {
        format!(
            "{} keys cannot be revoked any more until the connection is written again, with a \
             management key of the same account",
            left_behind.len()
        )
    });
    let view = View {
        keys_left_behind: &left_behind,
    };
    Ok(Some(Response::showing(&view)?.with_warnings(warning)))
}

/// What is left.
#[derive(Serialize, JsonSchema)]
struct View<'a> {
    /// The hashes of the keys that may still work at OpenRouter.
    keys_left_behind: &'a BTreeSet<KeyHash>,
}

const ROLE_FIELDS: &[Field] = &[Field::switch(
    "revoke_keys",
    "Whether to revoke what can be revoked. With false the role's keys stay alive and are left to\n\
     whoever has them.",
)
.default("true")];

const ROLE_DESCRIPTION: &str = "\
Revokes the role's keys, all at once and each one time, and forgets the role whatever came of it. The
answer names in keys_left_behind the hashes of the keys that may still work; each is in the server's
log too. Nothing here leads to them any more: delete them at OpenRouter.

Use `delete` on the role where OpenRouter can be reached. This path is for a management key that is
lost, an account that is gone, or an entry that cannot be read. The leases of a dynamic role outlive
it, as with `delete`. It needs the sudo capability.";

const CONNECTION_DESCRIPTION: &str = "\
Forgets a connection although roles or leases use it. The keys made with it stay alive at OpenRouter
until they expire, or the connection is written again with a management key of the same account; the
answer names them in keys_left_behind, and so does the server's log. It needs the sudo capability.";
