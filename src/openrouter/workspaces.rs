//! Workspaces: lists them, and looks one up by its slug.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Client, NO_BODY};
use super::error::Error;
use super::identifiers::{GuardrailId, WorkspaceId, WorkspaceRef};
use super::lenient::{guardrail_id, null_as_default};
use super::rows::PAGE;

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Its permanent identifier.
    pub id: WorkspaceId,
    /// The name that people see. Can change.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// Its name in URLs. Can change, and become another workspace's.
    #[serde(default, deserialize_with = "null_as_default")]
    pub slug: String,
    /// The guardrail that applies to all its keys automatically; no key can be assigned to it.
    #[serde(
        default,
        deserialize_with = "guardrail_id",
        skip_serializing_if = "Option::is_none"
    )]
    pub default_guardrail_id: Option<GuardrailId>,
}

impl Client {
    /// A workspace (`GET /workspaces/{id or slug}`).
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such workspace.
    pub async fn workspace(&self, called: &WorkspaceRef) -> Result<Workspace, Error> {
        let path = format!("/workspaces/{}", called.as_str());
        let credential = self.transport.management_key();
        let answer = self
            .transport
            .send(Method::GET, &path, credential, NO_BODY)
            .await?;
        answer.data()
    }

    /// All workspaces that the management key sees.
    ///
    /// # Errors
    /// Every variant of [`Error`] but `UnusableKey`.
    pub async fn workspaces(&self) -> Result<Vec<Workspace>, Error> {
        self.all_rows("/workspaces").await
    }
    /// The ids of all workspaces that the management key sees, in order.
    ///
    /// # Errors
    /// [`Error::Unclear`] if one has no readable id, or the list cannot be shown to be complete.
    pub async fn workspace_ids(&self) -> Result<Vec<WorkspaceId>, Error> {
        let (mut ids, mut offset) = (Vec::new(), 0);
        loop {
            let page = self.page_of("/workspaces", offset).await?;
            for workspace in &page.data {
                ids.push(id_of(workspace)?);
            }
            offset += PAGE;
            if !page.has_more_from(offset)? {
                return complete(ids, page.total());
            }
        }
    }
}

fn id_of(workspace: &Value) -> Result<WorkspaceId, Error> {
    let id = workspace.get("id").and_then(Value::as_str);
    id.and_then(|id| WorkspaceId::parse(id).ok())
        .ok_or_else(|| Error::unclear("the list of workspaces has one without a readable id"))
}

/// Workspaces that are created or deleted between two pages move the others, and the number then differs. It is
/// 0 if the list does not report it.
fn complete(mut ids: Vec<WorkspaceId>, total: usize) -> Result<Vec<WorkspaceId>, Error> {
    ids.sort_unstable();
    ids.dedup();
    if total > 0 && total != ids.len() {
        return Err(Error::unclear("workspaces are missing from their list"));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> WorkspaceId {
        WorkspaceId::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
    }

    #[test]
    fn a_list_with_a_gap_is_not_complete() {
        let listed = vec![id(2), id(1), id(2)];
        assert_eq!(complete(listed.clone(), 2), Ok(vec![id(1), id(2)]));
        assert_eq!(complete(listed.clone(), 0), Ok(vec![id(1), id(2)]));
        assert!(complete(listed, 3).is_err());
    }

    #[test]
    fn a_workspace_without_an_id_is_not_passed_over() {
        for odd in [serde_json::json!({}), serde_json::json!({"id": "default"})] {
            assert!(id_of(&odd).is_err(), "{odd}");
        }
    }
}
