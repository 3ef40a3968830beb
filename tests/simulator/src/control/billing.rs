//! The cost of calls, when it becomes known, and the calls in flight.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Answer, Refusal, not_there};
use crate::billing::BillingRules;
use crate::state::Shared;

pub(super) async fn rules(State(shared): State<Arc<Shared>>) -> Json<BillingRules> {
    Json(shared.billing.rules())
}

/// Changes the rules in the body; the others stay.
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Json(changes): Json<Map<String, Value>>,
) -> Answer {
    let unacceptable =
        |error: serde_json::Error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
    let mut rules = serde_json::to_value(shared.billing.rules()).map_err(unacceptable)?;
    crate::description::merge(&mut rules, changes.into());
    let rules: BillingRules = serde_json::from_value(rules).map_err(unacceptable)?;
    let shown = json!(rules);
    shared.billing.change(|current| *current = rules);
    Ok(Json(shown))
}

pub(super) async fn calls(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "data": shared.billing.calls() }))
}

/// Completes one held call.
pub(super) async fn complete(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<u64>,
) -> Result<StatusCode, Refusal> {
    let is_there = shared.billing.complete(number);
    is_there
        .then_some(StatusCode::NO_CONTENT)
        .ok_or_else(|| not_there("call"))
}
