//! Changes to workspaces, guardrails and members behind the engine's back.

use super::{Account, NotPossible};
use crate::assignments::NotAssigned;
use crate::guardrails::{GuardrailChanges, NewGuardrail};
use crate::organization::{Member, MemberRole, Owner};
use crate::state::AccountState;
use crate::workspaces::{Workspace, WorkspaceBudget, is_slug};

/// Workspaces.
impl Account {
    /// Generates another workspace and returns its id.
    pub fn add_workspace(&self) -> String {
        let id = self.shared.randomness.uuid();
        self.adopt_workspace(&id);
        id
    }

    /// Creates a workspace and returns its id. Names need not be unique.
    ///
    /// # Errors
    /// If the slug is invalid or taken.
    pub fn add_named_workspace(&self, name: &str, slug: &str) -> Result<String, NotPossible> {
        let (id, now) = (self.shared.randomness.uuid(), self.now());
        self.with(|account| {
            check_slug(account, &id, slug)?;
            let workspace = Workspace::new(id.clone(), name.to_owned(), slug.to_owned(), now);
            account.workspaces.push(workspace);
            Ok(id)
        })
    }

    /// Changes a workspace's name and slug.
    ///
    /// # Errors
    /// If there is no such workspace, or the slug is invalid or taken.
    pub fn rename_workspace(&self, id: &str, name: &str, slug: &str) -> Result<(), NotPossible> {
        let now = self.now();
        self.with(|account| {
            check_slug(account, id, slug)?;
            let workspace = account.workspace_mut(id).ok_or(NotPossible::NotThere)?;
            (workspace.name, workspace.slug) = (name.to_owned(), slug.to_owned());
            workspace.updated_at = Some(now);
            Ok(())
        })
    }

    /// Deletes a workspace, and its guardrails with it.
    ///
    /// # Errors
    /// If there is no such workspace, it is the default one, or it contains living keys.
    pub fn delete_workspace(&self, id: &str) -> Result<(), NotPossible> {
        self.with(|account| {
            if account.workspace(id).is_none() || account.default_workspace() == id {
                return Err(NotPossible::NotThere);
            }
            let mut keys = account.keys.iter();
            if keys.any(|key| key.workspace_id == id && key.deleted_at.is_none()) {
                return Err(NotPossible::HasKeys);
            }
            let guardrails = account.guardrails.iter();
            let theirs = guardrails.filter(|one| one.workspace_id.as_deref() == Some(id));
            let theirs: Vec<String> = theirs.map(|guardrail| guardrail.id.clone()).collect();
            for guardrail in theirs {
                account.delete_guardrail(&guardrail);
            }
            account.workspaces.retain(|workspace| workspace.id != id);
            Ok(())
        })
    }

    /// Sets the budgets that all keys of a workspace share.
    ///
    /// # Errors
    /// If there is no such workspace.
    pub fn set_workspace_budgets(
        &self,
        id: &str,
        budgets: Vec<WorkspaceBudget>,
        include_byok: bool,
    ) -> Result<(), NotPossible> {
        let with_id = |mut budget: WorkspaceBudget| {
            if budget.id.is_empty() {
                budget.id = self.shared.randomness.uuid();
            }
            budget
        };
        let budgets = budgets.into_iter().map(with_id).collect();
        self.with(|account| {
            let workspace = account.workspace_mut(id).ok_or(NotPossible::NotThere)?;
            workspace.budgets = budgets;
            workspace.include_byok_in_budgets = include_byok;
            Ok(())
        })
    }

    pub(crate) fn adopt_workspace(&self, id: &str) {
        let now = self.now();
        self.with(|account| {
            let number = account.workspaces.len() + 1;
            let names = (format!("Workspace {number}"), format!("workspace-{number}"));
            let workspace = Workspace::new(id.to_owned(), names.0, names.1, now);
            account.workspaces.push(workspace);
        });
    }
}

/// Guardrails.
impl Account {
    /// Creates a guardrail and returns its id.
    pub fn add_guardrail(&self, new: NewGuardrail) -> String {
        let (id, now) = (self.shared.randomness.uuid(), self.now());
        self.with(|account| account.create_guardrail(new, id, now).id.clone())
    }

    /// Changes a guardrail. Creates a workspace's default guardrail if needed.
    ///
    /// # Errors
    /// If there is no such guardrail.
    pub fn change_guardrail(&self, id: &str, changes: GuardrailChanges) -> Result<(), NotPossible> {
        let now = self.now();
        self.with(|account| {
            let guardrail = account.guardrail_to_change(id, now);
            let guardrail = guardrail.ok_or(NotPossible::NotThere)?;
            guardrail.apply(changes);
            guardrail.updated_at = Some(now);
            Ok(())
        })
    }

    /// Deletes a guardrail and its assignments.
    ///
    /// # Errors
    /// If there is no such guardrail.
    pub fn delete_guardrail(&self, id: &str) -> Result<(), NotPossible> {
        let was_there = self.with(|account| account.delete_guardrail(id));
        was_there.then_some(()).ok_or(NotPossible::NotThere)
    }

    /// Assigns a living key to a guardrail, replacing its previous one.
    ///
    /// # Errors
    /// If there is no such key or guardrail, or the guardrail does not accept the key.
    pub fn assign_guardrail(&self, hash: &str, guardrail_id: &str) -> Result<(), NotPossible> {
        let (now, row_id) = (self.now(), || self.shared.randomness.uuid());
        let keys = [hash.to_owned()];
        match self.with(|account| account.assign(guardrail_id, &keys, row_id, now)) {
            Ok(1..) => Ok(()),
            Ok(0) | Err(NotAssigned::NoSuchGuardrail) => Err(NotPossible::NotThere),
            Err(NotAssigned::WorkspaceDefault | NotAssigned::OtherWorkspace) => {
                Err(NotPossible::NotAssignable)
            }
        }
    }

    /// Removes a key, living or deleted, from its guardrail. Returns whether it had one.
    pub fn unassign_guardrail(&self, hash: &str) -> bool {
        self.with(|account| {
            let before = account.assignments.len();
            account.assignments.retain(|row| row.key_hash != hash);
            account.assignments.len() < before
        })
    }

    /// Assigns a guardrail to exactly these members.
    ///
    /// # Errors
    /// If there is no such guardrail, or one of them is not a member.
    pub fn set_guardrail_members(&self, id: &str, members: &[String]) -> Result<(), NotPossible> {
        self.with(|account| {
            let known = |user_id: &String| {
                let mut members = account.owner.members().iter();
                members.any(|member| member.user_id == *user_id)
            };
            if account.guardrail(id).is_none() || !members.iter().all(known) {
                return Err(NotPossible::NotThere);
            }
            for guardrail in &mut account.guardrails {
                // A member has at most one guardrail, and so has a key.
                guardrail.members.retain(|member| !members.contains(member));
                if guardrail.id == id {
                    guardrail.members = members.to_vec();
                }
            }
            Ok(())
        })
    }
}

/// Members.
impl Account {
    /// Makes an organization without members the owner of the account. Keys created afterwards have a
    /// creator only if the request names one.
    pub fn become_organization(&self) {
        let id = self.shared.randomness.clerk_id("org");
        let members = Vec::new();
        self.with(|account| account.owner = Owner::Organization { id, members });
    }

    /// Adds a member and returns the user id.
    ///
    /// # Errors
    /// If the account belongs to one person.
    pub fn add_member(&self, email: &str, role: MemberRole) -> Result<String, NotPossible> {
        let user_id = self.shared.randomness.clerk_id("user");
        let member = Member {
            user_id: user_id.clone(),
            email: email.to_owned(),
            role,
        };
        self.with(|account| match &mut account.owner {
            Owner::Person { .. } => Err(NotPossible::NoOrganization),
            Owner::Organization { members, .. } => {
                members.push(member);
                Ok(user_id)
            }
        })
    }

    /// Removes a member as an identity provider does: the member's keys are disabled.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn deactivate_member(&self, user_id: &str) -> Result<(), NotPossible> {
        let now = self.now();
        self.with(|account| {
            let Owner::Organization { members, .. } = &mut account.owner else {
                return Err(NotPossible::NoOrganization);
            };
            let before = members.len();
            members.retain(|member| member.user_id != user_id);
            if members.len() == before {
                return Err(NotPossible::NotThere);
            }
            let theirs = account.keys.iter_mut().filter(|key| {
                key.creator_user_id.as_deref() == Some(user_id) && key.deleted_at.is_none()
            });
            for key in theirs {
                key.disabled = true;
                key.updated_at = Some(now);
            }
            Ok(())
        })
    }
}

fn check_slug(account: &AccountState, own_id: &str, slug: &str) -> Result<(), NotPossible> {
    let holder = account.workspace_called(slug);
    let is_free = holder.is_none_or(|workspace| workspace.id == own_id);
    (is_slug(slug) && is_free)
        .then_some(())
        .ok_or(NotPossible::Slug)
}
