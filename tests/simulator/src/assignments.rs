//! Which keys are assigned to which guardrail.
//!
//! The rules are those that the stub in OpenRouter's Terraform provider claims to mirror.

use jiff::Timestamp;

use crate::keys::Key;
use crate::state::AccountState;

/// A key's assignment to a guardrail. It outlives the key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) id: String,
    pub(crate) key_hash: String,
    pub(crate) guardrail_id: String,
    pub(crate) assigned_by: Option<String>,
    pub(crate) created_at: Timestamp,
}

/// Why keys were not assigned. In that case none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAssigned {
    NoSuchGuardrail,
    WorkspaceDefault,
    OtherWorkspace,
}

impl AccountState {
    /// Assigns keys to a guardrail, replacing their previous ones, and returns how many. Unknown keys
    /// are ignored.
    pub(crate) fn assign(
        &mut self,
        guardrail_id: &str,
        hashes: &[String],
        row_id: impl Fn() -> String,
        now: Timestamp,
    ) -> Result<usize, NotAssigned> {
        let keys = self.assignable(guardrail_id, hashes)?;
        let workspace = self.guardrail(guardrail_id);
        let workspace = workspace.and_then(|guardrail| guardrail.workspace_id.clone());
        let belongs = |(_, key_workspace): &(String, String)| {
            workspace.as_ref().is_none_or(|id| id == key_workspace)
        };
        if !keys.iter().all(belongs) {
            return Err(NotAssigned::OtherWorkspace);
        }
        let assigned = keys.len();
        for (key_hash, _) in keys {
            if self.assigned_to(&key_hash) == Some(guardrail_id) {
                continue;
            }
            self.assignments.retain(|row| row.key_hash != key_hash);
            self.assignments.push(Assignment {
                id: row_id(),
                key_hash,
                guardrail_id: guardrail_id.to_owned(),
                assigned_by: self.owner.default_creator(),
                created_at: now,
            });
        }
        Ok(assigned)
    }

    /// Removes keys from a guardrail, and returns how many. Keys of another guardrail are not changed.
    pub(crate) fn unassign(
        &mut self,
        guardrail_id: &str,
        hashes: &[String],
    ) -> Result<usize, NotAssigned> {
        let keys = self.assignable(guardrail_id, hashes)?;
        let before = self.assignments.len();
        self.assignments.retain(|row| {
            row.guardrail_id != guardrail_id || !keys.iter().any(|(hash, _)| *hash == row.key_hash)
        });
        Ok(before - self.assignments.len())
    }

    /// The id of the guardrail that a key is assigned to.
    pub(crate) fn assigned_to(&self, key_hash: &str) -> Option<&str> {
        let row = self.assignments.iter().find(|row| row.key_hash == key_hash);
        row.map(|row| row.guardrail_id.as_str())
    }

    /// The living keys among these, each once and with its workspace, if the guardrail accepts any.
    fn assignable(
        &self,
        guardrail_id: &str,
        hashes: &[String],
    ) -> Result<Vec<(String, String)>, NotAssigned> {
        if self.workspace_with_default(guardrail_id).is_some() {
            return Err(NotAssigned::WorkspaceDefault);
        }
        if self.guardrail(guardrail_id).is_none() {
            return Err(NotAssigned::NoSuchGuardrail);
        }
        let mut found: Vec<(String, String)> = Vec::new();
        for hash in hashes {
            let living = |key: &&Key| key.deleted_at.is_none() && key.hash == *hash;
            let key = self.keys.iter().rev().find(living);
            if let Some(key) = key.filter(|_| !found.iter().any(|(known, _)| known == hash)) {
                found.push((hash.clone(), key.workspace_id.clone()));
            }
        }
        Ok(found)
    }
}
