//! The path `lookup`: finds the owner of a key, and what to do about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::keys::{OwnerView, hash};
use crate::engine::context::Engine;
use crate::engine::custody::{Found, lookup};
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::framework::{Call, Endpoint, Field, Fields, Outcome, Path};
use crate::logical::{Operation, Response};
use crate::openrouter::{KeyHash, Report};

/// The path.
pub fn path() -> Path<Engine> {
    Path::new("lookup", "key")
        .on(
            Operation::Update,
            Endpoint::new("Look up the owner of a key.", look_up)
                .takes(FIELDS.iter().cloned())
                .answers::<View<'_>>()
                .verb("lookup")
                .active_only(),
        )
        .help(
            "Find the owner of a key, and what to do about it.",
            DESCRIPTION,
        )
}

async fn look_up(engine: Arc<Engine>, call: Call) -> Outcome {
    let hash = hash_of(&call.fields)?;
    let mount = match call.request.mount_point.as_str() {
        "" => "openrouter/",
        mount => mount,
    };
    let found = lookup(&engine, &hash, mount).await?;
    let warnings = found.not_asked.iter().map(|(connection, reason)| {
        format!(
            "connection {:?} could not be asked: {reason}",
            connection.to_string()
        )
    });
    let response = Response::showing(&View::of(&found, &hash))?;
    Ok(Some(response.with_warnings(warnings)))
}

fn hash_of(fields: &Fields) -> Result<KeyHash, Error> {
    match (fields.secret("api_key"), fields.text("key_hash")) {
        (Some(key), None) => Ok(KeyHash::of(key)),
        (None, Some(text)) => hash(text, "key_hash"),
        _ => Err(Error::invalid(
            "give either api_key, the key itself, or key_hash, its SHA-256",
        )),
    }
}

#[derive(Serialize, JsonSchema)]
struct View<'a> {
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    key_hash: &'a KeyHash,
    /// The connection that sees the key; null if none does.
    connection: Option<&'a ConnectionName>,
    /// The state of the key: `current`, `superseded`, `held`, `leased`, `disabled`, `expired` or
    /// `active`.
    state: Option<&'static str>,
    #[serde(flatten)]
    owner: Option<OwnerView<'a>>,
    /// What OpenRouter says about the key; null if no connection sees it.
    key: Option<&'a Report>,
    /// The connection whose management key it is.
    management_key_of: Option<&'a ConnectionName>,
    /// The connections that could not be asked, with the reason.
    not_asked: &'a BTreeMap<ConnectionName, String>,
    /// What to do about the key.
    advice: &'a str,
    /// The commands that do it.
    commands: &'a [String],
}

impl<'a> View<'a> {
    fn of(found: &'a Found, hash: &'a KeyHash) -> Self {
        Self {
            key_hash: hash,
            connection: found.connection.as_ref(),
            state: found.state.map(|state| state.name()),
            owner: found.owner.as_ref().map(OwnerView::of),
            key: found.report.as_ref(),
            management_key_of: found.manages.as_ref(),
            not_asked: &found.not_asked,
            advice: &found.advice.text,
            commands: &found.advice.commands,
        }
    }
}

const FIELDS: &[Field] = &[
    Field::secret(
        "api_key",
        "The key itself. It is not stored, and only its hash leaves the plugin.",
    ),
    Field::text(
        "key_hash",
        "The SHA-256 of the key, 64 lowercase hexadecimal digits.",
    ),
];

const DESCRIPTION: &str = "\
For a leaked key: accepts the key itself as api_key, or its SHA-256 as key_hash, and asks every
connection at once. Only the hash leaves the plugin.

Returns owner, state, role and key_version as `keys/:connection/:hash` does, and for a key under a lease
its requester: display_name, entity_id, at, and request_id, which identifies the lease in Vault's audit
log. key is what OpenRouter reports about the key, null if no connection sees it. management_key_of
names the connection whose management key it is. advice says what to do, and commands are the commands
for it.

What storage knows is returned even if OpenRouter cannot be reached. not_asked lists the connections
that could not be asked, with the reasons.";
