//! `GET /key`: describes the bearer token. Any living key may ask, even an exhausted one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::{Consumer, Management};
use crate::state::Shared;

pub(super) async fn describe(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let now = shared.clock.now();
    let (mut parts, _) = request.into_parts();
    let data = match Management::from_request_parts(&mut parts, &shared).await {
        Ok(Management { account, hash }) => account.with(|account| {
            let key = account.management_key(&hash).cloned();
            key.map(|key| account.described_to_manager(&key))
        }),
        Err(_) => {
            let Consumer { account, hash } =
                Consumer::from_request_parts(&mut parts, &shared).await?;
            let rules = shared.billing.rules();
            account.with(|account| {
                let key = account.key(&hash).filter(|key| key.deleted_at.is_none());
                key.map(|key| account.described_to_bearer(key, &rules, now))
            })
        }
    };
    // A key that was deleted after the token was checked counts as unknown.
    data.map(|data| Json(json!({ "data": data })))
        .ok_or_else(|| ApiError::unauthorized("User not found."))
}
