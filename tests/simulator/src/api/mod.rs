//! OpenRouter's API: its routes and their permissions.
//!
//! One file per resource. The pipeline has already identified the caller and kept the body. Handlers
//! check the request, act on the account and describe the outcome as OpenRouter would.

mod assignments;
mod chat;
mod credits;
pub(crate) mod error;
mod guardrail_body;
mod guardrails;
mod key;
mod keys;
mod organization;
mod paging;
mod workspaces;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::{get, post};

use crate::account::Account;
use crate::api::error::ApiError;
use crate::requests::Caller;
use crate::state::{Identity, Shared};

/// The routes below `/api/v1`. None ends with a slash, and a trailing slash is not accepted.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/keys", get(keys::list).post(keys::create))
        .route(
            "/keys/{hash}",
            get(keys::read).patch(keys::update).delete(keys::delete),
        )
        .route("/key", get(key::describe))
        .route("/credits", get(credits::read))
        .route("/workspaces", get(workspaces::list))
        .route("/workspaces/{id}", get(workspaces::read))
        .route("/workspaces/{id}/members", get(workspaces::members))
        .route("/organization/members", get(organization::members))
        .route(
            "/guardrails",
            get(guardrails::list).post(guardrails::create),
        )
        .route(
            "/guardrails/{id}",
            get(guardrails::read)
                .patch(guardrails::update)
                .delete(guardrails::delete),
        )
        .route("/guardrails/assignments/keys", get(assignments::list_all))
        .route(
            "/guardrails/{id}/assignments/keys",
            get(assignments::list).post(assignments::assign),
        )
        .route(
            "/guardrails/{id}/assignments/keys/remove",
            post(assignments::unassign),
        )
        .route("/chat/completions", post(chat::complete))
        .method_not_allowed_fallback(error::method_not_allowed)
}

/// A request with a living management key, and the account that it manages.
struct Management {
    account: Account,
    hash: String,
}

/// A request with a living API key, and the account that is charged.
struct Consumer {
    account: Account,
    hash: String,
}

impl FromRequestParts<Arc<Shared>> for Management {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        match accepted(parts, shared)? {
            (account, hash, Caller::Management { .. }) => Ok(Self { account, hash }),
            _ => Err(ApiError::forbidden(
                "Only management keys can perform this operation",
            )),
        }
    }
}

impl FromRequestParts<Arc<Shared>> for Consumer {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        match accepted(parts, shared)? {
            (account, hash, Caller::Key { .. }) => Ok(Self { account, hash }),
            // OpenRouter's answer to a management key that requests a completion.
            _ => Err(ApiError::unauthorized("User not found.")),
        }
    }
}

/// The account, hash and kind of an accepted token of either kind.
fn accepted(parts: &Parts, shared: &Arc<Shared>) -> Result<(Account, String, Caller), ApiError> {
    let identity = parts.extensions.get::<Identity>().cloned();
    match identity {
        Some(Identity {
            account: Some(id),
            caller,
            hash: Some(hash),
        }) => Ok((Account::new(Arc::clone(shared), id), hash, caller)),
        Some(Identity {
            caller: Caller::Anonymous,
            ..
        })
        | None => Err(ApiError::unauthorized("Missing Authentication header")),
        Some(_) => Err(ApiError::unauthorized("User not found.")),
    }
}
