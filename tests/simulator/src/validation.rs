//! The content of requests to `/keys`, and its meaning.
//!
//! Stricter than the documentation where that helps to find a client's mistakes: a creation with an
//! unknown field is rejected, although the live service may ignore it.

use axum::extract::Query;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::fault::{KeyChanges, present};
use crate::keys::NewKey;
use crate::limits::LimitReset;
use crate::state::{AccountState, Selection};

/// A body that is a JSON object with a JSON content type.
pub(crate) struct JsonBody(Map<String, Value>);

/// The body of `POST /keys`. Without an `Option`, `null` is rejected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Creation {
    name: String,
    #[serde(default)]
    limit: Option<f64>,
    #[serde(default)]
    limit_reset: Option<LimitReset>,
    #[serde(default)]
    include_byok_in_limit: bool,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    creator_user_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    workspace_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    external: Option<External>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct External {
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    include_disabled: bool,
    #[serde(default)]
    include_expired: bool,
    #[serde(default)]
    offset: usize,
    workspace_id: Option<String>,
}

impl JsonBody {
    pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        let content_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(is_json) {
            return Err(ApiError::invalid(
                "the content type must be application/json",
            ));
        }
        serde_json::from_slice(body)
            .map(Self)
            .map_err(ApiError::invalid)
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The members with these names, and the rest of the body.
    pub(crate) fn split(mut self, is_wanted: impl Fn(&str) -> bool) -> (Map<String, Value>, Self) {
        let mut wanted = self.0.clone();
        wanted.retain(|name, _| is_wanted(name));
        self.0.retain(|name, _| !is_wanted(name));
        (wanted, self)
    }

    pub(crate) fn into<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        serde_json::from_value(Value::Object(self.0)).map_err(ApiError::invalid)
    }
}

/// Parses the query of `GET /keys`.
pub(crate) fn list_query(
    uri: &Uri,
    account: &AccountState,
) -> Result<(Selection, usize), ApiError> {
    let Query(query) = Query::<ListQuery>::try_from_uri(uri)
        .map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let workspace_id = match query.workspace_id {
        None => account.default_workspace(),
        Some(id) if !is_uuid(&id) => return Err(ApiError::invalid("workspace_id must be a UUID")),
        Some(id) if account.workspace(&id).is_none() => return Err(ApiError::not_found()),
        Some(id) => id,
    };
    let selection = Selection {
        workspace_id,
        include_disabled: query.include_disabled,
        include_expired: query.include_expired,
    };
    Ok((selection, query.offset))
}

/// Parses the body of `POST /keys`.
pub(crate) fn new_key(
    body: JsonBody,
    account: &AccountState,
    now: Timestamp,
) -> Result<NewKey, ApiError> {
    let asked: Creation = body.into()?;
    if asked.name.is_empty() {
        return Err(ApiError::invalid("name must not be empty"));
    }
    if asked.creator_user_id.as_deref() == Some("") {
        return Err(ApiError::invalid("creator_user_id must not be empty"));
    }
    if let Some(External { user }) = &asked.external
        && !(1..=512).contains(&user.chars().count())
    {
        return Err(ApiError::invalid(
            "external.user must have 1 to 512 characters",
        ));
    }
    check_limit(asked.limit)?;
    check_workspace(asked.workspace_id.as_deref(), account)?;
    Ok(NewKey {
        name: asked.name,
        limit: asked.limit,
        limit_reset: asked.limit_reset,
        include_byok_in_limit: asked.include_byok_in_limit,
        expires_at: asked
            .expires_at
            .map(|text| expiry(&text, now))
            .transpose()?,
        workspace_id: asked.workspace_id,
        creator_user_id: asked.creator_user_id,
        external_user: asked.external.map(|external| external.user),
    })
}

/// Parses the body of `PATCH /keys/{hash}`; unknown fields are ignored.
pub(crate) fn key_update(body: JsonBody, account: &AccountState) -> Result<KeyChanges, ApiError> {
    let mut known = body;
    known.0.retain(|name, _| UPDATABLE.contains(&name.as_str()));
    if known.0.is_empty() {
        return Err(ApiError::bad_request("No update fields provided"));
    }
    let changes: KeyChanges = known.into()?;
    check_limit(changes.limit.flatten())?;
    check_workspace(changes.workspace_id.as_deref(), account)?;
    Ok(changes)
}

/// Whether a content type is JSON, with any parameters. `application/jsonx` is not.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// Whether this is a UUID in the usual notation.
pub(crate) fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn check_limit(limit: Option<f64>) -> Result<(), ApiError> {
    match limit {
        Some(limit) if limit < 0.0 => Err(ApiError::invalid("limit must not be negative")),
        _ => Ok(()),
    }
}

pub(crate) fn check_workspace(id: Option<&str>, account: &AccountState) -> Result<(), ApiError> {
    match id {
        Some(id) if !is_uuid(id) => Err(ApiError::invalid("workspace_id must be a UUID")),
        Some(id) if account.workspace(id).is_none() => {
            Err(ApiError::invalid("there is no such workspace"))
        }
        _ => Ok(()),
    }
}

/// UTC written with `Z`, with seconds, optionally with fractions, and in the future.
fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let has_seconds = text.as_bytes().get(16) == Some(&b':');
    let instant = text.parse::<Timestamp>().ok();
    match instant.filter(|_| has_seconds && text.ends_with('Z') && text.contains('T')) {
        None => Err(ApiError::invalid(
            "expires_at must be UTC: YYYY-MM-DDTHH:MM:SSZ",
        )),
        Some(instant) if instant <= now => {
            Err(ApiError::invalid("expires_at must be in the future"))
        }
        Some(instant) => Ok(instant),
    }
}

/// The fields that an update may change; expiry and creator are fixed at creation.
const UPDATABLE: [&str; 6] = [
    "name",
    "disabled",
    "limit",
    "limit_reset",
    "include_byok_in_limit",
    "workspace_id",
];
