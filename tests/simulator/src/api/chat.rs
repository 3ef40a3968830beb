//! `POST /chat/completions`: the least that shows whether a key can spend, for one cent a call.
//!
//! Always the same completion, never streamed.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::api::Consumer;
use crate::api::error::ApiError;
use crate::keys::Key;
use crate::limits::LimitReset;
use crate::state::Shared;
use crate::validation::JsonBody;

pub(super) async fn complete(
    State(shared): State<Arc<Shared>>,
    consumer: Consumer,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let now = shared.clock.now();
    let asked = JsonBody::parse(&headers, &body)?;
    if !asked.member("messages").is_some_and(Value::is_array) {
        return Err(ApiError::invalid("messages must be an array"));
    }
    let model = asked
        .member("model")
        .cloned()
        .unwrap_or_else(|| json!("openrouter/auto"));
    consumer.account.with(|account| {
        let key = account
            .living(&consumer.hash)
            .ok_or_else(|| ApiError::unauthorized("User not found."))?;
        if key.limit_remaining(now).is_some_and(|left| left <= 0.0) {
            return Err(exhausted(key));
        }
        key.usage.record(now, COST);
        key.last_used_at = Some(now);
        Ok(Json(completion(&model, now.as_second())))
    })
}

/// The text that was seen in the wild; the guide to limits says 402 instead.
fn exhausted(key: &Key) -> ApiError {
    let window = key.limit_reset.map_or("total", LimitReset::as_str);
    ApiError::forbidden(&format!(
        "Key limit exceeded ({window} limit). Manage it using https://openrouter.ai/settings/keys"
    ))
}

fn completion(model: &Value, created: i64) -> Value {
    json!({
        "id": "gen-simulated",
        "object": "chat.completion",
        "created": created,
        "model": model,
        // May be null, but the SDKs refuse a completion without it.
        "system_fingerprint": null,
        "choices": [{
            "index": 0,
            "finish_reason": "stop",
            "message": { "role": "assistant", "content": "Simulated." },
        }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": COST },
    })
}

/// US dollars.
const COST: f64 = 0.01;
