//! The fault script, the inspection and the behind-our-back actions over HTTP, for people and for
//! programs in other languages.
//!
//! Below `/simulator`, outside OpenRouter's API: it asks for no key, meets no faults and is not logged.
//! The simulator listens on loopback addresses only. Secrets are not shown here.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::account::{Account, NoSuchKey};
use crate::description::merge;
use crate::fault::present;
use crate::keys::{Key, ListDelay, NewKey};
use crate::requests::LoggedRequest;
use crate::script::{Rule, RuleStatus};
use crate::state::Shared;

type Answer = Result<Json<Value>, (StatusCode, String)>;

/// The routes below `/simulator`.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/requests", get(requests).delete(reset_requests))
        .route("/keys", get(keys).post(create_keys))
        .route("/keys/{hash}", post(change_key))
        .route("/management-keys", get(management_keys))
        .route("/management-keys/{hash}", post(change_management_key))
        .route("/clock", get(clock).post(move_clock))
        .route("/latency", post(set_latency))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysQuery {
    /// Deleted keys too.
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Foreign {
    name: String,
    #[serde(default = "one")]
    count: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyChange {
    disabled: Option<bool>,
    #[serde(default)]
    deleted: bool,
    usage: Option<f64>,
    byok_usage: Option<f64>,
    hidden_seconds: Option<u64>,
    hidden_listings: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<Timestamp>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManagementKeyChange {
    #[serde(default)]
    revoked: bool,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<Timestamp>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    set: Option<Timestamp>,
    #[serde(default)]
    advance_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LatencyChange {
    milliseconds: u64,
}

async fn faults(State(shared): State<Arc<Shared>>) -> Json<Vec<RuleStatus>> {
    Json(shared.faults.list())
}

async fn add_fault(State(shared): State<Arc<Shared>>, Json(rule): Json<Rule>) -> StatusCode {
    shared.faults.add(rule);
    StatusCode::CREATED
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.faults.clear();
    StatusCode::NO_CONTENT
}

async fn requests(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let log = &shared.requests;
    let all: Vec<LoggedRequest> = log.all();
    Json(json!({
        "requests": all,
        "counts": log.counts(),
        "in_flight": log.in_flight(),
        "high_water_mark": log.high_water_mark(),
    }))
}

async fn reset_requests(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.requests.reset();
    StatusCode::NO_CONTENT
}

async fn keys(State(shared): State<Arc<Shared>>, Query(query): Query<KeysQuery>) -> Json<Value> {
    let now = shared.clock.now();
    let shown: Vec<Value> = accounts(&shared)
        .iter()
        .flat_map(|account| {
            if query.all {
                account.all_keys()
            } else {
                account.keys()
            }
        })
        .map(|key| described(&key, now))
        .collect();
    Json(json!({ "data": shown }))
}

/// Creates keys in the first account, as somebody else would.
async fn create_keys(
    State(shared): State<Arc<Shared>>,
    Json(foreign): Json<Foreign>,
) -> Result<StatusCode, StatusCode> {
    let account = accounts(&shared)
        .into_iter()
        .next()
        .ok_or(StatusCode::NOT_FOUND)?;
    if foreign.count == 1 {
        account.create_key(NewKey::named(foreign.name));
    } else {
        account.create_keys(&foreign.name, foreign.count);
    }
    Ok(StatusCode::CREATED)
}

async fn change_key(
    State(shared): State<Arc<Shared>>,
    Path(hash): Path<String>,
    Json(change): Json<KeyChange>,
) -> Answer {
    let owner = |account: &Account| account.keys().iter().any(|key| key.hash == hash);
    let account = accounts(&shared)
        .into_iter()
        .find(owner)
        .ok_or_else(no_such_key)?;
    apply(&account, &hash, &change).map_err(|_| no_such_key())?;
    let key = account.key(&hash).ok_or_else(no_such_key)?;
    Ok(Json(described(&key, shared.clock.now())))
}

async fn management_keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let mut shown = Vec::new();
    for account in accounts(&shared) {
        account.with(|account| {
            shown.extend(account.management_keys.iter().map(|key| {
                json!({
                    "hash": key.hash,
                    "label": key.label,
                    "expires_at": key.expires_at,
                    "revoked": key.revoked,
                })
            }));
        });
    }
    Json(json!({ "data": shown }))
}

async fn change_management_key(
    State(shared): State<Arc<Shared>>,
    Path(hash): Path<String>,
    Json(change): Json<ManagementKeyChange>,
) -> Result<StatusCode, (StatusCode, String)> {
    let changed = accounts(&shared).iter().any(|account| {
        account.with(|account| {
            let key = account.management_key(&hash);
            key.map(|key| {
                key.revoked |= change.revoked;
                key.expires_at = change.expires_at.unwrap_or(key.expires_at);
            })
            .is_some()
        })
    });
    if changed {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_such_key())
    }
}

async fn clock(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "now": shared.clock.now() }))
}

async fn move_clock(
    State(shared): State<Arc<Shared>>,
    Json(change): Json<ClockChange>,
) -> Json<Value> {
    if let Some(instant) = change.set {
        shared.clock.set(instant);
    }
    shared
        .clock
        .advance(Duration::from_secs(change.advance_seconds));
    Json(json!({ "now": shared.clock.now() }))
}

async fn set_latency(
    State(shared): State<Arc<Shared>>,
    Json(change): Json<LatencyChange>,
) -> StatusCode {
    shared.set_latency(Duration::from_millis(change.milliseconds));
    StatusCode::NO_CONTENT
}

fn accounts(shared: &Arc<Shared>) -> Vec<Account> {
    let ids = shared.account_ids();
    ids.into_iter()
        .map(|id| Account::new(Arc::clone(shared), id))
        .collect()
}

fn apply(account: &Account, hash: &str, change: &KeyChange) -> Result<(), NoSuchKey> {
    if let Some(disabled) = change.disabled {
        account.set_disabled(hash, disabled)?;
    }
    if let Some(usd) = change.usage {
        account.set_usage(hash, usd)?;
    }
    if let Some(usd) = change.byok_usage {
        account.set_byok_usage(hash, usd)?;
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
    // Last: nothing of the above can be done to a deleted key.
    if change.deleted {
        account.delete_key(hash)?;
    }
    Ok(())
}

fn described(key: &Key, now: Timestamp) -> Value {
    let mut object = key.to_json(now);
    merge(&mut object, json!({ "deleted_at": key.deleted_at }));
    object
}

fn no_such_key() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, "there is no such key".to_owned())
}

fn one() -> usize {
    1
}
