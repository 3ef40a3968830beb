//! Accounts: adding them, and turning one into an organization's.
//!
//! An account is identified by its number, counted from 0; the first exists from the start.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Refusal, account, accounts};
use crate::account::Account;
use crate::simulator::is_management_key;
use crate::state::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    /// Its management key. The caller chooses it, because no secret is shown here.
    management_key: String,
    #[serde(default)]
    organization: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// An additional management key.
    management_key: Option<String>,
    #[serde(default)]
    organization: bool,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let shown: Vec<Value> = accounts(&shared).iter().map(described).collect();
    Json(json!({ "data": shown }))
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Json(new): Json<New>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    check(&new.management_key)?;
    let account = Account::new(Arc::clone(&shared), shared.add_account());
    account.adopt_management_key(&new.management_key);
    if new.organization {
        account.become_organization();
    }
    Ok((StatusCode::CREATED, Json(described(&account))))
}

pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<usize>,
    Json(change): Json<Change>,
) -> Answer {
    let account = account(&shared, number)?;
    if let Some(key) = &change.management_key {
        check(key)?;
        account.adopt_management_key(key);
    }
    if change.organization && account.organization_id().is_none() {
        account.become_organization();
    }
    Ok(Json(described(&account)))
}

fn check(management_key: &str) -> Result<(), Refusal> {
    let complaint = "a management key must begin with sk-or-";
    is_management_key(management_key)
        .then_some(())
        .ok_or_else(|| (StatusCode::UNPROCESSABLE_ENTITY, complaint.to_owned()))
}

fn described(account: &Account) -> Value {
    json!({
        "account": account.number(),
        "organization_id": account.organization_id(),
        "default_workspace": account.default_workspace(),
        "workspaces": account.workspaces(),
        "keys": account.count(),
    })
}
