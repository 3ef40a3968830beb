//! `GET /credits`: what the account has bought and what its keys, including deleted ones, have spent.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::{Consumer, Management};
use crate::billing::CreditsAnswer;
use crate::limits::usd;
use crate::state::Shared;

pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (now, rules) = (shared.clock.now(), shared.billing.rules());
    let (mut parts, _) = request.into_parts();
    let refusal = match Management::from_request_parts(&mut parts, &shared).await {
        Ok(Management { account, .. }) => {
            let seen = rules.reported(now);
            let spent: f64 = account.with(|account| {
                let keys = account.keys.iter();
                keys.map(|key| key.spent(None, false, now, seen)).sum()
            });
            return Ok(answer(BOUGHT.into(), usd(spent)));
        }
        Err(refusal) => refusal,
    };
    let is_key = Consumer::from_request_parts(&mut parts, &shared)
        .await
        .is_ok();
    match rules.credits_with_ordinary_key {
        CreditsAnswer::Zeros if is_key => Ok(answer(0.into(), 0.into())),
        _ => Err(refusal),
    }
}

fn answer(bought: Value, spent: Value) -> Json<Value> {
    Json(json!({ "data": { "total_credits": bought, "total_usage": spent } }))
}

/// US dollars, the same for every account.
const BOUGHT: i64 = 1000;
