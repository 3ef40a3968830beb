//! `GET /credits`: what the account has bought and what its keys, deleted ones too, have spent.

use axum::Json;
use serde_json::{Value, json};

use crate::api::Management;
use crate::limits::usd;

pub(super) async fn read(management: Management) -> Json<Value> {
    let spent: f64 = management
        .account
        .all_keys()
        .iter()
        .map(|key| key.usage.total())
        .sum();
    Json(json!({ "data": { "total_credits": BOUGHT, "total_usage": usd(spent) } }))
}

/// US dollars, for every account alike.
const BOUGHT: i64 = 1000;
