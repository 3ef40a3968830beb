//! Changes to keys and management keys behind the engine's back.

use jiff::Timestamp;

use super::{Account, NoSuchKey};
use crate::fault::KeyChanges;
use crate::hiding::ListDelay;
use crate::keys::{Key, NewKey};
use crate::management_keys::ManagementKey;
use crate::randomness::hash_of;

impl Account {
    /// Creates a key that the engine does not know.
    pub fn create_key(&self, new: NewKey) -> Key {
        let (secret, now) = (self.shared.randomness.api_key(), self.now());
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
    /// If there is no such living key. The same holds for the methods below.
    pub fn delete_key(&self, hash: &str) -> Result<(), NoSuchKey> {
        let now = self.now();
        self.change(hash, |key| key.deleted_at = Some(now))
    }

    /// Disables or enables a key.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_disabled(&self, hash: &str, disabled: bool) -> Result<(), NoSuchKey> {
        let changes = KeyChanges {
            disabled: Some(disabled),
            ..KeyChanges::default()
        };
        self.change_key(hash, &changes)
    }

    /// Changes a key as in the dashboard: its name, its limit, its workspace and the rest.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn change_key(&self, hash: &str, changes: &KeyChanges) -> Result<(), NoSuchKey> {
        let now = self.now();
        self.change(hash, |key| {
            key.apply(changes);
            key.updated_at = Some(now);
        })
    }

    /// Changes the time of a key's last use; OpenRouter may have none.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_last_used(&self, hash: &str, at: Option<Timestamp>) -> Result<(), NoSuchKey> {
        self.change(hash, |key| key.last_used_at = at)
    }

    /// Changes when a key was created, which the API cannot do.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_created(&self, hash: &str, at: Timestamp) -> Result<(), NoSuchKey> {
        self.change(hash, |key| key.created_at = at)
    }

    /// Changes when a key stops working, which the API cannot do.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_expiry(&self, hash: &str, expiry: Option<Timestamp>) -> Result<(), NoSuchKey> {
        self.change(hash, |key| key.expires_at = expiry)
    }

    /// Hides a key from lists for a while. It can still be read by its hash.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn hide_key_from_lists(&self, hash: &str, delay: ListDelay) -> Result<(), NoSuchKey> {
        let hiding = delay.starting(self.now());
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

    /// The same for every key created from now on; `None` stops it.
    pub fn hide_new_keys_from_lists(&self, delay: Option<ListDelay>) {
        self.with(|account| account.new_keys_hidden = delay);
    }

    /// Generates another management key and returns it.
    pub fn add_management_key(&self) -> String {
        let secret = self.shared.randomness.api_key();
        self.adopt_management_key(&secret);
        secret
    }

    /// Revokes a management key.
    ///
    /// # Errors
    /// If `secret` is no management key of this account.
    pub fn revoke_management_key(&self, secret: &str) -> Result<(), NoSuchKey> {
        self.change_management_key(secret, |key| key.revoked = true)
    }

    /// Changes when a management key stops working; a time in the past ends it now.
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

    pub(crate) fn adopt_management_key(&self, secret: &str) {
        self.with(|account| account.management_keys.push(ManagementKey::new(secret)));
    }

    pub(super) fn change(&self, hash: &str, act: impl FnOnce(&mut Key)) -> Result<(), NoSuchKey> {
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
