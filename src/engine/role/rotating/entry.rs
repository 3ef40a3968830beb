//! A rotating role as it is stored: its definition, its keys, and its last failures. It is one entry, so that
//! a single write switches to the next key and a reader needs a single read.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::keys::{CurrentKey, Standing, SupersededKey};
use super::mismatch::Mismatch;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Life, Nonce, Place, RoleName};
use crate::engine::role::budget::{Alert, Ledger, Tally};
use crate::engine::role::rotating::{Definition, LateUse, Stage};
use crate::openrouter::KeyHash;

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
    #[serde(default, rename = "unfit")]
    pub mismatch: Option<Mismatch>,
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
            mismatch: None,
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

#[cfg(test)]
mod tests;
