//! Which keys are assigned to which guardrail: list, assign, unassign.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::Management;
use crate::api::error::ApiError;
use crate::api::paging::Paging;
use crate::assignments::{Assignment, NotAssigned};
use crate::keys::Key;
use crate::state::{AccountState, Shared};
use crate::validation::JsonBody;

type Reply = Result<Json<Value>, ApiError>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    key_hashes: Vec<String>,
}

/// `GET /guardrails/assignments/keys`: of all guardrails.
pub(super) async fn list_all(management: Management, uri: Uri) -> Reply {
    let paging = Paging::of(&uri)?;
    management
        .account
        .with(|account| Ok(rows(account, paging, |_| true)))
}

/// `GET /guardrails/{id}/assignments/keys`.
pub(super) async fn list(management: Management, Path(id): Path<String>, uri: Uri) -> Reply {
    let paging = Paging::of(&uri)?;
    management.account.with(|account| {
        account.guardrail(&id).ok_or_else(ApiError::not_found)?;
        Ok(rows(account, paging, |row| row.guardrail_id == id))
    })
}

/// `POST /guardrails/{id}/assignments/keys`: replaces each key's previous guardrail.
pub(super) async fn assign(
    State(shared): State<Arc<Shared>>,
    management: Management,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let hashes = key_hashes(&headers, &body)?;
    let (now, row_id) = (shared.clock.now(), || shared.randomness.uuid());
    let assigned = management
        .account
        .with(|account| account.assign(&id, &hashes, row_id, now));
    assigned
        .map(|count| Json(json!({ "assigned_count": count })))
        .map_err(refusal)
}

/// `POST /guardrails/{id}/assignments/keys/remove`.
pub(super) async fn unassign(
    management: Management,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let hashes = key_hashes(&headers, &body)?;
    let taken_off = management
        .account
        .with(|account| account.unassign(&id, &hashes));
    taken_off
        .map(|count| Json(json!({ "unassigned_count": count })))
        .map_err(refusal)
}

/// A page is cut from all rows; rows whose key is deleted are then removed.
fn rows(
    account: &AccountState,
    paging: Paging,
    is_asked_for: impl Fn(&Assignment) -> bool,
) -> Json<Value> {
    let rows = account.assignments.iter();
    let rows: Vec<&Assignment> = rows.filter(|row| is_asked_for(row)).collect();
    paging.answer(&rows, |row| {
        let living = |key: &&Key| key.deleted_at.is_none() && key.hash == row.key_hash;
        let key = account.keys.iter().rev().find(living)?;
        Some(json!({
            "id": row.id,
            "key_hash": row.key_hash,
            "guardrail_id": row.guardrail_id,
            "key_name": key.name,
            "key_label": key.label,
            "assigned_by": row.assigned_by,
            "created_at": row.created_at.to_string(),
        }))
    })
}

fn key_hashes(headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, ApiError> {
    let Keys { key_hashes } = JsonBody::parse(headers, body)?.into()?;
    if key_hashes.is_empty() {
        return Err(ApiError::invalid("key_hashes must not be empty"));
    }
    Ok(key_hashes)
}

fn refusal(reason: NotAssigned) -> ApiError {
    match reason {
        NotAssigned::NoSuchGuardrail => ApiError::not_found(),
        NotAssigned::WorkspaceDefault => ApiError::bad_request(
            "Cannot assign keys to a default guardrail. Default guardrails apply to all unassigned keys automatically.",
        ),
        NotAssigned::OtherWorkspace => {
            ApiError::bad_request("Some keys do not belong to the same workspace as the guardrail")
        }
    }
}
