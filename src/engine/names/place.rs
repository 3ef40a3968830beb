//! Where a key is ordered, and where it is searched for if the outcome is unknown.

use serde::{Deserialize, Serialize};

use crate::engine::names::ConnectionName;
use crate::openrouter::WorkspaceId;

/// A workspace, as one connection reaches it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The connection.
    pub connection: ConnectionName,
    /// The workspace; `None` is the account's default one.
    pub workspace_id: Option<WorkspaceId>,
}

impl Place {
    /// Whether this is the account's default workspace. One that was named by its UUID is not known to be it.
    pub fn is_default(&self) -> bool {
        self.workspace_id.is_none()
    }
}
