//! The paths `roles` and `roles/:name`.

use std::sync::Arc;

use super::entry::{PREFIX, Role, RoleName};
use super::{delete, fields, status, write};
use crate::engine::state::Engine;
use crate::framework::{Call, Endpoint, Outcome, Path};
use crate::logical::{Operation, Response};

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let list = Path::new("roles", "roles")
        .on(Operation::List, Endpoint::new("List the roles.", list))
        .help("List the roles.", "The names of all roles of this mount.");
    let role = Path::new("roles/:name", "role")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a role and its rotation status.", read),
        )
        .on_write(
            Endpoint::new("Create a role, or change parts of it.", write::write)
                .takes(fields::WRITE.iter().cloned())
                .active_only(),
        )
        .on(
            Operation::Patch,
            Endpoint::new("Change parts of a role.", write::write)
                .takes(fields::WRITE.iter().cloned())
                .active_only(),
        )
        .on(
            Operation::Delete,
            Endpoint::new("Revoke a role's keys and delete it.", delete::delete)
                .takes(fields::DELETE.iter().cloned())
                .active_only(),
        )
        .exists(|engine: Arc<Engine>, fields| async move {
            let name = RoleName::of_path(&fields)?;
            Ok(Role::load(&*engine.storage, &name).await?.is_some())
        })
        .help(SYNOPSIS, DESCRIPTION);
    vec![role, list]
}

async fn read(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let role = Role::load(&*engine.storage, &name).await?;
    Ok(role.map(|role| status::of(&role, engine.clock.now())))
}

async fn list(engine: Arc<Engine>, _: Call) -> Outcome {
    Ok(Some(Response::list(engine.storage.list(PREFIX).await?)))
}

const SYNOPSIS: &str = "Describe the OpenRouter keys to hand out, and see how they are doing.";

const DESCRIPTION: &str = "\
A role holds one OpenRouter API key that all its readers share. Creating the role makes the key;
from then on it is replaced by rotation_period or rotation_schedule, and by `rotate-role`.

A rotation makes a new key, proves it, and hands it out from then on. The key before is superseded:
it keeps working for rotation_grace_period and is then revoked. A reader gets the key for ttl, which
is at most nine tenths of that, so no reader is left with a dead key.

An update changes only what it names. limit, limit_reset and include_byok_in_limit are changed on
the live key at once; key_name, workspace_id, connection and key_max_lifetime take effect with the
next key. A limit is a limit of each key: every rotation begins with the full amount.

Reading a role also shows its status: current_key and superseded_keys without their secrets,
last_vault_rotation, next_vault_rotation, last_rotation_attempt, rotation_status (success, failed
or pending), last_rotation_message and last_rotation_manual.

Deleting a role revokes its keys first. If OpenRouter cannot be reached the role stays; if it is
unclear whether the current key was revoked, that key is handed out no more and the deletion goes on
by itself. force=true forgets the role and names the keys that are left behind.";
