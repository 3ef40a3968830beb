//! The content of requests to `/guardrails`, and its meaning.
//!
//! As strict as for keys: unknown fields are rejected, so that a client's mistakes are noticed.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::fault::present;
use crate::guardrails::{Guardrail, GuardrailChanges, NewGuardrail};
use crate::limits::LimitReset;
use crate::state::AccountState;
use crate::validation::{JsonBody, check_workspace};

/// The fields with a meaning here. Without an inner `Option`, `null` is rejected.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    #[serde(deserialize_with = "present")]
    name: Option<String>,
    #[serde(deserialize_with = "present")]
    workspace_id: Option<String>,
    #[serde(deserialize_with = "present")]
    limit_usd: Option<Option<f64>>,
    #[serde(deserialize_with = "present")]
    reset_interval: Option<Option<LimitReset>>,
    #[serde(deserialize_with = "present")]
    include_byok_in_budgets: Option<bool>,
    #[serde(deserialize_with = "present")]
    allowed_models: Option<Option<Vec<String>>>,
}

/// Parses the body of `POST /guardrails`.
pub(super) fn creation(
    body: JsonBody,
    account: &AccountState,
) -> Result<(NewGuardrail, GuardrailChanges), ApiError> {
    let (asked, changes) = parse(body)?;
    let name = asked.name.unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::invalid("name must not be empty"));
    }
    check_workspace(asked.workspace_id.as_deref(), account)?;
    check_budget(None, &changes)?;
    let new = NewGuardrail {
        workspace_id: asked.workspace_id,
        ..NewGuardrail::named(name)
    };
    Ok((new, changes))
}

/// Parses the body of `PATCH /guardrails/{id}` for a guardrail that may not be configured yet.
pub(super) fn update(
    body: JsonBody,
    before: Option<&Guardrail>,
) -> Result<GuardrailChanges, ApiError> {
    let (asked, changes) = parse(body)?;
    if asked.workspace_id.is_some() {
        return Err(ApiError::invalid("workspace_id cannot be changed"));
    }
    if changes.name.as_deref() == Some("") {
        return Err(ApiError::invalid("name must not be empty"));
    }
    check_budget(before, &changes)?;
    Ok(changes)
}

fn parse(body: JsonBody) -> Result<(Asked, GuardrailChanges), ApiError> {
    let (settings, body) = body.split(|name| KEPT.contains(&name));
    check_settings(&settings)?;
    let asked: Asked = body.into()?;
    let changes = GuardrailChanges {
        name: asked.name.clone(),
        limit_usd: asked.limit_usd,
        reset_interval: asked.reset_interval,
        include_byok_in_budgets: asked.include_byok_in_budgets,
        allowed_models: asked.allowed_models.clone(),
        settings,
    };
    Ok((asked, changes))
}

/// A budget and its interval are set together or not at all.
fn check_budget(before: Option<&Guardrail>, changes: &GuardrailChanges) -> Result<(), ApiError> {
    let limit = before.and_then(|guardrail| guardrail.limit_usd);
    let interval = before.and_then(|guardrail| guardrail.reset_interval);
    let limit = changes.limit_usd.unwrap_or(limit);
    let interval = changes.reset_interval.unwrap_or(interval);
    if limit.is_some_and(|limit| limit < 0.0) {
        return Err(ApiError::invalid("limit_usd must not be negative"));
    }
    (limit.is_some() == interval.is_some())
        .then_some(())
        .ok_or_else(|| ApiError::invalid("limit_usd and reset_interval must be set together"))
}

fn check_settings(settings: &Map<String, Value>) -> Result<(), ApiError> {
    let fits = |(name, value): &(&String, &Value)| {
        value.is_null()
            || match name.as_str() {
                "description" => value.is_string(),
                name if LISTS.contains(&name) => value.is_array(),
                _ => value.is_boolean(),
            }
    };
    let mistyped = settings.iter().find(|setting| !fits(setting));
    mistyped.map_or(Ok(()), |(name, _)| {
        Err(ApiError::invalid(format!("{name} is of the wrong type")))
    })
}

const LISTS: [&str; 6] = [
    "allowed_data_regions",
    "allowed_providers",
    "content_filter_builtins",
    "content_filters",
    "ignored_models",
    "ignored_providers",
];

/// Settings that are stored and shown, but not enforced.
const KEPT: [&str; 18] = [
    "allow_safety_retention_google",
    "allow_safety_retention_other",
    "allowed_data_regions",
    "allowed_providers",
    "content_filter_builtins",
    "content_filters",
    "description",
    "enable_free_model_publication",
    "enable_free_model_training",
    "enable_paid_model_training",
    "enforce_zdr",
    "enforce_zdr_anthropic",
    "enforce_zdr_google",
    "enforce_zdr_openai",
    "enforce_zdr_other",
    "enforce_zdr_xai",
    "ignored_models",
    "ignored_providers",
];
