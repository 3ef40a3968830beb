//! A rotating role as it is stored: its definition, its keys, and its last failures. It is one entry, so that
//! a single write switches to the next key and a reader needs a single read.

use std::collections::BTreeSet;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{AddressId, ConnectionName, Life, Nonce, Place, RoleName};
use crate::engine::role::budget::{Alert, Ledger, Tally};
use crate::engine::role::rotating::{Definition, LateUse, Stage};
use crate::engine::stored;
use crate::openrouter::{GuardrailId, KeyHash, Limits, WorkspaceId};

/// A rotating role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotatingRole {
    /// Its definition.
    pub definition: Definition,
    /// The key that it hands out.
    pub current: CurrentKey,
    /// The life of the role, which distinguishes its keys from those of an earlier role with the same name.
    #[serde(default)]
    pub life: Life,
    /// The earlier keys that still exist, oldest first.
    pub superseded: Vec<SupersededKey>,
    /// When a rotation was last attempted.
    pub last_attempt: Timestamp,
    /// Why the last rotation failed; `None` if it succeeded.
    pub rotation_failure: Option<Failure>,
    /// Why the current key does not have the definition's limits yet.
    pub limits_failure: Option<Failure>,
    /// Why some of its keys do not have their guardrail yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_failure: Option<Failure>,
    /// Why the current key is not as storage expects; `None` if it is.
    #[serde(default)]
    pub unfit: Option<Unfit>,
    /// Set when the role's deletion has begun. Its key may be dead and is no longer handed out.
    pub deletion: Option<Deletion>,
    /// Set if the last superseded key that ended was used after every lease on it had expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_use: Option<LateUse>,
    /// The key that was adopted when the role was created, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<KeyHash>,
    /// What the keys were granted from the role's budget, as opposed to what the definition asks for; `None`
    /// without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// The spending of ended keys; `None` if it is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
    /// The last report that a large part of the budget is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
}

/// The key that a role currently hands out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CurrentKey {
    /// The key itself.
    #[serde(serialize_with = "stored::exposed")]
    pub secret: SecretString,
    /// The hash that identifies the key at OpenRouter.
    pub hash: KeyHash,
    /// The masked secret, as OpenRouter shows it.
    pub label: String,
    /// Its name at OpenRouter, which ends with the nonce of its order.
    pub name: String,
    /// Its version: the number of keys that the role has had, including this one.
    pub version: u64,
    /// The connection through which it was made.
    pub connection: ConnectionName,
    /// Its workspace; `None` is the account's default workspace.
    #[serde(default)]
    pub workspace_id: Option<WorkspaceId>,
    /// The connection's address when it was made. The key must not be sent to other addresses.
    #[serde(default)]
    pub address: AddressId,
    /// When it became current.
    pub since: Timestamp,
    /// When it was ordered; `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Timestamp>,
    /// The time from which the schedule counts: when the rotation was due; `since` if it was manual; or the
    /// time when a schedule was written whose last window had already opened.
    pub anchor: Timestamp,
    /// Whether a person requested it.
    pub manual: bool,
    /// When it expires at OpenRouter. This cannot be changed there.
    pub expires_at: Option<Timestamp>,
    /// Its limits at OpenRouter.
    pub limits: Limits,
    /// Whether it may have others: a change of them was written over before its outcome was known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limits_unproved: bool,
    /// The guardrail that it was assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<GuardrailId>,
    /// Whether it is no longer proved that it has that guardrail: it was found without it, or is to get
    /// another one.
    #[serde(
        default,
        alias = "unguarded",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub guardrail_unproved: bool,
    /// When the leases end that were handed out with a longer `ttl` than the role has now, including the
    /// margin that every lease has.
    pub promised_until: Option<Timestamp>,
}

/// A key that was replaced and is not deleted yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupersededKey {
    /// The hash that identifies the key at OpenRouter.
    pub hash: KeyHash,
    /// The masked secret, as OpenRouter shows it.
    pub label: String,
    /// Its name at OpenRouter.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The connection through which it was made.
    pub connection: ConnectionName,
    /// Its workspace; `None` is the account's default workspace.
    #[serde(default)]
    pub workspace_id: Option<WorkspaceId>,
    /// Whether storage did not know it and a comparison with OpenRouter found it.
    #[serde(default)]
    pub found: bool,
    /// When it became current.
    pub since: Timestamp,
    /// When it was ordered; `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Timestamp>,
    /// When it expires at OpenRouter.
    pub expires_at: Option<Timestamp>,
    /// The guardrail that it was assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<GuardrailId>,
    /// Whether it is no longer proved that it has that guardrail: it was found without it, or is to get
    /// another one.
    #[serde(
        default,
        alias = "unguarded",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub guardrail_unproved: bool,
    /// When it is to be revoked.
    pub revoke_at: Timestamp,
    /// Why the next step of its end has failed so far.
    pub failure: Option<Failure>,
    /// When the last lease on it expires. It should not be used after that. `None` for keys from older
    /// formats, where it is unknown.
    #[serde(default)]
    pub leased_until: Option<Timestamp>,
    /// The stage of its end.
    #[serde(default, skip_serializing_if = "Stage::is_grace")]
    pub stage: Stage,
    /// Whether an emergency rotation has ended it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub emergency: bool,
    /// Whether its revocation was postponed because it became due while no node was active.
    #[serde(default, skip_serializing_if = "is_false")]
    pub postponed: bool,
    /// When it was found to have been disabled outside the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_outside: Option<Timestamp>,
    /// For a key that a comparison found, and that was still in use after it should not have been: when it
    /// was last used. A person has to decide about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits_person: Option<Timestamp>,
    /// When it was disabled in order to be ended, if its final reading is to be taken and the role has no
    /// budget, whose ledger would know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_to_end: Option<Timestamp>,
    /// Whether its final reading is in the tally already, without a budget. It is not deleted yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub counted: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// What a key is to its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The role hands it out.
    Current {
        /// Its version.
        version: u64,
    },
    /// It was replaced.
    Superseded {
        /// Its version.
        version: u64,
        /// When it is to be revoked.
        revoke_at: Timestamp,
    },
    /// It was replaced, and the engine has disabled it.
    Held {
        /// Its version.
        version: u64,
        /// When it is to be deleted.
        until: Timestamp,
    },
}

impl Standing {
    /// The key's version.
    pub fn version(self) -> u64 {
        match self {
            Self::Current { version }
            | Self::Superseded { version, .. }
            | Self::Held { version, .. } => version,
        }
    }
}

/// The reason why a current key differs from what storage expects: the role's entry was restored from a
/// snapshot, or the key was deleted or disabled at OpenRouter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// The reason.
    pub reason: Misfit,
    /// When it was found.
    pub since: Timestamp,
    /// When OpenRouter was last asked about it; `None` if only when it was found.
    #[serde(default)]
    pub asked: Option<Timestamp>,
}

impl Unfit {
    /// A reason that OpenRouter has just reported.
    pub fn found(reason: Misfit, now: Timestamp) -> Self {
        Self {
            reason,
            since: now,
            asked: Some(now),
        }
    }
}

/// See [`Unfit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfit {
    /// OpenRouter no longer knows it, so it is not handed out.
    Gone,
    /// It was disabled at OpenRouter outside the engine. It is not handed out, and is not replaced
    /// automatically, since someone may have disabled it on purpose.
    Disabled,
    /// It is disabled at OpenRouter, which has a newer key of the role: it was replaced and held before
    /// storage was restored. It is not handed out, and is replaced again.
    Held,
    /// It is being revoked by a teardown of the mount, so it is not handed out. `asked` is when OpenRouter
    /// confirmed that it is gone.
    TornDown,
    /// OpenRouter has a newer key of the role: it was replaced before storage was restored. It works until it
    /// is revoked, which nothing has scheduled.
    Outdated,
}

impl Misfit {
    /// Whether the key does not work.
    pub fn is_dead(self) -> bool {
        match self {
            Self::Gone | Self::Disabled | Self::Held | Self::TornDown => true,
            Self::Outdated => false,
        }
    }
}

/// A failure that is retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The number of consecutive attempts.
    pub attempts: u32,
    /// The time of the last failure.
    pub at: Timestamp,
    /// The reason.
    pub message: String,
    /// When it is retried.
    pub retry_at: Timestamp,
}

/// A deletion of a role that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When it began.
    pub since: Timestamp,
    /// Why it is not complete yet.
    pub failure: Option<Failure>,
}

impl RotatingRole {
    /// A role with this first key.
    pub fn new(definition: Definition, life: Life, first: CurrentKey) -> Self {
        Self {
            definition,
            life,
            last_attempt: first.since,
            current: first,
            superseded: Vec::new(),
            rotation_failure: None,
            limits_failure: None,
            guardrail_failure: None,
            unfit: None,
            deletion: None,
            late_use: None,
            adopted: None,
            ledger: None,
            tally: None,
            alert: None,
        }
    }

    /// Rejects changes of a role whose deletion has begun.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it has begun.
    pub fn require_lasting(&self, name: &RoleName) -> Result<(), Error> {
        match &self.deletion {
            None => Ok(()),
            Some(deletion) => Err(Error::Conflict(format!(
                "role {:?} is being deleted, since {}",
                name.to_string(),
                deletion.since
            ))),
        }
    }

    /// The version of the role's next key.
    pub fn next_version(&self) -> u64 {
        let superseded = self.superseded.iter().map(|key| key.version);
        let newest = superseded.fold(self.current.version, u64::max);
        newest.saturating_add(1)
    }

    /// Whether the key that was ordered with this nonce is one of the role's keys.
    pub fn has_key_of(&self, nonce: &Nonce) -> bool {
        let superseded = self.superseded.iter().map(|key| &key.name);
        superseded
            .chain([&self.current.name])
            .any(|name| nonce.marks(name))
    }

    /// Whether the key with this hash is one of the role's keys.
    pub fn has_key(&self, hash: &KeyHash) -> bool {
        self.keys().any(|(own, _)| own == hash)
    }

    /// The places of the role's keys, and of the next key.
    pub fn places(&self) -> BTreeSet<Place> {
        let current = (&self.current.connection, &self.current.workspace_id);
        let superseded = self.superseded.iter();
        superseded
            .map(|key| (&key.connection, &key.workspace_id))
            .chain([current])
            .map(|(connection, workspace_id)| Place {
                connection: connection.clone(),
                workspace_id: workspace_id.clone(),
            })
            .chain([self.definition.terms.place()])
            .collect()
    }

    /// The place of the current key.
    pub fn place_of_current(&self) -> Place {
        Place {
            connection: self.current.connection.clone(),
            workspace_id: self.current.workspace_id.clone(),
        }
    }

    /// Fills in the keys' workspaces in an entry of the first format, which did not store them.
    pub(in crate::engine::role) fn place_keys_by_definition(&mut self) {
        let workspace_id = &self.definition.terms.workspace_id;
        self.current.workspace_id.clone_from(workspace_id);
        for key in &mut self.superseded {
            key.workspace_id.clone_from(workspace_id);
        }
    }

    /// The number of superseded keys that still work and were superseded by a rotation of this storage.
    pub fn superseded_by_rotation(&self) -> usize {
        let superseded = self.superseded.iter();
        superseded
            .filter(|key| !key.found && !key.stage.is_held())
            .count()
    }

    /// What the key with this hash is to the role; `None` if it is not one of its keys.
    pub fn standing(&self, hash: &KeyHash) -> Option<Standing> {
        if self.current.hash == *hash {
            let version = self.current.version;
            return Some(Standing::Current { version });
        }
        let superseded = self.superseded.iter().find(|key| key.hash == *hash)?;
        let version = superseded.version;
        Some(match superseded.stage {
            Stage::Held { until, .. } => Standing::Held { version, until },
            Stage::Grace | Stage::Restoring | Stage::Ordered => Standing::Superseded {
                version,
                revoke_at: superseded.revoke_at,
            },
        })
    }

    /// The hashes of all keys, oldest first, each with its connection.
    pub fn keys(&self) -> impl Iterator<Item = (&KeyHash, &ConnectionName)> {
        self.superseded
            .iter()
            .map(|key| (&key.hash, &key.connection))
            .chain([(&self.current.hash, &self.current.connection)])
    }
}

impl CurrentKey {
    /// Whether it was ordered before `at`.
    pub fn is_older_than(&self, at: Timestamp) -> bool {
        self.ordered.unwrap_or(self.since) < at
    }
}

impl SupersededKey {
    /// Whether it was ordered before `at`.
    pub fn is_older_than(&self, at: Timestamp) -> bool {
        self.ordered.unwrap_or(self.since) < at
    }
}

impl PartialEq for CurrentKey {
    /// Compares the hash, which is derived from the secret, and the fields that may change during the key's
    /// life.
    fn eq(&self, other: &Self) -> bool {
        let changing = |key: &Self| {
            let limits = (key.limits, key.limits_unproved);
            (limits, key.promised_until, key.guardrail_unproved)
        };
        (&self.hash, &self.guardrail_id, changing(self))
            == (&other.hash, &other.guardrail_id, changing(other))
    }
}

#[cfg(test)]
mod tests;
