//! Workspaces: create, rename and delete them, and set their budgets.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Refusal, account, accounts, not_there, refused};
use crate::account::Account;
use crate::description::merge;
use crate::state::Shared;
use crate::workspaces::{Workspace, WorkspaceBudget};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    #[serde(default)]
    account: usize,
    name: String,
    slug: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    name: Option<String>,
    slug: Option<String>,
    budgets: Option<Vec<WorkspaceBudget>>,
    include_byok_in_budgets: Option<bool>,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let mut shown = Vec::new();
    for account in accounts(&shared) {
        account.with(|state| {
            let workspaces = state.workspaces.iter();
            shown.extend(workspaces.map(|workspace| described(&account, workspace)));
        });
    }
    Json(json!({ "data": shown }))
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Json(new): Json<New>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let account = account(&shared, new.account)?;
    let created = account.add_named_workspace(&new.name, &new.slug);
    let id = created.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Answer {
    let (account, before) = owner(&shared, &id)?;
    if change.name.is_some() || change.slug.is_some() {
        let name = change.name.as_ref().unwrap_or(&before.name);
        let slug = change.slug.as_ref().unwrap_or(&before.slug);
        account
            .rename_workspace(&before.id, name, slug)
            .map_err(refused)?;
    }
    let byok = change.include_byok_in_budgets;
    let byok = byok.unwrap_or(before.include_byok_in_budgets);
    account
        .set_workspace_budgets(&before.id, change.budgets.unwrap_or(before.budgets), byok)
        .map_err(refused)?;
    let (account, after) = owner(&shared, &before.id)?;
    Ok(Json(described(&account, &after)))
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let (account, workspace) = owner(&shared, &id)?;
    account.delete_workspace(&workspace.id).map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A workspace by id, or by slug in the first account that has a workspace with it.
fn owner(shared: &Arc<Shared>, id: &str) -> Result<(Account, Workspace), Refusal> {
    let mut accounts = accounts(shared).into_iter();
    let found = accounts.find_map(|account| Some((account.clone(), account.workspace(id)?)));
    found.ok_or_else(|| not_there("workspace"))
}

fn described(account: &Account, workspace: &Workspace) -> Value {
    let mut object = workspace.to_json();
    let more = json!({ "account": account.number(), "budgets": workspace.budgets });
    merge(&mut object, more);
    object
}
