//! Where a key is ordered, and looked for when nobody knows what came of that.

use serde::{Deserialize, Serialize};

use crate::engine::names::ConnectionName;
use crate::openrouter::WorkspaceId;

/// A workspace, as one connection reaches it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Through which connection.
    pub connection: ConnectionName,
    /// In which workspace; `None` is the account's default one.
    pub workspace_id: Option<WorkspaceId>,
}
