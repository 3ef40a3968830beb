//! `GET /key`: what the bearer token is. Any living key may ask, an exhausted one too.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::{Consumer, Management};
use crate::description::{bearer_fields, counters, merge};
use crate::limits::Spending;
use crate::state::{ManagementKey, Shared};

pub(super) async fn describe(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let now = shared.clock.now();
    let (mut parts, _) = request.into_parts();
    let data = match Management::from_request_parts(&mut parts, &shared).await {
        Ok(Management { account, hash }) => {
            let key = account.with(|account| account.management_key(&hash).cloned());
            key.map(|key| describe_management_key(&key, now))
        }
        Err(_) => {
            let Consumer { account, hash } =
                Consumer::from_request_parts(&mut parts, &shared).await?;
            account.with(|account| account.living(&hash).map(|key| key.to_bearer_json(now)))
        }
    };
    // A key that was deleted since the token was looked at is as good as unknown.
    data.map(|data| Json(json!({ "data": data })))
        .ok_or_else(|| ApiError::unauthorized("User not found."))
}

fn describe_management_key(key: &ManagementKey, now: jiff::Timestamp) -> Value {
    let mut object = bearer_fields(true, None);
    merge(&mut object, counters("usage", &Spending::default(), now));
    merge(
        &mut object,
        counters("byok_usage", &Spending::default(), now),
    );
    merge(
        &mut object,
        json!({
            "label": key.label,
            "limit": null,
            "limit_remaining": null,
            "limit_reset": null,
            "include_byok_in_limit": false,
            "expires_at": key.expires_at.map(|instant| instant.to_string()),
            "creator_user_id": crate::validation::CREATOR,
        }),
    );
    object
}
