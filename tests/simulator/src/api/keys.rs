//! `/keys`: list, create, read, update and delete API keys with a management key.
//!
//! The specified answers, and the three faults that falsify a creation.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Management;
use crate::api::error::ApiError;
use crate::description::Described;
use crate::fault::Fault;
use crate::keys::{Authentication, Key};
use crate::state::Shared;
use crate::validation::{self, JsonBody};

type Reply = Result<Json<Value>, ApiError>;

#[derive(Serialize)]
struct Page<'a> {
    data: Vec<Described<'a>>,
}

/// `GET /keys`: one page of one workspace, newest first.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    management: Management,
    uri: Uri,
) -> Result<Response, ApiError> {
    let now = shared.clock.now();
    let seen = shared.billing.rules().reported(now);
    management.account.with(|account| {
        let (selection, offset) = validation::list_query(&uri, account)?;
        let page = account.page(&selection, offset, PAGE, now);
        let data = page.into_iter().map(|key| key.described(now, seen));
        // Serialized here: it borrows from the account.
        let page = Page {
            data: data.collect(),
        };
        Ok(Json(page).into_response())
    })
}

/// `POST /keys`: the only answer that contains the secret, beside `data` and not in it.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    management: Management,
    fault: Option<Extension<Fault>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let now = shared.clock.now();
    let body = JsonBody::parse(&headers, &body)?;
    let secret = shared.randomness.api_key();
    management.account.with(|account| {
        let new = validation::new_key(body, account, now)?;
        let key = account.create(new, secret.clone(), now);
        if let Some(Extension(fault)) = fault {
            falsify(key, &fault);
        }
        Ok((
            StatusCode::CREATED,
            Json(json!({ "data": key.to_json(now), "key": secret })),
        ))
    })
}

/// `GET /keys/{hash}`, for a key in any workspace of the account.
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    management: Management,
    Path(hash): Path<String>,
) -> Reply {
    let now = shared.clock.now();
    let seen = shared.billing.rules().reported(now);
    management.account.with(|account| {
        let key = account.living(&hash).ok_or_else(ApiError::not_found)?;
        Ok(Json(json!({ "data": key.described(now, seen) })))
    })
}

/// `PATCH /keys/{hash}`: changes the given fields; `null` clears.
pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    management: Management,
    Path(hash): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let now = shared.clock.now();
    let seen = shared.billing.rules().reported(now);
    let body = JsonBody::parse(&headers, &body)?;
    management.account.with(|account| {
        account.living(&hash).ok_or_else(ApiError::not_found)?;
        let changes = validation::key_update(body, account)?;
        let key = account.living(&hash).ok_or_else(ApiError::not_found)?;
        key.apply(&changes);
        key.updated_at = Some(now);
        Ok(Json(json!({ "data": key.described(now, seen) })))
    })
}

/// `DELETE /keys/{hash}`: for good.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    management: Management,
    Path(hash): Path<String>,
) -> Reply {
    let now = shared.clock.now();
    management.account.with(|account| {
        let key = account.living(&hash).ok_or_else(ApiError::not_found)?;
        key.deleted_at = Some(now);
        Ok(Json(json!({ "deleted": true })))
    })
}

fn falsify(key: &mut Key, fault: &Fault) {
    match fault {
        Fault::CreatedOtherwise(changes) => key.apply(changes),
        Fault::CreatedKeyDoesNotAuthenticate { uses } => {
            key.authentication = uses.map_or(Authentication::Never, Authentication::FailsNext);
        }
        // The pipeline handles the others.
        _ => {}
    }
}

/// How many keys a page has, according to the management API keys guide.
const PAGE: usize = 100;
