//! The workspaces of an account: keys are listed one workspace at a time.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, NO_BODY};
use super::error::Error;
use super::identifiers::WorkspaceId;

/// A page of `GET /workspaces`.
#[derive(Deserialize)]
pub(super) struct Page {
    data: Vec<Value>,
    #[serde(default)]
    total_count: Option<usize>,
}

impl Client {
    /// The ids of all workspaces that the management key sees, in order (`GET /workspaces`): one request
    /// for a hundred.
    ///
    /// # Errors
    /// [`Error::Unclear`] if one has no readable id, or the list cannot be shown to be complete.
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceId>, Error> {
        let mut ids = Vec::new();
        for _ in 0..MAX_PAGES {
            let path = format!("/workspaces?limit={FULL_PAGE}&offset={}", ids.len());
            let credential = self.transport.management_key();
            let sent = self.transport.send(Method::GET, &path, credential, NO_BODY);
            let page: Page = sent.await?.read()?;
            let length = page.data.len();
            for workspace in page.data {
                ids.push(id_of(&workspace)?);
            }
            if length < FULL_PAGE {
                return complete(ids, page.total_count);
            }
        }
        let reason = format!("the list of workspaces has not ended after {MAX_PAGES} pages");
        Err(Error::unclear(reason))
    }
}

fn id_of(workspace: &Value) -> Result<WorkspaceId, Error> {
    let id = workspace.get("id").and_then(Value::as_str);
    id.and_then(|id| WorkspaceId::parse(id).ok())
        .ok_or_else(|| Error::unclear("the list of workspaces has one without a readable id"))
}

/// Workspaces that come and go between two pages move the others: then the number does not fit.
fn complete(mut ids: Vec<WorkspaceId>, total: Option<usize>) -> Result<Vec<WorkspaceId>, Error> {
    ids.sort_unstable();
    ids.dedup();
    if total.is_some_and(|total| total != ids.len()) {
        return Err(Error::unclear("workspaces are missing from their list"));
    }
    Ok(ids)
}

const FULL_PAGE: usize = 100;
const MAX_PAGES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> WorkspaceId {
        WorkspaceId::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
    }

    #[test]
    fn a_list_with_a_gap_is_not_complete() {
        let listed = vec![id(2), id(1), id(2)];
        assert_eq!(complete(listed.clone(), Some(2)), Ok(vec![id(1), id(2)]));
        assert_eq!(complete(listed.clone(), None), Ok(vec![id(1), id(2)]));
        assert!(complete(listed, Some(3)).is_err());
    }

    #[test]
    fn a_workspace_without_an_id_is_not_passed_over() {
        for odd in [serde_json::json!({}), serde_json::json!({"id": "default"})] {
            assert!(id_of(&odd).is_err(), "{odd}");
        }
    }
}
