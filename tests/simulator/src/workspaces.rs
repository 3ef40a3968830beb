//! Workspaces: each key belongs to one, and a list shows the keys of one workspace.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::limits::LimitReset;
use crate::randomness::uuid_from;
use crate::state::AccountState;

/// A snapshot of a workspace.
#[derive(Clone, Debug, PartialEq)]
pub struct Workspace {
    /// A UUID that never changes.
    pub id: String,
    /// Its name, which can change.
    pub name: String,
    /// Its name in URLs, which can change.
    pub slug: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed, if ever.
    pub updated_at: Option<Timestamp>,
    /// Its creator.
    pub created_by: Option<String>,
    /// The added members, by user id. Everybody is a member of the default workspace.
    pub members: Vec<String>,
    /// The budgets that all its keys share.
    pub budgets: Vec<WorkspaceBudget>,
    /// Whether spending through the owner's own provider keys counts.
    pub include_byok_in_budgets: bool,
}

/// A budget that all keys of a workspace share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceBudget {
    /// A UUID; generated if empty.
    #[serde(default)]
    pub id: String,
    /// US dollars for one window.
    pub limit_usd: f64,
    /// The window; `None` is forever.
    #[serde(default)]
    pub interval: Option<LimitReset>,
}

impl Workspace {
    pub(crate) fn new(id: String, name: String, slug: String, now: Timestamp) -> Self {
        Self {
            id,
            name,
            slug,
            created_at: now,
            updated_at: None,
            created_by: None,
            members: Vec::new(),
            budgets: Vec::new(),
            include_byok_in_budgets: false,
        }
    }

    /// The id of the guardrail that applies to all its keys, whether it has been configured or not.
    #[must_use]
    pub fn default_guardrail_id(&self) -> String {
        default_guardrail_id(&self.id)
    }

    /// The `data` of `GET /workspaces/{id}`.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "slug": self.slug,
            "description": null,
            "created_at": self.created_at.to_string(),
            "created_by": self.created_by,
            "updated_at": self.updated_at.map(|instant| instant.to_string()),
            "default_guardrail_id": self.default_guardrail_id(),
            "default_image_model": null,
            "default_provider_sort": null,
            "default_text_model": null,
            "disabled_server_tools": null,
            "include_byok_in_budgets": self.include_byok_in_budgets,
            "io_logging_api_key_ids": null,
            "io_logging_sampling_rate": 1,
            "is_data_discount_logging_enabled": true,
            "is_observability_broadcast_enabled": false,
            "is_observability_io_logging_enabled": false,
        })
    }
}

/// Whether this is a valid slug: at most 50 lowercase letters and digits in groups joined by single
/// hyphens.
pub(crate) fn is_slug(text: &str) -> bool {
    let is_group = |group: &str| {
        !group.is_empty()
            && group
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.len() <= 50 && text.split('-').all(is_group)
}

pub(crate) fn default_guardrail_id(workspace_id: &str) -> String {
    uuid_from(&format!("default guardrail of {workspace_id}"))
}

impl AccountState {
    pub(crate) fn workspace(&self, id: &str) -> Option<&Workspace> {
        self.workspaces.iter().find(|workspace| workspace.id == id)
    }

    /// By UUID or slug.
    pub(crate) fn workspace_called(&self, id_or_slug: &str) -> Option<&Workspace> {
        let mut workspaces = self.workspaces.iter();
        workspaces.find(|workspace| workspace.id == id_or_slug || workspace.slug == id_or_slug)
    }

    pub(crate) fn workspace_mut(&mut self, id: &str) -> Option<&mut Workspace> {
        let mut workspaces = self.workspaces.iter_mut();
        workspaces.find(|workspace| workspace.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_lowercase_groups_joined_by_single_hyphens() {
        for good in ["default", "team-7", "a"] {
            assert!(is_slug(good), "{good}");
        }
        for bad in ["", "Team", "team_7", "-team", "team-", "a--b"] {
            assert!(!is_slug(bad), "{bad}");
        }
        assert!(is_slug(&"a".repeat(50)) && !is_slug(&"a".repeat(51)));
    }
}
