//! Guardrails: restrictions for keys.
//!
//! Budgets and lists of allowed models are enforced; the other settings are only stored and shown.
//! Assignments of keys are in `assignments.rs`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::description::merge;
use crate::keys::Key;
use crate::limits::{LimitReset, usd};
use crate::state::AccountState;
use crate::workspaces::default_guardrail_id;

/// A snapshot of a guardrail.
#[derive(Clone, Debug, PartialEq)]
pub struct Guardrail {
    /// A UUID.
    pub id: String,
    /// Its name, which need not be unique.
    pub name: String,
    /// The workspace whose keys it accepts. A guardrail from before there were workspaces has none and
    /// accepts every key.
    pub workspace_id: Option<String>,
    /// The budget of each key, and of each member, that it is assigned to, in US dollars.
    pub limit_usd: Option<f64>,
    /// When that budget resets.
    pub reset_interval: Option<LimitReset>,
    /// Whether spending through the owner's own provider keys counts towards the budget.
    pub include_byok_in_budgets: bool,
    /// The allowed models; all if `None`.
    pub allowed_models: Option<Vec<String>>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed, if ever.
    pub updated_at: Option<Timestamp>,
    /// The members that it is assigned to, by user id.
    pub members: Vec<String>,
    /// The settings that are stored but not enforced, by OpenRouter's names.
    pub settings: Map<String, Value>,
}

/// The properties of a new guardrail.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of the guardrail itself")]
pub struct NewGuardrail {
    pub name: String,
    /// The account's default workspace if `None`.
    pub workspace_id: Option<String>,
    /// Belongs to no workspace, like guardrails from before there were any.
    pub unscoped: bool,
    pub limit_usd: Option<f64>,
    pub reset_interval: Option<LimitReset>,
    pub include_byok_in_budgets: bool,
    pub allowed_models: Option<Vec<String>>,
}

/// The properties of a guardrail to change; `None` leaves one unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of the guardrail itself")]
pub struct GuardrailChanges {
    pub name: Option<String>,
    pub limit_usd: Option<Option<f64>>,
    pub reset_interval: Option<Option<LimitReset>>,
    pub include_byok_in_budgets: Option<bool>,
    pub allowed_models: Option<Option<Vec<String>>>,
    pub settings: Map<String, Value>,
}

impl NewGuardrail {
    /// A guardrail in the default workspace that allows everything.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

impl Guardrail {
    pub(crate) fn apply(&mut self, changes: GuardrailChanges) {
        fn replace<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        replace(&mut self.name, changes.name);
        replace(&mut self.limit_usd, changes.limit_usd);
        replace(&mut self.reset_interval, changes.reset_interval);
        replace(
            &mut self.include_byok_in_budgets,
            changes.include_byok_in_budgets,
        );
        replace(&mut self.allowed_models, changes.allowed_models);
        self.settings.extend(changes.settings);
    }

    /// The `data` of `GET /guardrails/{id}`.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Value::Object(self.settings.clone());
        let known = json!({
            "id": self.id,
            "name": self.name,
            "workspace_id": self.workspace_id,
            "limit_usd": self.limit_usd.map(usd),
            "reset_interval": self.reset_interval,
            "include_byok_in_budgets": self.include_byok_in_budgets,
            "allowed_models": self.allowed_models,
            "created_at": self.created_at.to_string(),
            "updated_at": self.updated_at.map(|instant| instant.to_string()),
        });
        merge(&mut object, known);
        object
    }

    fn allows(&self, model: &str) -> bool {
        let listed = |models: &Vec<String>| models.iter().any(|allowed| allowed == model);
        self.allowed_models.as_ref().is_none_or(listed)
    }
}

impl AccountState {
    pub(crate) fn guardrail(&self, id: &str) -> Option<&Guardrail> {
        self.guardrails.iter().find(|guardrail| guardrail.id == id)
    }

    /// Creates a guardrail. The id is given if it is to be a workspace's default.
    pub(crate) fn create_guardrail(
        &mut self,
        new: NewGuardrail,
        id: String,
        now: Timestamp,
    ) -> &mut Guardrail {
        let workspace_id = new.workspace_id.unwrap_or_else(|| self.default_workspace());
        self.guardrails.push(Guardrail {
            id,
            name: new.name,
            workspace_id: (!new.unscoped).then_some(workspace_id),
            limit_usd: new.limit_usd,
            reset_interval: new.reset_interval,
            include_byok_in_budgets: new.include_byok_in_budgets,
            allowed_models: new.allowed_models,
            created_at: now,
            updated_at: None,
            members: Vec::new(),
            settings: Map::new(),
        });
        let last = self.guardrails.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "it was pushed two lines above")]
        &mut self.guardrails[last]
    }

    /// The guardrail with this id. A workspace's default is created when it is first written.
    pub(crate) fn guardrail_to_change(
        &mut self,
        id: &str,
        now: Timestamp,
    ) -> Option<&mut Guardrail> {
        if self.guardrail(id).is_none() {
            let workspace_id = self.workspace_with_default(id)?;
            let new = NewGuardrail {
                workspace_id: Some(workspace_id.clone()),
                ..NewGuardrail::named(format!("Workspace {workspace_id} Default"))
            };
            self.create_guardrail(new, id.to_owned(), now);
        }
        let mut guardrails = self.guardrails.iter_mut();
        guardrails.find(|guardrail| guardrail.id == id)
    }

    /// Deletes a guardrail and its assignments. Returns whether it existed.
    pub(crate) fn delete_guardrail(&mut self, id: &str) -> bool {
        let before = self.guardrails.len();
        self.guardrails.retain(|guardrail| guardrail.id != id);
        self.assignments.retain(|row| row.guardrail_id != id);
        self.guardrails.len() < before
    }

    pub(crate) fn key_guardrail(&self, key_hash: &str) -> Option<&Guardrail> {
        self.guardrail(self.assigned_to(key_hash)?)
    }

    pub(crate) fn member_guardrail(&self, key: &Key) -> Option<&Guardrail> {
        let member = self.member_of(key)?;
        let mut guardrails = self.guardrails.iter();
        guardrails.find(|guardrail| guardrail.members.iter().any(|id| id == member))
    }

    /// The default guardrail of a workspace, if it has been configured.
    pub(crate) fn default_guardrail(&self, workspace_id: &str) -> Option<&Guardrail> {
        self.guardrail(&default_guardrail_id(workspace_id))
    }

    /// Whether every guardrail that applies to a key allows a model.
    pub(crate) fn allows_model(&self, key: &Key, model: &str) -> bool {
        let applying = [
            self.default_guardrail(&key.workspace_id),
            self.member_guardrail(key),
            self.key_guardrail(&key.hash),
        ];
        let mut applying = applying.into_iter().flatten();
        applying.all(|guardrail| guardrail.allows(model))
    }

    /// The workspace whose default guardrail has this id, if any.
    pub(crate) fn workspace_with_default(&self, id: &str) -> Option<String> {
        let mut workspaces = self.workspaces.iter();
        let owner = workspaces.find(|workspace| workspace.default_guardrail_id() == id);
        owner.map(|workspace| workspace.id.clone())
    }
}
