//! Management keys: inspect, revoke and expire them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refusal, accounts, not_there};
use crate::fault::present;
use crate::state::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    #[serde(default)]
    revoked: bool,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<Timestamp>>,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let mut shown = Vec::new();
    for account in accounts(&shared) {
        account.with(|state| {
            shown.extend(state.management_keys.iter().map(|key| {
                json!({
                    "account": account.number(),
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

pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Path(hash): Path<String>,
    Json(change): Json<Change>,
) -> Result<StatusCode, Refusal> {
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
    changed
        .then_some(StatusCode::NO_CONTENT)
        .ok_or_else(|| not_there("key"))
}
