//! An account as a test sees it: everything in it, and everything that can happen to it behind the
//! engine's back.
//!
//! What is done here is what a person could do in OpenRouter's dashboard, or what OpenRouter itself
//! might do. None of it appears in the request log.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::keys::{Key, ListDelay, NewKey};
use crate::randomness::hash_of;
use crate::state::{AccountId, AccountState, ManagementKey, Shared};

/// A handle to one account. Clones are handles to the same one.
#[derive(Clone)]
pub struct Account {
    shared: Arc<Shared>,
    id: AccountId,
}

/// No living key, or no management key, of this account goes by that hash or secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the account has no such key")]
pub struct NoSuchKey;

/// What can be seen.
impl Account {
    /// The living keys, oldest first: disabled, expired and hidden ones too.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = self.all_keys();
        keys.retain(|key| key.deleted_at.is_none());
        keys
    }

    /// How many living keys there are: cheap, however many.
    #[must_use]
    pub fn count(&self) -> usize {
        let living = |key: &&Key| key.deleted_at.is_none();
        self.with(|account| account.keys.iter().filter(living).count())
    }

    /// All keys that ever were, oldest first.
    #[must_use]
    pub fn all_keys(&self) -> Vec<Key> {
        self.with(|account| account.keys.clone())
    }

    /// The newest key with this hash, living or deleted.
    #[must_use]
    pub fn key(&self, hash: &str) -> Option<Key> {
        self.with(|account| {
            let mut newest_first = account.keys.iter().rev();
            newest_first.find(|key| key.hash == hash).cloned()
        })
    }

    /// The workspace of keys that ask for none.
    #[must_use]
    pub fn default_workspace(&self) -> String {
        self.with(|account| account.default_workspace())
    }

    /// All workspaces, the default one first.
    #[must_use]
    pub fn workspaces(&self) -> Vec<String> {
        self.with(|account| account.workspaces.clone())
    }
}

/// What can happen behind the engine's back.
impl Account {
    /// Creates a key that the engine knows nothing of.
    pub fn create_key(&self, new: NewKey) -> Key {
        let (secret, now) = (self.shared.randomness.api_key(), self.shared.clock.now());
        self.with(|account| account.create(new, secret, now).clone())
    }

    /// Creates `count` keys named `<prefix> 1`, `<prefix> 2` and so on.
    pub fn create_keys(&self, prefix: &str, count: usize) {
        for number in 1..=count {
            self.create_key(NewKey::named(format!("{prefix} {number}")));
        }
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// If there is no such living key; so for all that follow.
    pub fn delete_key(&self, hash: &str) -> Result<(), NoSuchKey> {
        let now = self.shared.clock.now();
        self.change(hash, |key| key.deleted_at = Some(now))
    }

    /// Switches a key off, or on again.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_disabled(&self, hash: &str, disabled: bool) -> Result<(), NoSuchKey> {
        self.change(hash, |key| key.disabled = disabled)
    }

    /// Lets a key have spent so many US dollars, all of them now.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_usage(&self, hash: &str, usd: f64) -> Result<(), NoSuchKey> {
        let now = self.shared.clock.now();
        self.change(hash, |key| key.usage.replace(now, usd))
    }

    /// The same for what was spent through the owner's own provider keys.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_byok_usage(&self, hash: &str, usd: f64) -> Result<(), NoSuchKey> {
        let now = self.shared.clock.now();
        self.change(hash, |key| key.byok_usage.replace(now, usd))
    }

    /// Changes when a key stops working, which the API itself cannot.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_expiry(&self, hash: &str, expiry: Option<Timestamp>) -> Result<(), NoSuchKey> {
        self.change(hash, |key| key.expires_at = expiry)
    }

    /// Leaves a key out of lists for a while. It can still be read by its hash.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn hide_key_from_lists(&self, hash: &str, delay: ListDelay) -> Result<(), NoSuchKey> {
        let hiding = delay.starting(self.shared.clock.now());
        self.change(hash, |key| key.hidden = Some(hiding))
    }

    /// The same for the newest living key.
    ///
    /// # Errors
    /// If there is no living key.
    pub fn hide_newest_key_from_lists(&self, delay: ListDelay) -> Result<(), NoSuchKey> {
        let newest = self.keys().pop().ok_or(NoSuchKey)?;
        self.hide_key_from_lists(&newest.hash, delay)
    }

    /// The same for every key that is created from now on; `None` ends it.
    pub fn hide_new_keys_from_lists(&self, delay: Option<ListDelay>) {
        self.with(|account| account.new_keys_hidden = delay);
    }

    /// Makes up a further management key and returns it.
    pub fn add_management_key(&self) -> String {
        let secret = self.shared.randomness.api_key();
        self.adopt_management_key(&secret);
        secret
    }

    /// Ends a management key for good.
    ///
    /// # Errors
    /// If `secret` is no management key of this account.
    pub fn revoke_management_key(&self, secret: &str) -> Result<(), NoSuchKey> {
        self.change_management_key(secret, |key| key.revoked = true)
    }

    /// Changes when a management key stops working; an instant that has passed ends it now.
    ///
    /// # Errors
    /// If `secret` is no management key of this account.
    pub fn set_management_key_expiry(
        &self,
        secret: &str,
        expiry: Option<Timestamp>,
    ) -> Result<(), NoSuchKey> {
        self.change_management_key(secret, |key| key.expires_at = expiry)
    }

    /// Makes up a further workspace and returns its id.
    pub fn add_workspace(&self) -> String {
        let id = self.shared.randomness.uuid();
        self.adopt_workspace(&id);
        id
    }
}

impl Account {
    pub(crate) fn new(shared: Arc<Shared>, id: AccountId) -> Self {
        Self { shared, id }
    }

    pub(crate) fn adopt_management_key(&self, secret: &str) {
        self.with(|account| account.management_keys.push(ManagementKey::new(secret)));
    }

    pub(crate) fn adopt_workspace(&self, id: &str) {
        self.with(|account| account.workspaces.push(id.to_owned()));
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut AccountState) -> T) -> T {
        self.shared.account(self.id, act)
    }

    fn change(&self, hash: &str, act: impl FnOnce(&mut Key)) -> Result<(), NoSuchKey> {
        self.with(|account| account.living(hash).map(act).ok_or(NoSuchKey))
    }

    fn change_management_key(
        &self,
        secret: &str,
        act: impl FnOnce(&mut ManagementKey),
    ) -> Result<(), NoSuchKey> {
        let hash = hash_of(secret);
        self.with(|account| account.management_key(&hash).map(act).ok_or(NoSuchKey))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.id).finish()
    }
}
