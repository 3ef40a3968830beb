//! `POST /chat/completions`: the minimum that shows whether a key can spend.
//!
//! Always the same completion, never streamed. The billing rules set its cost. It is checked at the
//! start and charged on completion.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::api::Consumer;
use crate::api::error::ApiError;
use crate::billing::Exhausted;
use crate::budgets::{Budget, BudgetScope};
use crate::calls::{Call, CallRefused};
use crate::limits::{LimitReset, usd};
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
    let model = asked.member("model").and_then(Value::as_str);
    let model = model.unwrap_or("openrouter/auto");
    let call = Call::begin(&consumer.account, &consumer.hash, model)
        .map_err(|reason| refusal(&reason, shared.billing.rules().exhausted))?;
    call.stay_in_flight().await;
    let cost = call.complete();
    Ok(Json(completion(model, cost, now.as_second())))
}

fn refusal(reason: &CallRefused, exhausted: Exhausted) -> ApiError {
    match reason {
        CallRefused::KeyDoesNotWork => ApiError::unauthorized("User not found."),
        CallRefused::ModelNotAllowed => {
            ApiError::forbidden("Model not allowed by the guardrails of this API key")
        }
        CallRefused::Exhausted(budget) => {
            let message = exhausted_message(budget);
            match exhausted {
                Exhausted::Forbidden => ApiError::forbidden(&message),
                Exhausted::PaymentRequired => {
                    let source = match budget.scope {
                        BudgetScope::KeyLimit => "openrouter_key_limit",
                        BudgetScope::Workspace => "openrouter_workspace_budget",
                        _ => "openrouter_guardrail_budget",
                    };
                    ApiError::new(StatusCode::PAYMENT_REQUIRED, message)
                        .with_metadata(json!({ "limit_source": source }))
                }
            }
        }
    }
}

/// The text for the key's own limit was seen on the live service.
fn exhausted_message(budget: &Budget) -> String {
    let window = budget.reset_interval.map_or("total", LimitReset::as_str);
    match budget.scope {
        BudgetScope::KeyLimit => format!(
            "Key limit exceeded ({window} limit). Manage it using https://openrouter.ai/settings/keys"
        ),
        BudgetScope::Workspace => format!("Workspace budget exceeded ({window} limit)"),
        _ => format!("Guardrail budget exceeded ({window} limit)"),
    }
}

fn completion(model: &str, cost: f64, created: i64) -> Value {
    json!({
        "id": "gen-simulated",
        "object": "chat.completion",
        "created": created,
        "model": model,
        // May be null, but the SDKs reject a completion without it.
        "system_fingerprint": null,
        "choices": [{
            "index": 0,
            "finish_reason": "stop",
            "message": { "role": "assistant", "content": "Simulated." },
        }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": usd(cost) },
    })
}
