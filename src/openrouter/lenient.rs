//! Lenient parsing of OpenRouter's answers: OpenRouter adds fields and forms unannounced, and an
//! unusual foreign key must not keep the engine from its own keys.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::identifiers::{GuardrailId, WorkspaceId};

/// Parses an explicit null as a missing field.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// RFC 3339 with any offset and fraction: OpenRouter writes `Z`, and also `+00:00` with microseconds.
pub(super) fn timestamp<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().and_then(|text| text.parse().ok()))
}

/// A UUID. Anything else becomes `None`, because a workspace is only compared.
pub(super) fn workspace_id<'de, D>(deserializer: D) -> Result<Option<WorkspaceId>, D::Error>
where
    D: Deserializer<'de>,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value
        .as_str()
        .and_then(|text| WorkspaceId::parse(text).ok()))
}

/// Text; anything else becomes `None`.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().map(str::to_owned))
}

/// A UUID; anything else becomes `None`.
pub(super) fn guardrail_id<'de, D>(deserializer: D) -> Result<Option<GuardrailId>, D::Error>
where
    D: Deserializer<'de>,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value
        .as_str()
        .and_then(|text| GuardrailId::parse(text).ok()))
}
