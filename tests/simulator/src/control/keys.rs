//! Keys behind the client's back: inspect them, create them, and change them in every way that the
//! dashboard can.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Refusal, account, accounts, not_there, refused};
use crate::account::{Account, NoSuchKey};
use crate::description::merge;
use crate::fault::{KeyChanges, present};
use crate::hiding::ListDelay;
use crate::keys::{Key, NewKey};
use crate::limits::LimitReset;
use crate::state::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selected {
    /// Includes deleted keys.
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Foreign {
    name: String,
    #[serde(default = "one")]
    count: usize,
    #[serde(default)]
    account: usize,
    workspace_id: Option<String>,
    limit: Option<f64>,
    limit_reset: Option<LimitReset>,
    #[serde(default)]
    include_byok_in_limit: bool,
    expires_at: Option<Timestamp>,
    creator_user_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    name: Option<String>,
    disabled: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    limit: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    limit_reset: Option<Option<LimitReset>>,
    include_byok_in_limit: Option<bool>,
    workspace_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<Timestamp>>,
    /// `null` removes it from its guardrail.
    #[serde(default, deserialize_with = "present")]
    guardrail_id: Option<Option<String>>,
    usage: Option<f64>,
    byok_usage: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    last_used_at: Option<Option<Timestamp>>,
    hidden_seconds: Option<u64>,
    hidden_listings: Option<u32>,
    #[serde(default)]
    deleted: bool,
}

/// The keys of all accounts, without any lag.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(selected): Query<Selected>,
) -> Json<Value> {
    let now = shared.clock.now();
    let shown: Vec<Value> = accounts(&shared)
        .iter()
        .flat_map(|account| {
            let keys = if selected.all {
                account.all_keys()
            } else {
                account.keys()
            };
            let described = |key| described(account, key, now);
            keys.iter().map(described).collect::<Vec<_>>()
        })
        .collect();
    Json(json!({ "data": shown }))
}

/// Creates keys in an account, as another client would, and returns their hashes.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Json(foreign): Json<Foreign>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let account = account(&shared, foreign.account)?;
    let workspace = foreign.workspace_id.as_deref();
    if workspace.is_some_and(|id| !account.workspaces().iter().any(|known| known == id)) {
        return Err(not_there("workspace"));
    }
    let new = NewKey {
        workspace_id: foreign.workspace_id,
        limit: foreign.limit,
        limit_reset: foreign.limit_reset,
        include_byok_in_limit: foreign.include_byok_in_limit,
        expires_at: foreign.expires_at,
        creator_user_id: foreign.creator_user_id,
        ..NewKey::named(foreign.name)
    };
    let name = |number: usize| match foreign.count {
        1 => new.name.clone(),
        _ => format!("{} {number}", new.name),
    };
    let hashes: Vec<String> = (1..=foreign.count)
        .map(|number| {
            let name = name(number);
            account
                .create_key(NewKey {
                    name,
                    ..new.clone()
                })
                .hash
        })
        .collect();
    Ok((StatusCode::CREATED, Json(json!({ "hashes": hashes }))))
}

/// Changes a living key of any account. If one change is not possible, none is made.
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Path(hash): Path<String>,
    Json(change): Json<Change>,
) -> Answer {
    let lives = |account: &Account| account.with(|state| state.living(&hash).is_some());
    let account = accounts(&shared).into_iter().find(lives);
    let account = account.ok_or_else(|| not_there("key"))?;
    let workspace = change.workspace_id.as_deref();
    if workspace.is_some_and(|id| !account.workspaces().iter().any(|known| known == id)) {
        return Err(not_there("workspace"));
    }
    // First, because only this one can be rejected.
    match &change.guardrail_id {
        Some(Some(guardrail)) => account
            .assign_guardrail(&hash, guardrail)
            .map_err(refused)?,
        Some(None) => {
            account.unassign_guardrail(&hash);
        }
        None => {}
    }
    apply(&account, &hash, &change).map_err(|_| not_there("key"))?;
    let key = account.key(&hash).ok_or_else(|| not_there("key"))?;
    Ok(Json(described(&account, &key, shared.clock.now())))
}

fn apply(account: &Account, hash: &str, change: &Change) -> Result<(), NoSuchKey> {
    let changes = KeyChanges {
        name: change.name.clone(),
        disabled: change.disabled,
        limit: change.limit,
        limit_reset: change.limit_reset,
        include_byok_in_limit: change.include_byok_in_limit,
        workspace_id: change.workspace_id.clone(),
        ..KeyChanges::default()
    };
    if changes != KeyChanges::default() {
        account.change_key(hash, &changes)?;
    }
    if let Some(usd) = change.usage {
        account.set_usage(hash, usd)?;
    }
    if let Some(usd) = change.byok_usage {
        account.set_byok_usage(hash, usd)?;
    }
    if let Some(instant) = change.last_used_at {
        account.set_last_used(hash, instant)?;
    }
    if let Some(expiry) = change.expires_at {
        account.set_expiry(hash, expiry)?;
    }
    if let Some(seconds) = change.hidden_seconds {
        account.hide_key_from_lists(hash, ListDelay::For(Duration::from_secs(seconds)))?;
    }
    if let Some(listings) = change.hidden_listings {
        account.hide_key_from_lists(hash, ListDelay::Listings(listings))?;
    }
    // Last: the changes above are not possible for a deleted key.
    if change.deleted {
        account.delete_key(hash)?;
    }
    Ok(())
}

fn described(account: &Account, key: &Key, now: Timestamp) -> Value {
    let mut object = key.to_json(now);
    let more = json!({
        "account": account.number(),
        "guardrail_id": account.guardrail_of(&key.hash),
        "deleted_at": key.deleted_at,
    });
    merge(&mut object, more);
    object
}

fn one() -> usize {
    1
}
