//! `GET /workspaces`, `GET /workspaces/{id or slug}` and its members.

use axum::Json;
use axum::extract::Path;
use axum::http::Uri;
use serde_json::{Value, json};

use crate::api::Management;
use crate::api::error::ApiError;
use crate::api::paging::Paging;
use crate::organization::Member;
use crate::randomness::uuid_from;
use crate::workspaces::Workspace;

type Reply = Result<Json<Value>, ApiError>;

/// `GET /workspaces`: all of the account, the default one first.
pub(super) async fn list(management: Management, uri: Uri) -> Reply {
    let paging = Paging::of(&uri)?;
    let rows = |workspaces: &[Workspace]| paging.answer(workspaces, |one| Some(one.to_json()));
    Ok(management.account.with(|account| rows(&account.workspaces)))
}

/// `GET /workspaces/{id or slug}`.
pub(super) async fn read(management: Management, Path(id): Path<String>) -> Reply {
    let workspace = management.account.workspace(&id);
    let workspace = workspace.ok_or_else(ApiError::not_found)?;
    Ok(Json(json!({ "data": workspace.to_json() })))
}

/// `GET /workspaces/{id or slug}/members`: of the default workspace, everybody.
pub(super) async fn members(management: Management, Path(id): Path<String>, uri: Uri) -> Reply {
    let paging = Paging::of(&uri)?;
    management.account.with(|account| {
        let workspace = account.workspace_called(&id);
        let workspace = workspace.ok_or_else(ApiError::not_found)?;
        let everybody = account.default_workspace() == workspace.id;
        let members = account.owner.members().iter();
        let members = members.filter(|one| everybody || workspace.members.contains(&one.user_id));
        let members: Vec<&Member> = members.collect();
        Ok(paging.answer(&members, |member| Some(membership(workspace, member))))
    })
}

fn membership(workspace: &Workspace, member: &Member) -> Value {
    json!({
        "id": uuid_from(&format!("{} in {}", member.user_id, workspace.id)),
        "workspace_id": workspace.id,
        "user_id": member.user_id,
        "role": member.role,
        "created_at": workspace.created_at.to_string(),
    })
}
