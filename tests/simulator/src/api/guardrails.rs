//! `/guardrails`: list, create, read, update and delete them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::Management;
use crate::api::error::ApiError;
use crate::api::guardrail_body;
use crate::api::paging::{Paging, query};
use crate::guardrails::Guardrail;
use crate::state::Shared;
use crate::validation::{JsonBody, is_uuid};

type Reply = Result<Json<Value>, ApiError>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    offset: Option<usize>,
    limit: Option<usize>,
    workspace_id: Option<String>,
}

/// `GET /guardrails`: those of one workspace, including its default one once configured.
pub(super) async fn list(management: Management, uri: Uri) -> Reply {
    let asked: ListQuery = query(&uri)?;
    let paging = Paging::new(asked.offset, asked.limit)?;
    management.account.with(|account| {
        let default = account.default_workspace();
        let workspace = match asked.workspace_id {
            Some(id) if !is_uuid(&id) => {
                return Err(ApiError::invalid("workspace_id must be a UUID"));
            }
            id => id.unwrap_or_else(|| default.clone()),
        };
        let is_shown = |guardrail: &&Guardrail| match &guardrail.workspace_id {
            Some(id) => *id == workspace,
            // From before there were workspaces; shown in the default workspace.
            None => workspace == default,
        };
        let shown: Vec<&Guardrail> = account.guardrails.iter().filter(is_shown).collect();
        Ok(paging.answer(&shown, |guardrail| Some(guardrail.to_json())))
    })
}

/// `POST /guardrails`. It enforces nothing until it is assigned.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    management: Management,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let now = shared.clock.now();
    let body = JsonBody::parse(&headers, &body)?;
    let id = shared.randomness.uuid();
    management.account.with(|account| {
        let (new, changes) = guardrail_body::creation(body, account)?;
        let guardrail = account.create_guardrail(new, id, now);
        guardrail.apply(changes);
        let data = guardrail.to_json();
        Ok((StatusCode::CREATED, Json(json!({ "data": data }))))
    })
}

/// `GET /guardrails/{id}`. A workspace's default does not exist before it is configured.
pub(super) async fn read(management: Management, Path(id): Path<String>) -> Reply {
    management.account.with(|account| {
        let guardrail = account.guardrail(&id).ok_or_else(ApiError::not_found)?;
        Ok(Json(json!({ "data": guardrail.to_json() })))
    })
}

/// `PATCH /guardrails/{id}`, which also configures a workspace's default for the first time.
pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    management: Management,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let now = shared.clock.now();
    let body = JsonBody::parse(&headers, &body)?;
    management.account.with(|account| {
        if account.guardrail(&id).is_none() && account.workspace_with_default(&id).is_none() {
            return Err(ApiError::not_found());
        }
        let before = account.guardrail(&id);
        let changes = guardrail_body::update(body, before)?;
        let guardrail = account.guardrail_to_change(&id, now);
        let guardrail = guardrail.ok_or_else(ApiError::not_found)?;
        guardrail.apply(changes);
        guardrail.updated_at = Some(now);
        Ok(Json(json!({ "data": guardrail.to_json() })))
    })
}

/// `DELETE /guardrails/{id}`, with its assignments.
pub(super) async fn delete(management: Management, Path(id): Path<String>) -> Reply {
    let was_there = management
        .account
        .with(|account| account.delete_guardrail(&id));
    was_there
        .then(|| Json(json!({ "deleted": true })))
        .ok_or_else(ApiError::not_found)
}
