//! The paths `creds/:name` and `static-creds/:name`: what a role hands out.
//!
//! A rotating role's reader gets the key that all share, a dynamic role's one of their own.

use std::sync::Arc;

use crate::engine::context::Engine;
use crate::engine::leasing;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::framework::{Call, Endpoint, Outcome, Path};
use crate::logical::{Error, Operation};

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let leased = Path::new("creds/:name", "credentials")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a role's key, under a lease.", read_leased).verb("generate"),
        )
        .help("Read a role's API key, under a lease.", LEASED_DESCRIPTION);
    let unleased = Path::new("static-creds/:name", "static-credentials")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a role's key, without a lease.", read_unleased),
        )
        .help(
            "Read a rotating role's API key, without a lease.",
            UNLEASED_DESCRIPTION,
        );
    vec![leased, unleased]
}

async fn read_leased(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let (role, longest, node) = tokio::join!(
        Role::require(&*engine.storage, &name),
        engine.system.max_lease_ttl(),
        engine.system.replication_state()
    );
    // Forwarded to the active node: a standby of OpenBao's serves reads, but fails to register the
    // lease. A performance secondary has leases of its own.
    let node = node?;
    if node.is_standby() {
        return Err(Error::ReadOnly);
    }
    let longest = longest?;
    Ok(Some(match role? {
        Role::Rotating(role) => leasing::leased(&engine, &name, *role, longest).await?,
        Role::Dynamic(_) if !engine.system.may_write_as(node).await? => {
            return Err(Error::ReadOnly);
        }
        Role::Dynamic(role) => {
            leasing::issue(&engine, &name, &role, &call.request, longest).await?
        }
    }))
}

async fn read_unleased(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let role = Role::require(&*engine.storage, &name).await?;
    let role = role.rotating(&name, "static-creds")?;
    Ok(Some(leasing::unleased(&engine, &name, role).await?))
}

const LEASED_DESCRIPTION: &str = "\
Of a rotating role: returns the current key as api_key, with key_hash, key_name, key_version,
last_vault_rotation, rotation_period and ttl. Between two rotations only ttl changes. The key works
for at least ttl seconds more, whatever rotation comes, unless somebody makes an emergency rotation.
The lease is not renewable: read again before it ends, which brings the next key in time. Revoking
the lease does not revoke the key, since its other readers need it.

Of a dynamic role: makes a key for this lease and returns it as api_key, with key_hash, key_name,
limit, limit_reset and expires_at. The lease is renewable up to the role's max_ttl. Revoking it, or
letting it run out, deletes the key at OpenRouter.";

const UNLEASED_DESCRIPTION: &str = "\
Returns the same as creds of a rotating role: api_key, key_hash, key_name, key_version,
last_vault_rotation, rotation_period and ttl, without a lease, for clients that cannot use one. Read
again within ttl seconds: so long the key works at least. A dynamic role has no such key.";
