//! `GET /organization/members`: the ids that a key may name as its creator.

use axum::Json;
use axum::http::Uri;
use serde_json::Value;

use crate::api::Management;
use crate::api::error::ApiError;
use crate::api::paging::Paging;

/// 404 if the account belongs to one person.
pub(super) async fn members(management: Management, uri: Uri) -> Result<Json<Value>, ApiError> {
    let paging = Paging::of(&uri)?;
    management.account.with(|account| {
        account
            .owner
            .organization_id()
            .ok_or_else(ApiError::not_found)?;
        Ok(paging.answer(account.owner.members(), |member| Some(member.to_json())))
    })
}
