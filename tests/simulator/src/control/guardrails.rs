//! Guardrails: create, change, delete them, and assign them to members.
//!
//! Keys are assigned by changing the key.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Refusal, account, accounts, not_there, refused};
use crate::account::Account;
use crate::description::merge;
use crate::fault::present;
use crate::guardrails::{Guardrail, GuardrailChanges, NewGuardrail};
use crate::limits::LimitReset;
use crate::state::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    #[serde(default)]
    account: usize,
    name: String,
    workspace_id: Option<String>,
    #[serde(default)]
    unscoped: bool,
    limit_usd: Option<f64>,
    reset_interval: Option<LimitReset>,
    #[serde(default)]
    include_byok_in_budgets: bool,
    allowed_models: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    limit_usd: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    reset_interval: Option<Option<LimitReset>>,
    include_byok_in_budgets: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    allowed_models: Option<Option<Vec<String>>>,
    /// User ids.
    members: Option<Vec<String>>,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let shown: Vec<Value> = accounts(&shared)
        .iter()
        .flat_map(|account| {
            let guardrails = account.guardrails();
            let described = |guardrail| described(account, guardrail);
            guardrails.iter().map(described).collect::<Vec<_>>()
        })
        .collect();
    Json(json!({ "data": shown }))
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Json(new): Json<New>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let account = account(&shared, new.account)?;
    let workspace = new.workspace_id.as_deref();
    if workspace.is_some_and(|id| !account.workspaces().iter().any(|known| known == id)) {
        return Err(not_there("workspace"));
    }
    let id = account.add_guardrail(NewGuardrail {
        name: new.name,
        workspace_id: new.workspace_id,
        unscoped: new.unscoped,
        limit_usd: new.limit_usd,
        reset_interval: new.reset_interval,
        include_byok_in_budgets: new.include_byok_in_budgets,
        allowed_models: new.allowed_models,
    });
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

/// Changes a guardrail, including a workspace's default that is not configured yet.
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Answer {
    let account = owner(&shared, &id)?;
    let changes = GuardrailChanges {
        name: change.name,
        limit_usd: change.limit_usd,
        reset_interval: change.reset_interval,
        include_byok_in_budgets: change.include_byok_in_budgets,
        allowed_models: change.allowed_models,
        ..GuardrailChanges::default()
    };
    account.change_guardrail(&id, changes).map_err(refused)?;
    if let Some(members) = &change.members {
        account
            .set_guardrail_members(&id, members)
            .map_err(refused)?;
    }
    let guardrail = account.with(|account| account.guardrail(&id).cloned());
    let guardrail = guardrail.ok_or_else(|| not_there("guardrail"))?;
    Ok(Json(described(&account, &guardrail)))
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let account = owner(&shared, &id)?;
    account.delete_guardrail(&id).map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

fn owner(shared: &Arc<Shared>, id: &str) -> Result<Account, Refusal> {
    let has = |account: &Account| {
        account.with(|account| {
            account.guardrail(id).is_some() || account.workspace_with_default(id).is_some()
        })
    };
    let account = accounts(shared).into_iter().find(has);
    account.ok_or_else(|| not_there("guardrail"))
}

fn described(account: &Account, guardrail: &Guardrail) -> Value {
    let mut object = guardrail.to_json();
    let more = json!({ "account": account.number(), "members": guardrail.members });
    merge(&mut object, more);
    object
}
