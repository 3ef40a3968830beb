//! An account as a test sees it: its contents, and every change behind the engine's back.
//!
//! The methods do what a person could do in OpenRouter's dashboard, or what OpenRouter itself might do.
//! None of it appears in the request log. This file has the handle and its getters; the changes to
//! keys, organization and spending are in separate files.

mod keys;
mod organization;
mod spending;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::billing::Billing;
use crate::guardrails::Guardrail;
use crate::keys::Key;
use crate::organization::Member;
use crate::state::{AccountId, AccountState, Shared};
use crate::workspaces::Workspace;

/// A handle to one account. Clones are handles to the same one.
#[derive(Clone)]
pub struct Account {
    shared: Arc<Shared>,
    id: AccountId,
}

/// This account has no living key, or no management key, with that hash or secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account has no such key")]
pub struct NoSuchKey;

/// Why a change that is not about a key failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPossible {
    /// The account has nothing with that id.
    #[error("the account has nothing with this id")]
    NotThere,
    /// Another workspace has that slug, or the slug is invalid.
    #[error("the slug is taken or invalid")]
    Slug,
    /// OpenRouter refuses this while there are living keys.
    #[error("there are living keys in the workspace")]
    HasKeys,
    /// Only an organization has members.
    #[error("the account belongs to one person")]
    NoOrganization,
    /// The guardrail accepts no keys, or none of that workspace.
    #[error("the guardrail does not accept this key")]
    NotAssignable,
}

/// Getters.
impl Account {
    /// The living keys, oldest first: disabled, expired and hidden ones too.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let living = |key: &&Key| key.deleted_at.is_none();
        self.with(|account| account.keys.iter().filter(living).cloned().collect())
    }

    /// The number of living keys; cheap for any number.
    #[must_use]
    pub fn count(&self) -> usize {
        let living = |key: &&Key| key.deleted_at.is_none();
        self.with(|account| account.keys.iter().filter(living).count())
    }

    /// All keys, living and deleted, oldest first.
    #[must_use]
    pub fn all_keys(&self) -> Vec<Key> {
        self.with(|account| account.keys.clone())
    }

    /// The newest key with this hash, living or deleted.
    #[must_use]
    pub fn key(&self, hash: &str) -> Option<Key> {
        self.with(|account| account.key(hash).cloned())
    }

    /// The workspace of keys that were created without one.
    #[must_use]
    pub fn default_workspace(&self) -> String {
        self.with(|account| account.default_workspace())
    }

    /// All workspaces, the default one first.
    #[must_use]
    pub fn workspaces(&self) -> Vec<String> {
        let ids = |account: &mut AccountState| {
            let workspaces = account.workspaces.iter();
            workspaces.map(|workspace| workspace.id.clone()).collect()
        };
        self.with(ids)
    }

    /// The workspace with this id or slug.
    #[must_use]
    pub fn workspace(&self, id_or_slug: &str) -> Option<Workspace> {
        self.with(|account| account.workspace_called(id_or_slug).cloned())
    }

    /// All guardrails, oldest first. A workspace's default is among them once it has been configured.
    #[must_use]
    pub fn guardrails(&self) -> Vec<Guardrail> {
        self.with(|account| account.guardrails.clone())
    }

    /// The id of the guardrail that a key, living or deleted, is assigned to.
    #[must_use]
    pub fn guardrail_of(&self, hash: &str) -> Option<String> {
        self.with(|account| account.assigned_to(hash).map(str::to_owned))
    }

    /// The members of the organization; nobody if the account belongs to one person.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.with(|account| account.owner.members().to_vec())
    }

    /// The id of the organization that owns the account, if one does.
    #[must_use]
    pub fn organization_id(&self) -> Option<String> {
        self.with(|account| account.owner.organization_id().map(str::to_owned))
    }
}

impl Account {
    pub(crate) fn new(shared: Arc<Shared>, id: AccountId) -> Self {
        Self { shared, id }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    pub(crate) fn billing(&self) -> &Billing {
        &self.shared.billing
    }

    /// Its place among the accounts of the simulator, counted from 0.
    pub(crate) fn number(&self) -> usize {
        self.id.0
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut AccountState) -> T) -> T {
        self.shared.account(self.id, act)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.id).finish()
    }
}
