//! The paths `keys/:connection` and `keys/:connection/:hash`: every key that a connection's management
//! key sees. Nothing here is ever a secret.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::field_of_path;
use crate::engine::books::Requester;
use crate::engine::context::Engine;
use crate::engine::custody::{Cursor, Inventory, Selection, inventory, look_at};
use crate::engine::error::Error;
use crate::engine::keys::{Known, Owner, State};
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::rotating::Standing;
use crate::framework::{Call, Endpoint, Field, Fields, Outcome, Path};
use crate::logical::{Data, Operation, Response};
use crate::openrouter::{KeyHash, Report, WorkspaceId};

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let all = Path::new("keys/:connection", "keys")
        .parameter("connection", "The connection's name.")
        .on(
            Operation::List,
            Endpoint::new("List the keys of an account, by hash.", list).active_only(),
        )
        .on(
            Operation::Read,
            Endpoint::new("Read the keys of an account, in parts.", read)
                .takes(FIELDS.iter().cloned())
                .active_only(),
        )
        .help(
            "Every key that a connection's management key sees, and whose it is.",
            DESCRIPTION,
        );
    let one = Path::new("keys/:connection/:hash", "key")
        .parameter("connection", "The connection's name.")
        .parameter("hash", "The key's hash, 64 hexadecimal digits.")
        .on(
            Operation::Read,
            Endpoint::new("Read what is known of a key.", read_one).active_only(),
        )
        .help(
            "One key: what OpenRouter says of it, and what the engine knows.",
            ONE_DESCRIPTION,
        );
    vec![one, all]
}

/// The connection that a path names.
pub(super) fn connection_of_path(fields: &Fields) -> Result<ConnectionName, Error> {
    ConnectionName::parse(field_of_path(fields, "connection"))
}

/// The key that a path names.
pub(super) fn hash_of_path(fields: &Fields) -> Result<KeyHash, Error> {
    hash(field_of_path(fields, "hash"), "hash")
}

/// A key hash that came as this field.
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
        most: MOST,
        after: None,
    };
    let found = inventory(&engine, &connection, &everything).await?;
    let names = found.keys.iter().map(|key| key.hash.to_string()).collect();
    let mut response = Response::list(names);
    let rows = found.keys.iter().map(|key| {
        let row = serde_json::to_value(Row::of(key)).unwrap_or_default();
        (key.hash.to_string(), row)
    });
    let rows: Data = rows.collect();
    if !rows.is_empty() {
        response.data.insert("key_info".to_owned(), rows.into());
    }
    add_extent(&mut response.data, &found);
    Ok(Some(response.with_warnings(warnings(&found))))
}

async fn read(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    let selection = selection(&call.fields)?;
    let found = inventory(&engine, &connection, &selection).await?;
    let keys: Vec<Value> = found
        .keys
        .iter()
        .map(|key| serde_json::to_value(KeyView::of(key)).unwrap_or_default())
        .collect();
    let mut data = Data::from_iter([("keys".to_owned(), keys.into())]);
    add_extent(&mut data, &found);
    Ok(Some(
        Response::with_data(data).with_warnings(warnings(&found)),
    ))
}

async fn read_one(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    let hash = hash_of_path(&call.fields)?;
    let known = look_at(&engine, &connection, &hash).await?;
    Ok(match known {
        None => None,
        Some(known) => Some(Response::showing(&KeyView::of(&known))?),
    })
}

fn selection(fields: &Fields) -> Result<Selection, Error> {
    let text = |field| fields.text(field).filter(|text| !text.is_empty());
    let most = match fields.integer("limit") {
        None => MOST,
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|number| (1..=MOST).contains(number))
            .ok_or_else(|| Error::Invalid(format!("limit must be between 1 and {MOST}")))?,
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

/// Whether these are all, and where it goes on if not.
fn add_extent(data: &mut Data, found: &Inventory) {
    let next = found.next.as_ref().map(ToString::to_string);
    data.insert("complete".to_owned(), next.is_none().into());
    data.insert("next".to_owned(), next.into());
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
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    owner: &'static str,
    role: Option<&'a RoleName>,
    state: &'static str,
    limit: &'a Option<serde_json::Number>,
    usage: &'a Option<serde_json::Number>,
    last_used_at: Option<Timestamp>,
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

/// A key by itself: everything.
#[derive(Serialize)]
pub(super) struct KeyView<'a> {
    connection: &'a ConnectionName,
    hash: &'a KeyHash,
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

/// Whose a key is.
#[derive(Serialize)]
pub(super) struct OwnerView<'a> {
    owner: &'static str,
    role: Option<&'a RoleName>,
    key_version: Option<u64>,
    /// Of a superseded key, or a held one, which is deleted then.
    revoke_at: Option<Timestamp>,
    /// Of a key under a lease: until when the lease runs.
    leased_until: Option<Timestamp>,
    /// Of a key under a lease: who asked for it.
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
    Field::integer("limit", "So many keys at the most, up to 10000.")
        .default("10000")
        .query(),
    Field::text(
        "after",
        "Where to go on: the value of next in an earlier answer.",
    )
    .query(),
];

/// More would not fit in memory comfortably, here and in the server.
const MOST: usize = 10_000;

const DESCRIPTION: &str = "\
Every key that the connection's management key sees, in every workspace, disabled and expired ones
included: those of this mount's roles and leases, of other mounts, and those that somebody made by
hand. `vault list -detailed` shows name, owner, role, state, limit, usage, last use and expiry of each.

owner is role (a role's current, superseded or held key), lease (under a lease of a dynamic role), pending
(being created), lost (ordered, and what came of that is unknown yet), stray (this mount's mark, and
nobody has it), other_mount (the mark of another mount of this engine) or unmanaged. state is current,
superseded or leased, where the key works; held, where the engine has disabled a superseded key and deletes
it later; disabled or expired, where a key does not work, whoever has it; and active for any other key that
works.

A read shows everything that OpenRouter says of each key, and takes owner, state, workspace_id, limit and
after. A listing that is not complete after 45 seconds, or that breaks off, says complete=false; next is
what to give as after to go on. Between two parts keys can come and go, and one can be shown twice.

A request to OpenRouter brings 99 keys.";

const ONE_DESCRIPTION: &str = "\
What OpenRouter says of one key, with whose it is and what it does: owner and state as for
`keys/:connection`, role and key_version, revoke_at of a superseded or held key, and of a key under a lease
leased_until and requester: display_name, entity_id, request_id (by which Vault's audit log has the
lease), and at.";
