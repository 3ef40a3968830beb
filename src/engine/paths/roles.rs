//! The paths `roles` and `roles/:name`. The work depends on the kind of role.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::books::{Finding, Noted, in_words};
use crate::engine::context::Engine;
use crate::engine::names::{ROLES, RoleName};
use crate::engine::role::rotating::{self, Unconfirmed};
use crate::engine::role::{Kind, Role, fields};
use crate::engine::{leasing, rotation, stored};
use crate::framework::{Call, Endpoint, Outcome, Path, Table};
use crate::logical::{Error, Operation, Response};

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let list = Path::new("roles", "roles")
        .on(
            Operation::List,
            Endpoint::new("List the roles.", list).answers::<Table<Row>>(),
        )
        .help("List the roles.", LIST_DESCRIPTION);
    let role = Path::new("roles/:name", "role")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a role and its status.", read)
                .answers::<View<rotating::StatusView<'_>>>()
                .answers::<View<leasing::StatusView<'_>>>(),
        )
        .on_write(
            Endpoint::new("Create a role, or change parts of it.", write)
                .takes(fields::write())
                .active_only(),
        )
        .on(
            Operation::Patch,
            Endpoint::new("Change parts of a role.", write)
                .takes(fields::write())
                .active_only(),
        )
        .on(
            Operation::Delete,
            Endpoint::new("Revoke a role's keys and delete it.", delete).active_only(),
        )
        .exists(|engine: Arc<Engine>, fields| async move {
            let name = RoleName::of_path(&fields)?;
            Ok(stored::exists(&*engine.storage, &name.key()).await?)
        })
        .help(SYNOPSIS, DESCRIPTION);
    vec![role, list]
}

async fn read(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let role = Role::load(&*engine.storage, &name).await?;
    Ok(Some(match role {
        None => return Ok(None),
        Some(Role::Rotating(role)) => {
            let unconfirmed = unconfirmed(&engine, &name);
            let status = rotating::status(&role, unconfirmed, engine.now());
            shown(&engine, &name, status)?
        }
        Some(Role::Dynamic(role)) => shown(&engine, &name, leasing::status(&engine, &name, &role))?,
    }))
}

/// A role's status and warnings, with the findings of the comparisons with OpenRouter.
fn shown<S: Serialize>(
    engine: &Engine,
    name: &RoleName,
    (status, warnings): (S, Vec<String>),
) -> Result<Response, Error> {
    let is_known = engine.books_if_open().is_some();
    let drift = is_known.then(|| engine.board.of(name));
    let response = Response::showing(&View { status, drift })?;
    let copies = engine.board.copies();
    Ok(response
        .with_warnings(warnings)
        .with_warnings(copies.as_ref().map(in_words)))
}

/// The response to a read of a role of either kind.
#[derive(Serialize, JsonSchema)]
struct View<S> {
    #[serde(flatten)]
    status: S,
    /// The last differences that were found between the role's keys and OpenRouter. Null on a node that
    /// only serves reads.
    drift: Option<Vec<Noted>>,
}

/// The keys that were ordered for a role and whose outcome is unknown, if this node knows them.
fn unconfirmed(engine: &Engine, name: &RoleName) -> Option<Vec<Unconfirmed>> {
    let intents = engine.books_if_open()?.intents;
    let adrift = intents.adrift_of(name).into_iter();
    let shown = adrift.map(|written| Unconfirmed {
        revoke_at: match intents.searches.of(&written.data.nonce).finding {
            Finding::InUse(until) => Some(until),
            Finding::Unknown | Finding::Nothing => None,
        },
        name: written.data.key_name,
        ordered: written.at,
    });
    Some(shown.collect())
}

async fn list(engine: Arc<Engine>, _: Call) -> Outcome {
    let names = engine.storage.list(ROLES).await?;
    // What this node has in memory, if it is the one that manages the roles.
    let key_info = match engine.roster.is_complete() {
        true => names
            .iter()
            .filter_map(|name| Some((name.clone(), Row::of(&engine, name)?)))
            .collect(),
        false => BTreeMap::new(),
    };
    Ok(Some(Response::showing(&Table {
        keys: names,
        key_info,
    })?))
}

/// A role in a detailed list.
#[derive(Serialize, JsonSchema)]
struct Row {
    /// `rotating` or `dynamic`; `unreadable` if the stored entry cannot be read.
    credential_type: &'static str,
    /// `success`, also while a rotation is pending, or `failed`.
    rotation_status: &'static str,
    /// When the next automatic rotation is due; null if there is none.
    next_vault_rotation: Option<Timestamp>,
    /// How many superseded keys the role has.
    superseded_keys: usize,
}

impl Row {
    fn of(engine: &Engine, name: &str) -> Option<Self> {
        let seen = engine.roster.seen(&RoleName::new(name)?)?;
        Some(Self {
            credential_type: seen.condition.kind(),
            rotation_status: seen.condition.status(),
            next_vault_rotation: seen.next_rotation,
            superseded_keys: seen.superseded,
        })
    }
}

async fn write(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let guard = engine.change(&name).await;
    let before = guard.load().await?;
    if before.is_none() && call.request.operation == Operation::Patch {
        return Err(Role::missing(&name).into());
    }
    let fields = &call.fields;
    let kind = fields::kind_of_write(before.as_ref().map(Role::kind), fields)?;
    let warnings = match (kind, before) {
        (Kind::Rotating, Some(Role::Rotating(role))) => {
            rotation::update(&guard, *role, fields).await?
        }
        (Kind::Rotating, _) => match fields.secret("api_key") {
            Some(secret) => rotation::adopt(&guard, fields, secret).await?,
            None => rotation::create(&guard, fields, &call.request.caller_gone).await?,
        },
        (Kind::Dynamic, Some(Role::Dynamic(role))) => {
            leasing::write(&guard, Some(&role), fields).await?
        }
        (Kind::Dynamic, _) => leasing::write(&guard, None, fields).await?,
    };
    Ok((!warnings.is_empty()).then(|| Response::default().with_warnings(warnings)))
}

async fn delete(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let guard = engine.change(&name).await;
    match guard.load().await? {
        None => Ok(None),
        Some(Role::Rotating(role)) => {
            rotation::delete(&guard, *role).await?;
            Ok(None)
        }
        Some(Role::Dynamic(role)) => Ok(leasing::delete(&guard, &role).await?),
    }
}

const LIST_DESCRIPTION: &str = "\
Lists the names of all roles of this mount. `vault list -detailed` shows credential_type,
rotation_status, next_vault_rotation and the number of superseded_keys of each, as last seen by the
active node. This reads no role from storage.";

const SYNOPSIS: &str = "Define the OpenRouter keys to hand out, and read their status.";

const DESCRIPTION: &str = "\
A role has one of two kinds, its credential_type, which cannot be changed after creation.

A rotating role has one OpenRouter API key that all its readers share. Creating the role creates the
key. From then on it is replaced according to rotation_period or rotation_schedule, and by
`rotate-role`.

Creating a rotating role with api_key adopts an existing key as its first key, so that an application
can keep its key. The key must be an ordinary, living key of the connection's account. limit,
limit_reset, include_byok_in_limit, workspace and guardrail are taken from the key, unless they are in
the request; then they are applied to the key. To give a key back, write to `forget-role` with
revoke_keys=false.

A rotation creates a new key, verifies it, and hands it out from then on. The previous key is
superseded: it keeps working for rotation_grace_period and is then revoked. A reader gets the key for
ttl, which is at most nine tenths of that, so no reader is left with a dead key.

A dynamic role creates a separate key for every read of `creds`, under a lease of ttl that can be
renewed up to max_ttl. When the lease ends, the key is deleted. max_leases limits the number of
concurrent leases. key_name can contain the requester: {{display_name}}, {{entity_name}}.

An update changes only the fields in the request. On a rotating role limit, limit_reset and
include_byok_in_limit are changed on the live key at once; key_name, workspace, connection,
creator_user_id and key_max_lifetime take effect with the next key. limit applies to each key: every
rotation and every lease starts with the full amount.

With a revocation_hold a superseded key is disabled at the end of its grace period, and deleted after
the hold. Until then `restore-key` can make it work again.

guardrail, workspace and a changed creator_user_id are looked up at OpenRouter when they are written, and
all three when the connection changes; guardrail also when the workspace changes. A read shows guardrail
and workspace as they were written, and the ids that were found as guardrail_id and workspace_id. A key is
assigned to the guardrail, and the assignment is verified, before the key is handed out. A changed
guardrail is assigned to every living key at once. An empty one, or one that is written together with
another connection or workspace, takes effect with the next key. A key that was removed from its guardrail
in OpenRouter's dashboard is assigned again. While that fails, the current key is not handed out.

Reading a rotating role also shows its status: current_key, superseded_keys and held_keys without their
secrets, drift, unconfirmed_keys, last_vault_rotation, next_vault_rotation, last_rotation_attempt,
rotation_status (success, failed or pending), last_rotation_message and last_rotation_manual. An
unconfirmed key was ordered, and its outcome is unknown; one with a revoke_at was found and may be in
use until then. Reading a dynamic role shows its living_leases.

Deleting a rotating role revokes its keys first. If OpenRouter cannot be reached, the role stays. If it
is unclear whether the current key was revoked, the key is no longer handed out and the engine keeps
retrying the deletion. `forget-role` removes a role whose keys cannot be revoked. The leases of a
dynamic role outlive it, and can still be revoked.";
