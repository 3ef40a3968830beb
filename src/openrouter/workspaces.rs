//! Workspaces: which there are, and which one a slug is that of.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::client::{Client, NO_BODY};
use super::error::Error;
use super::identifiers::{GuardrailId, WorkspaceId, WorkspaceRef};
use super::lenient::{guardrail_id, null_as_default};

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// What identifies it, for good.
    pub id: WorkspaceId,
    /// The name that people see. Can change.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// Its name in URLs. Can change, and become another workspace's.
    #[serde(default, deserialize_with = "null_as_default")]
    pub slug: String,
    /// The guardrail that applies to all its keys by itself, and takes none.
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
    /// [`Error::NotFound`] if none is called that.
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
}
