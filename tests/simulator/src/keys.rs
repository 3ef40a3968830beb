//! An API key as OpenRouter stores it.
//!
//! The account creates and changes keys; this file knows a key's state at a given moment. It never
//! decides whether a request is allowed.

use std::fmt;

use jiff::Timestamp;

use crate::fault::KeyChanges;
use crate::hiding::Hiding;
use crate::limits::{LimitReset, rounded};
use crate::randomness::hash_of;
use crate::spending::{Seen, Spending};

/// A snapshot of a key, living or deleted.
#[derive(Clone)]
pub struct Key {
    /// The id: the SHA-256 of the secret in lowercase hexadecimal, unless a fault said otherwise.
    pub hash: String,
    /// The name given at creation or by the last update.
    pub name: String,
    /// The secret with its middle left out.
    pub label: String,
    /// The workspace it belongs to.
    pub workspace_id: String,
    /// The limit in US dollars.
    pub limit: Option<f64>,
    /// When the limit resets; never if `None`.
    pub limit_reset: Option<LimitReset>,
    /// Whether spending through the owner's own provider keys counts towards the limit.
    pub include_byok_in_limit: bool,
    /// Whether it is disabled.
    pub disabled: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed, if ever.
    pub updated_at: Option<Timestamp>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was deleted; a deleted key is kept for inspection only.
    pub deleted_at: Option<Timestamp>,
    /// When it last paid for a completion.
    pub last_used_at: Option<Timestamp>,
    /// The user it was created for.
    pub creator_user_id: Option<String>,
    /// The partner's user it was created for.
    pub external_user: Option<String>,
    /// What it has spent of the account's credits.
    pub usage: Spending,
    /// What it has spent through the owner's own provider keys.
    pub byok_usage: Spending,
    pub(crate) authentication: Authentication,
    pub(crate) hidden: Option<Hiding>,
    secret: String,
}

/// The properties of a new key.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the key itself")]
pub struct NewKey {
    pub name: String,
    pub limit: Option<f64>,
    pub limit_reset: Option<LimitReset>,
    pub include_byok_in_limit: bool,
    pub expires_at: Option<Timestamp>,
    /// The account's default workspace if `None`.
    pub workspace_id: Option<String>,
    pub creator_user_id: Option<String>,
    pub external_user: Option<String>,
}

/// Whether the secret is accepted at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    Works,
    FailsNext(u32),
    Never,
}

impl NewKey {
    /// A key in the default workspace, without limit or expiry.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

impl Key {
    pub(crate) fn new(new: NewKey, workspace_id: String, secret: String, now: Timestamp) -> Self {
        Self {
            hash: hash_of(&secret),
            label: masked(&secret),
            name: new.name,
            workspace_id,
            limit: new.limit,
            limit_reset: new.limit_reset,
            include_byok_in_limit: new.include_byok_in_limit,
            disabled: false,
            created_at: now,
            updated_at: None,
            expires_at: new.expires_at,
            deleted_at: None,
            last_used_at: None,
            creator_user_id: new.creator_user_id,
            external_user: new.external_user,
            usage: Spending::default(),
            byok_usage: Spending::default(),
            authentication: Authentication::Works,
            hidden: None,
            secret,
        }
    }

    /// The secret, which OpenRouter would not show again: for tests that search for leaks.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether its expiry has passed.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expiry| expiry <= now)
    }

    /// Whether it exists, is enabled and has not expired. It may still be exhausted.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.deleted_at.is_none() && !self.disabled && !self.is_expired(now)
    }

    /// What is left of its limit; negative if more was spent, `None` without a limit.
    #[must_use]
    pub fn limit_remaining(&self, now: Timestamp) -> Option<f64> {
        self.remaining(now, Seen::ALL)
    }

    pub(crate) fn remaining(&self, now: Timestamp, seen: Seen) -> Option<f64> {
        let spent = self.spent(self.limit_reset, self.include_byok_in_limit, now, seen);
        self.limit.map(|limit| rounded(limit - spent))
    }

    /// The spending that an observer knows, in the current window, or in total without a window.
    pub(crate) fn spent(
        &self,
        window: Option<LimitReset>,
        include_byok: bool,
        now: Timestamp,
        seen: Seen,
    ) -> f64 {
        let byok = include_byok.then(|| self.byok_usage.seen(window, now, seen));
        rounded(self.usage.seen(window, now, seen) + byok.unwrap_or_default())
    }

    /// The last use that an observer knows.
    pub(crate) fn last_use(&self, seen: Seen) -> Option<Timestamp> {
        if self
            .last_used_at
            .is_none_or(|instant| seen.includes(instant))
        {
            return self.last_used_at;
        }
        self.usage
            .last_seen(seen)
            .max(self.byok_usage.last_seen(seen))
    }

    /// Whether its secret is accepted. For a key that is set to fail a few times, each check counts.
    pub(crate) fn accepts_its_secret(&mut self) -> bool {
        match &mut self.authentication {
            Authentication::Works | Authentication::FailsNext(0) => true,
            Authentication::FailsNext(uses) => {
                *uses -= 1;
                false
            }
            Authentication::Never => false,
        }
    }

    pub(crate) fn apply(&mut self, changes: &KeyChanges) {
        let changes = changes.clone();
        replace(&mut self.name, changes.name);
        replace(&mut self.hash, changes.hash);
        replace(&mut self.label, changes.label);
        replace(&mut self.disabled, changes.disabled);
        replace(&mut self.limit, changes.limit);
        replace(&mut self.limit_reset, changes.limit_reset);
        replace(
            &mut self.include_byok_in_limit,
            changes.include_byok_in_limit,
        );
        replace(&mut self.expires_at, changes.expires_at);
        replace(&mut self.workspace_id, changes.workspace_id);
    }
}

/// Omits the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("hash", &self.hash)
            .field("name", &self.name)
            .field("workspace_id", &self.workspace_id)
            .field("limit", &self.limit)
            .field("disabled", &self.disabled)
            .field("expires_at", &self.expires_at)
            .field("deleted_at", &self.deleted_at)
            .finish_non_exhaustive()
    }
}

/// The secret as OpenRouter shows it: `sk-or-v1-0e6...1c96`. A secret that is too short to be real is
/// not shown at all.
pub(crate) fn masked(secret: &str) -> String {
    let prefix = if secret.starts_with(KEY_PREFIX) {
        KEY_PREFIX
    } else {
        "sk-or-"
    };
    let unique = secret.strip_prefix(prefix).unwrap_or(secret);
    let ends = (
        unique.get(..3),
        unique.len().checked_sub(4).and_then(|at| unique.get(at..)),
    );
    match ends {
        (Some(head), Some(tail)) if unique.len() >= 14 => format!("{prefix}{head}...{tail}"),
        _ => format!("{prefix}..."),
    }
}

fn replace<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// The prefix of all keys that OpenRouter issues today.
const KEY_PREFIX: &str = "sk-or-v1-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_shows_the_ends_of_the_secret_only() {
        let secret = format!("sk-or-v1-0e6{}1c96", "a".repeat(57));
        assert_eq!(masked(&secret), "sk-or-v1-0e6...1c96");
        assert_eq!(masked("sk-or-mgmt-0123456789abcdef"), "sk-or-mgm...cdef");
        assert_eq!(masked("sk-or-v1-short"), "sk-or-v1-...");
    }

    #[test]
    fn debugging_a_key_does_not_show_its_secret() {
        let secret = format!("sk-or-v1-{}", "5".repeat(64));
        let key = Key::new(
            NewKey::named("k"),
            "w".into(),
            secret.clone(),
            Timestamp::UNIX_EPOCH,
        );
        assert!(!format!("{key:?}").contains(&secret));
        assert!(
            !key.to_json(Timestamp::UNIX_EPOCH)
                .to_string()
                .contains(&secret)
        );
    }
}
