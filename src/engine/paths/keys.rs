//! The paths `keys/:connection` and `keys/:connection/:hash`: every key that a connection's management key
//! can see. They never show a secret.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::field_of_path;
use crate::engine::books::Requester;
use crate::engine::context::Engine;
use crate::engine::custody::{Cursor, Inventory, Selection, inventory, read_key};
use crate::engine::error::Error;
use crate::engine::keys::{Known, Owner, State};
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::rotating::Standing;
use crate::framework::{Call, Endpoint, Field, Fields, Outcome, Path, Table};
use crate::logical::{Operation, Response};
use crate::openrouter::{KeyHash, Report, WorkspaceId};

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let all = Path::new("keys/:connection", "keys")
        .parameter("connection", "The connection's name.")
        .on(
            Operation::List,
            Endpoint::new("List the keys of an account, by hash.", list)
                .answers::<List<'_>>()
                .active_only(),
        )
        .on(
            Operation::Read,
            Endpoint::new("Read the keys of an account, in parts.", read)
                .takes(FIELDS.iter().cloned())
                .answers::<Part<'_>>()
                .active_only(),
        )
        .help(
            "List every key that a connection's management key can see, with its owner.",
            DESCRIPTION,
        );
    let one = Path::new("keys/:connection/:hash", "key")
        .parameter("connection", "The connection's name.")
        .parameter("hash", "The key's hash, 64 hexadecimal digits.")
        .on(
            Operation::Read,
            Endpoint::new("Read what is known about a key.", read_one)
                .answers::<KeyView<'_>>()
                .active_only(),
        )
        .help(
            "Read one key: what OpenRouter and the engine know about it.",
            ONE_DESCRIPTION,
        );
    vec![one, all]
}

/// The connection in the path.
pub(super) fn connection_of_path(fields: &Fields) -> Result<ConnectionName, Error> {
    ConnectionName::parse(field_of_path(fields, "connection"))
}

/// The key hash in the path.
pub(super) fn hash_of_path(fields: &Fields) -> Result<KeyHash, Error> {
    hash(field_of_path(fields, "hash"), "hash")
}

/// A key hash from this field.
pub(super) fn hash(text: &str, field: &str) -> Result<KeyHash, Error> {
    KeyHash::parse(text).map_err(|_| {
        Error::Invalid(format!(
            "{field} must be the SHA-256 of a key, 64 lowercase hexadecimal digits"
        ))
    })
}

async fn list(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    let everything = Selection {
        owner: None,
        state: None,
        workspace: None,
        most: MAX_KEYS,
        after: None,
    };
    let found = inventory(&engine, &connection, &everything).await?;
    let keys = found.keys.iter();
    let list = List {
        names: Table {
            keys: keys.clone().map(|key| key.hash.to_string()).collect(),
            key_info: keys
                .map(|key| (key.hash.to_string(), Row::of(key)))
                .collect(),
        },
        extent: Extent::of(&found),
    };
    let response = Response::showing(&list)?;
    Ok(Some(response.with_warnings(warnings(&found))))
}

async fn read(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    let selection = selection(&call.fields)?;
    let found = inventory(&engine, &connection, &selection).await?;
    let part = Part {
        keys: found.keys.iter().map(KeyView::of).collect(),
        extent: Extent::of(&found),
    };
    let response = Response::showing(&part)?;
    Ok(Some(response.with_warnings(warnings(&found))))
}

async fn read_one(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    let hash = hash_of_path(&call.fields)?;
    let known = read_key(&engine, &connection, &hash).await?;
    Ok(match known {
        None => None,
        Some(known) => Some(Response::showing(&KeyView::of(&known))?),
    })
}

fn selection(fields: &Fields) -> Result<Selection, Error> {
    let text = |field| fields.text(field).filter(|text| !text.is_empty());
    let most = match fields.integer("limit") {
        None => MAX_KEYS,
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|number| (1..=MAX_KEYS).contains(number))
            .ok_or_else(|| Error::Invalid(format!("limit must be between 1 and {MAX_KEYS}")))?,
    };
    let workspace = text("workspace_id").map(WorkspaceId::parse).transpose();
    Ok(Selection {
        owner: text("owner").map(str::to_owned),
        state: text("state").map(str::to_owned),
        workspace: workspace.map_err(|reason| Error::Invalid(format!("workspace_id: {reason}")))?,
        most,
        after: text("after").map(str::parse::<Cursor>).transpose()?,
    })
}

/// The keys by hash, in few columns.
#[derive(Serialize, JsonSchema)]
struct List<'a> {
    #[serde(flatten)]
    names: Table<Row<'a>>,
    #[serde(flatten)]
    extent: Extent,
}

/// The keys in full.
#[derive(Serialize, JsonSchema)]
struct Part<'a> {
    /// The keys.
    keys: Vec<KeyView<'a>>,
    #[serde(flatten)]
    extent: Extent,
}

/// Whether the response contains all keys.
#[derive(Serialize, JsonSchema)]
struct Extent {
    /// Whether the response contains all keys.
    complete: bool,
    /// Where to continue: the value of `after` for the next read. Null if these are all keys.
    next: Option<String>,
}

impl Extent {
    fn of(found: &Inventory) -> Self {
        let next = found.next.as_ref().map(ToString::to_string);
        Self {
            complete: next.is_none(),
            next,
        }
    }
}

fn warnings(found: &Inventory) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(next) = &found.next {
        let why = match &found.failure {
            Some(reason) => format!("the listing broke off: {reason}"),
            None => "there are more keys than this answer shows".to_owned(),
        };
        warnings.push(format!(
            "{why}; read the path with after={next} for the rest"
        ));
    }
    if found.unreadable > 0 {
        warnings.push(format!(
            "{} keys have no readable hash and are not shown",
            found.unreadable
        ));
    }
    warnings
}

/// A key in a list: few columns.
#[derive(Serialize, JsonSchema)]
struct Row<'a> {
    /// The key's name at OpenRouter.
    name: &'a str,
    /// The owner of the key: `role`, `lease`, `pending`, `lost`, `stray`, `other_mount` or `unmanaged`.
    owner: &'static str,
    /// The role that the key belongs to.
    role: Option<&'a RoleName>,
    /// The state of the key: `current`, `superseded`, `held`, `leased`, `disabled`, `expired` or
    /// `active`.
    state: &'static str,
    /// The spending limit, in US dollars; null if there is none.
    limit: &'a Option<serde_json::Number>,
    /// What the key has spent, in US dollars.
    usage: &'a Option<serde_json::Number>,
    /// When the key was last used.
    last_used_at: Option<Timestamp>,
    /// When the key expires; null if it does not.
    expires_at: Option<Timestamp>,
}

impl<'a> Row<'a> {
    fn of(key: &'a Known) -> Self {
        let report = &key.report;
        Self {
            name: &report.name,
            owner: key.owner.name(),
            role: key.owner.role(),
            state: key.state.name(),
            limit: &report.limit,
            usage: &report.usage,
            last_used_at: report.last_used_at,
            expires_at: report.expires_at,
        }
    }
}

/// A single key in full.
#[derive(Serialize, JsonSchema)]
pub(super) struct KeyView<'a> {
    /// The connection that sees the key.
    connection: &'a ConnectionName,
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    hash: &'a KeyHash,
    /// The state of the key: `current`, `superseded`, `held`, `leased`, `disabled`, `expired` or
    /// `active`.
    state: &'static str,
    #[serde(flatten)]
    owner: OwnerView<'a>,
    #[serde(flatten)]
    report: &'a Report,
}

impl<'a> KeyView<'a> {
    fn of(key: &'a Known) -> Self {
        Self {
            connection: &key.connection,
            hash: &key.hash,
            state: key.state.name(),
            owner: OwnerView::of(&key.owner),
            report: &key.report,
        }
    }
}

/// The owner of a key.
#[derive(Serialize, JsonSchema)]
pub(super) struct OwnerView<'a> {
    /// The owner of the key: `role`, `lease`, `pending`, `lost`, `stray`, `other_mount` or `unmanaged`.
    owner: &'static str,
    /// The role that the key belongs to.
    role: Option<&'a RoleName>,
    /// The key's version within its role.
    key_version: Option<u64>,
    /// When a superseded key is revoked, or a held key is deleted.
    revoke_at: Option<Timestamp>,
    /// When the lease on the key ends.
    leased_until: Option<Timestamp>,
    /// Who asked for a leased key.
    requester: Option<&'a Requester>,
}

impl<'a> OwnerView<'a> {
    pub(super) fn of(owner: &'a Owner) -> Self {
        let (revoke_at, lease) = match owner {
            Owner::Role(
                _,
                Some(Standing::Superseded { revoke_at: at, .. } | Standing::Held { until: at, .. }),
            ) => (Some(*at), None),
            Owner::Lease(record) => (None, Some(record)),
            _ => (None, None),
        };
        Self {
            owner: owner.name(),
            role: owner.role(),
            key_version: owner.version(),
            revoke_at,
            leased_until: lease.map(|record| record.until),
            requester: lease.and_then(|record| record.requester.as_ref()),
        }
    }
}

const FIELDS: &[Field] = &[
    Field::text("owner", "Only keys of this owner.")
        .one_of(Owner::NAMES)
        .query(),
    Field::text("state", "Only keys in this state.")
        .one_of(State::NAMES)
        .query(),
    Field::text("workspace_id", "Only keys of this workspace, a UUID.").query(),
    Field::integer(
        "limit",
        "The maximum number of keys to return, up to 10000.",
    )
    .default("10000")
    .query(),
    Field::text(
        "after",
        "Where to continue: the value of next from an earlier response.",
    )
    .query(),
];

/// More would not fit well in memory, here and in the server.
const MAX_KEYS: usize = 10_000;

const DESCRIPTION: &str = "\
Lists every key that the connection's management key can see, in every workspace, including disabled and
expired keys: those of this mount's roles and leases, those of other mounts, and those created by hand.
`vault list -detailed` shows name, owner, role, state, limit, usage, last use and expiry of each.

owner is role (a role's current, superseded or held key), lease (under a lease of a dynamic role),
pending (being created), lost (ordered, with an unknown outcome), stray (with this mount's mark, but
belonging to nobody), other_mount (with the mark of another mount of this engine) or unmanaged. state is
current, superseded or leased for a key that works; held for a superseded key that the engine has
disabled and deletes later; disabled or expired for any key that does not work; and active for any other
key that works.

A read shows everything that OpenRouter reports about each key, and accepts owner, state, workspace_id,
limit and after. A listing that takes longer than 45 seconds, or is interrupted, has complete=false;
pass the value of next as after to continue. Keys can be created or deleted between two parts, and a key
can be shown twice. One request to OpenRouter returns 99 keys.";

const ONE_DESCRIPTION: &str = "\
Returns what OpenRouter reports about one key, with its owner and state as for `keys/:connection`, and
role and key_version. A superseded or held key has revoke_at. A key under a lease has leased_until and
requester, with display_name, entity_id, request_id (which identifies the lease in Vault's audit log)
and at.";
