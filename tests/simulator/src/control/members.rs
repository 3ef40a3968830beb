//! The members of organizations: add them, and deactivate them as an identity provider does.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refusal, account, accounts, not_there, refused};
use crate::organization::MemberRole;
use crate::state::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    #[serde(default)]
    account: usize,
    email: String,
    #[serde(default)]
    role: MemberRole,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let shown: Vec<Value> = accounts(&shared)
        .iter()
        .flat_map(|account| {
            let members = account.members().into_iter();
            let described = |member: crate::organization::Member| {
                json!({
                    "account": account.number(),
                    "id": member.user_id,
                    "email": member.email,
                    "role": member.role,
                })
            };
            members.map(described).collect::<Vec<_>>()
        })
        .collect();
    Json(json!({ "data": shown }))
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Json(new): Json<New>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let account = account(&shared, new.account)?;
    let id = account.add_member(&new.email, new.role).map_err(refused)?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

/// Also disables the keys that the member created.
pub(super) async fn deactivate(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let mut accounts = accounts(&shared).into_iter();
    accounts
        .any(|account| account.deactivate_member(&id).is_ok())
        .then_some(StatusCode::NO_CONTENT)
        .ok_or_else(|| not_there("member"))
}
