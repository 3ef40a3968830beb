//! The paths `config` and `config/:name`.

mod sent_where;
pub(super) mod settle;
mod verify;
mod within;

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::connection::{Connection, fields, missing};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::Holdings;
use crate::engine::names::{CONNECTIONS, ConnectionName};
use crate::engine::stored;
use crate::engine::survey;
use crate::framework::{Call, Endpoint, Names, Outcome, Path};
use crate::logical::{Operation, Response};
use crate::openrouter::{Usd, WorkspaceId};

/// Both paths. `config` alone is the connection named `default`.
pub fn paths() -> Vec<Path<Engine>> {
    let bare = connection_path("config", "configuration").on(
        Operation::List,
        Endpoint::new("List the connections.", list).answers::<Names>(),
    );
    let named = connection_path("config/:name", "connection").parameter(
        "name",
        "The connection's name. `config` alone is `default`.",
    );
    vec![bare, named]
}

fn connection_path(pattern: &'static str, suffix: &'static str) -> Path<Engine> {
    Path::new(pattern, suffix)
        .on(
            Operation::Read,
            Endpoint::new("Read a connection, without its management key.", read).answers::<View>(),
        )
        .on_write(
            Endpoint::new("Configure a connection to OpenRouter.", write)
                .takes(fields::WRITE.iter().cloned())
                .active_only(),
        )
        .on(
            Operation::Patch,
            Endpoint::new("Change parts of a connection.", write)
                .takes(fields::WRITE.iter().cloned())
                .active_only(),
        )
        .on(
            Operation::Delete,
            Endpoint::new("Delete a connection that no role uses.", delete).active_only(),
        )
        .exists(|engine: Arc<Engine>, fields| async move {
            let name = name_of(fields.text("name"))?;
            Ok(stored::exists(&*engine.storage, &name.key()).await?)
        })
        .help(SYNOPSIS, DESCRIPTION)
}

async fn read(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = name_of(call.fields.text("name"))?;
    let Some(connection) = Connection::load(&*engine.storage, &name).await? else {
        return Ok(None);
    };
    let last_reconciliation = engine.board.last_compared(&name);
    Ok(Some(Response::showing(&View::of(
        connection,
        last_reconciliation,
    ))?))
}

/// The response to a read of a connection.
#[derive(Serialize, JsonSchema)]
struct View {
    /// The address of OpenRouter's API.
    api_url: String,
    /// The operator's description.
    description: String,
    /// The time limit of one request to OpenRouter, in seconds.
    request_timeout: u64,
    /// The time between two comparisons with OpenRouter, in seconds; 0 if they run only when the engine
    /// starts.
    reconcile_interval: u64,
    /// The additional trusted certificates, in PEM form.
    ca_certificate: Option<String>,
    /// The proxy, without its credentials.
    proxy_url: Option<String>,
    /// The management key as OpenRouter shows it, mostly masked. Null if it was not verified.
    management_key_label: Option<String>,
    /// When the management key expires; null if it does not, or was not verified.
    management_key_expires_at: Option<Timestamp>,
    /// When the management key was verified; null if it was not.
    verified_at: Option<Timestamp>,
    /// When the last complete comparison of the keys with OpenRouter began. Null before the first time, and on
    /// a node that only serves reads.
    last_reconciliation: Option<Timestamp>,
    /// The workspaces that the management key could see when it was verified.
    workspaces: Option<Vec<WorkspaceView>>,
    /// The names of the roles that may use the connection, with `*` for any text.
    allowed_roles: Vec<String>,
    /// The highest limit, or budget, of a role that uses the connection, in US dollars.
    max_limit: Option<Usd>,
    /// The longest lifetime of a key of a role that uses the connection, in seconds.
    max_key_lifetime: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct WorkspaceView {
    /// The workspace's UUID.
    id: WorkspaceId,
    /// Its slug.
    slug: String,
    /// Its name.
    name: String,
}

impl View {
    fn of(connection: Connection, last_reconciliation: Option<Timestamp>) -> Self {
        let proof = connection.proof.as_ref();
        Self {
            management_key_label: proof.map(|proof| proof.label.clone()),
            management_key_expires_at: proof.and_then(|proof| proof.expires_at),
            verified_at: proof.map(|proof| proof.verified_at),
            last_reconciliation,
            workspaces: connection.proof.and_then(|proof| {
                let seen = proof.workspaces?.into_iter().map(|seen| WorkspaceView {
                    id: seen.id,
                    slug: seen.slug,
                    name: seen.name,
                });
                Some(seen.collect())
            }),
            allowed_roles: connection.bounds.allowed_roles,
            max_limit: connection.bounds.max_limit,
            max_key_lifetime: connection.bounds.max_key_lifetime,
            api_url: connection.api_url.to_string(),
            description: connection.description,
            request_timeout: connection.request_timeout,
            reconcile_interval: connection.reconcile_interval,
            ca_certificate: connection.ca_certificate.map(|ca| ca.as_pem().to_owned()),
            proxy_url: connection.proxy_url.map(|url| url.to_string()),
        }
    }
}

async fn write(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = name_of(call.fields.text("name"))?;
    let _held = engine.connection_locks.lock(&name.key()).await;
    let before = Connection::load(&*engine.storage, &name).await?;
    if before.is_none() && call.request.operation == Operation::Patch {
        return Err(missing(&name).into());
    }
    let mut connection = fields::apply(before.as_ref(), &call.fields)?;
    connection.address = match &before {
        Some(before) => sent_where::written(&engine, before, &connection, &call.fields)?,
        None => sent_where::first(&engine, &name).await?,
    };
    let mut warnings = Vec::new();
    let bounds_before = before.as_ref().map(|before| before.bounds.clone());
    let tightened = connection
        .bounds
        .tightened(&bounds_before.unwrap_or_default());
    if !tightened.are_open() {
        let within = within::require_roles(&engine, &name, &tightened).await;
        warnings.extend(within.map_err(|reason| within::with_advice(reason, before.is_none()))?);
    }
    let link = engine.links.trial(&name, &connection)?;
    let mut sees_managed_keys = false;
    if call.fields.switch("verify_connection").unwrap_or(true) {
        let now = engine.now();
        let (proof, unlisted) = verify::prove(&link, now).await?;
        warnings.extend(unlisted);
        warnings.extend(verify::warnings(&proof, now));
        connection.proof = Some(proof);
        if let Some(before) = &before
            && verify::may_hide_keys(before, &connection)
            && !call.fields.switch("force").unwrap_or(false)
        {
            let old = engine.links.trial(&name, before)?;
            let unknown = verify::require_keys_reachable(&engine, &name, &old, &link).await?;
            sees_managed_keys = unknown.is_none();
            warnings.extend(unknown);
        }
    } else if before
        .as_ref()
        .is_none_or(|before| verify::may_hide_keys(before, &connection))
    {
        connection.proof = None;
    }
    connection.address =
        sent_where::checked(&engine, before.as_ref(), &connection, sees_managed_keys);
    let stored = connection.store(&*engine.storage, &name).await;
    settle::settle(&engine, &name, stored).await?;
    survey::plan(&engine, &name, connection.reconcile_interval);
    Ok((!warnings.is_empty()).then(|| Response::default().with_warnings(warnings)))
}

async fn delete(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = name_of(call.fields.text("name"))?;
    let _held = engine.connection_locks.lock(&name.key()).await;
    let _closed = engine.links.close(&name)?;
    let holdings = Holdings::of(&engine).await?;
    let users = holdings.users_of(&name);
    if !users.is_empty() {
        let users: Vec<String> = users.into_iter().map(ToString::to_string).collect();
        return Err(Error::Invalid(format!(
            "connection {:?} is used by the roles {}; delete them first, or write to \
             \"forget-connection/{name}\" to leave their keys behind",
            name.to_string(),
            users.join(", ")
        ))
        .into());
    }
    let leased = holdings.leased_of(&name);
    if leased > 0 {
        return Err(Error::Invalid(format!(
            "connection {:?} is needed to revoke {leased} keys under leases; revoke the leases \
             first, or write to \"forget-connection/{name}\" to leave their keys behind until \
             they expire",
            name.to_string(),
        ))
        .into());
    }
    if holdings.is_unconfirmed(&name) {
        return Err(Error::Conflict(format!(
            "a creation through connection {:?} whose outcome is unknown is still being recovered; \
             try again in a few minutes, or write to \"forget-connection/{name}\"",
            name.to_string()
        ))
        .into());
    }
    let deleted = engine.storage.delete(&name.key()).await;
    settle::settle(&engine, &name, deleted.map_err(Error::from)).await?;
    let unreadable = holdings.unreadable.iter().map(|role| {
        format!(
            "role {:?} is unreadable; it may have used the connection",
            role.to_string()
        )
    });
    let warnings: Vec<String> = unreadable.collect();
    Ok((!warnings.is_empty()).then(|| Response::default().with_warnings(warnings)))
}

async fn list(engine: Arc<Engine>, _: Call) -> Outcome {
    let keys = engine.storage.list(CONNECTIONS).await?;
    Ok(Some(Response::showing(&Names { keys })?))
}

fn name_of(captured: Option<&str>) -> Result<ConnectionName, Error> {
    captured.map_or_else(|| Ok(ConnectionName::default()), ConnectionName::parse)
}

const SYNOPSIS: &str = "Connect to OpenRouter with a management key.";

const DESCRIPTION: &str = "\
A connection is an OpenRouter management key and how to reach the API with it. Roles name the connection
that creates their keys. `config` without a name is the connection named `default`.

A write verifies the key with OpenRouter before anything is stored: it must be a management key. When
the key of a connection in use is replaced, the new key must also see the keys that this engine manages.
Set verify_connection=false if the server cannot reach OpenRouter yet.

OpenRouter has no API to create or renew management keys. To replace one, create a new one in
OpenRouter's settings, write it here, and delete the old one there. A write returns a warning for a key
that expires within 14 days.

Every reconcile_interval the engine compares the keys that it manages with those at OpenRouter, with one
request per 99 keys. Findings are in the status of the role, in the log, and on the event bus.

api_url, proxy_url and ca_certificate of an existing connection can only be changed together with
management_key: a stored key is sent only to the address it was written for.

allowed_roles, max_limit and max_key_lifetime apply to every role that uses the connection, no matter
who may write roles. A role that is not allowed, has neither limit nor budget or a higher one, or whose
keys would live longer, is rejected. A write that tightens one of them is rejected while a role that uses the connection
exceeds it; the error names the role. A read shows the workspaces that the management key could see when it
was verified.

A connection cannot be deleted while a role uses it. `forget-connection` removes it anyway.";
