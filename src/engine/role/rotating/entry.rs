//! A rotating role as it is stored: its definition, its keys, and what went wrong last. One entry, so that
//! one write switches from a key to the next and a reader needs one read.

use std::collections::BTreeSet;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{AddressId, ConnectionName, Life, Nonce, Place, RoleName};
use crate::engine::role::budget::{Ledger, Tally};
use crate::engine::role::rotating::{Definition, LateUse, Stage};
use crate::engine::stored;
use crate::openrouter::{GuardrailId, KeyHash, Limits, WorkspaceId};

/// A rotating role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotatingRole {
    /// What it is to be.
    pub definition: Definition,
    /// The key that it hands out.
    pub current: CurrentKey,
    /// This life of the role: by it its keys are told from those of an earlier role of its name.
    #[serde(default)]
    pub life: Life,
    /// The keys that it handed out before and that still work, oldest first.
    pub superseded: Vec<SupersededKey>,
    /// When a rotation was last tried.
    pub last_attempt: Timestamp,
    /// Why the last rotation failed; `None` when it did not.
    pub rotation_failure: Option<Failure>,
    /// Why the current key does not have the definition's limits yet.
    pub limits_failure: Option<Failure>,
    /// Why some of its keys are not held to their guardrail yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_failure: Option<Failure>,
    /// Why the current key is to be replaced whatever the schedule says; `None` when it is not.
    #[serde(default)]
    pub unfit: Option<Unfit>,
    /// Set once the role's deletion has begun: its key may be dead and is not handed out any more.
    pub deletion: Option<Deletion>,
    /// Set if the superseded key that ended last was used after every lease on it had run out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_use: Option<LateUse>,
    /// The key that was adopted when the role was created, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<KeyHash>,
    /// What the keys were granted of the role's budget, apart from what the definition asks for; `None`
    /// without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// What the keys have spent that have ended; `None` while nobody keeps count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
}

/// The key that a role hands out now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CurrentKey {
    /// The key itself.
    #[serde(serialize_with = "stored::exposed")]
    pub secret: SecretString,
    /// By what OpenRouter knows it.
    pub hash: KeyHash,
    /// The secret with most of it left out.
    pub label: String,
    /// Its name at OpenRouter, which ends in the nonce that it was ordered with.
    pub name: String,
    /// How many keys the role has had, this one included.
    pub version: u64,
    /// Through which connection it was made.
    pub connection: ConnectionName,
    /// In which workspace; `None` is the account's default one.
    #[serde(default)]
    pub workspace_id: Option<WorkspaceId>,
    /// Under which address of the connection it was made: it must not be sent to others.
    #[serde(default)]
    pub address: AddressId,
    /// When it became current.
    pub since: Timestamp,
    /// When it was ordered, before that; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Timestamp>,
    /// What the schedule counts from: the time the rotation was due, `since` if it was manual, or
    /// the time at which a schedule was written whose windows so far had nobody to use them.
    pub anchor: Timestamp,
    /// Whether a person asked for it.
    pub manual: bool,
    /// When it stops working at OpenRouter; cannot be changed there.
    pub expires_at: Option<Timestamp>,
    /// The limits that it has at OpenRouter.
    pub limits: Limits,
    /// Whether it may have others: a change of them was written over before its outcome was known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limits_unproved: bool,
    /// The guardrail that it was assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<GuardrailId>,
    /// Whether it is not proved any more that it is held to that: it was found not to be, or is to be held
    /// to another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unguarded: bool,
    /// Until when leases run that were handed out under a longer `ttl` than the role has now, with the
    /// tenth of margin that every lease has.
    pub promised_until: Option<Timestamp>,
}

/// A key that was replaced and still works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupersededKey {
    /// By what OpenRouter knows it.
    pub hash: KeyHash,
    /// The secret with most of it left out.
    pub label: String,
    /// Its name at OpenRouter.
    pub name: String,
    /// Which of the role's keys it is.
    pub version: u64,
    /// Through which connection it was made.
    pub connection: ConnectionName,
    /// In which workspace; `None` is the account's default one.
    #[serde(default)]
    pub workspace_id: Option<WorkspaceId>,
    /// Whether storage did not know it, and a comparison with OpenRouter found it.
    #[serde(default)]
    pub found: bool,
    /// When it became current.
    pub since: Timestamp,
    /// When it was ordered, before that; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Timestamp>,
    /// When it stops working at OpenRouter by itself.
    pub expires_at: Option<Timestamp>,
    /// The guardrail that it was assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<GuardrailId>,
    /// Whether it is not proved any more that it is held to that: it was found not to be, or is to be held
    /// to another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unguarded: bool,
    /// When it is to be revoked.
    pub revoke_at: Timestamp,
    /// Why the next step of its end has not worked yet.
    pub failure: Option<Failure>,
    /// When the last lease on it has run out: nobody should use it after that. `None` for keys of
    /// older formats, of which nobody knows.
    #[serde(default)]
    pub leased_until: Option<Timestamp>,
    /// How far its end has come.
    #[serde(default, skip_serializing_if = "Stage::is_grace")]
    pub stage: Stage,
    /// Whether an emergency rotation has ended it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub emergency: bool,
    /// Whether its revocation was postponed, since it fell due while nobody worked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub postponed: bool,
    /// When it was noticed that somebody else has disabled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_outside: Option<Timestamp>,
    /// Set if it was found, and was still in use when it should not have been: when it was last used.
    /// A person has to decide about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits_person: Option<Timestamp>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// As what a role has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It hands it out.
    Current {
        /// Which of the role's keys it is.
        version: u64,
    },
    /// It was replaced.
    Superseded {
        /// Which of the role's keys it is.
        version: u64,
        /// When it is to be revoked.
        revoke_at: Timestamp,
    },
    /// It was replaced, and the engine has disabled it.
    Held {
        /// Which of the role's keys it is.
        version: u64,
        /// When it is to be deleted.
        until: Timestamp,
    },
}

impl Standing {
    /// Which of the role's keys it is.
    pub fn version(self) -> u64 {
        match self {
            Self::Current { version }
            | Self::Superseded { version, .. }
            | Self::Held { version, .. } => version,
        }
    }
}

/// A current key that does not fit what is at OpenRouter: the role's entry was restored from a
/// snapshot, or somebody deleted or disabled the key there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// In which way.
    pub reason: Misfit,
    /// When that was found.
    pub since: Timestamp,
    /// When OpenRouter was asked about it last; `None` is then.
    #[serde(default)]
    pub asked: Option<Timestamp>,
}

impl Unfit {
    /// What OpenRouter has just said of the key.
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
    /// OpenRouter does not know it any more, so it is not handed out.
    Gone,
    /// Somebody has disabled it at OpenRouter: they pulled the plug, so it is not handed out, and not
    /// replaced by itself either.
    Disabled,
    /// It is disabled at OpenRouter, which has a newer one of the role's: it was replaced before, and held
    /// since. So it is not handed out, and replaced again.
    Held,
    /// A teardown of the mount revokes it, so it is not handed out; `asked` is when OpenRouter confirmed
    /// that it is gone.
    TornDown,
    /// OpenRouter has a newer one of the role's, so it was replaced before: the schedule or a person
    /// wanted that. It works as long as nobody knows of its time to be revoked.
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

/// Something that did not work and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// How often it was tried in a row.
    pub attempts: u32,
    /// When it failed last.
    pub at: Timestamp,
    /// Why.
    pub message: String,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// A role's deletion that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When it began.
    pub since: Timestamp,
    /// Why it is not over yet.
    pub failure: Option<Failure>,
}

impl RotatingRole {
    /// A role whose first key is this one.
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
        }
    }

    /// Refuses to change a role whose deletion has begun.
    ///
    /// # Errors
    /// [`Error::Conflict`] then.
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

    /// Which of the role's keys the next one is.
    pub fn next_version(&self) -> u64 {
        let superseded = self.superseded.iter().map(|key| key.version);
        let newest = superseded.fold(self.current.version, u64::max);
        newest.saturating_add(1)
    }

    /// Whether a key that was ordered with this nonce is one of the role's.
    pub fn has_key_of(&self, nonce: &Nonce) -> bool {
        let superseded = self.superseded.iter().map(|key| &key.name);
        superseded
            .chain([&self.current.name])
            .any(|name| nonce.marks(name))
    }

    /// Whether a key of this hash is one of the role's.
    pub fn has_key(&self, hash: &KeyHash) -> bool {
        self.keys().any(|(own, _)| own == hash)
    }

    /// Where the role's keys are, and where the next one will be.
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

    /// Where the current key is.
    pub fn place_of_current(&self) -> Place {
        Place {
            connection: self.current.connection.clone(),
            workspace_id: self.current.workspace_id.clone(),
        }
    }

    /// For an entry of the first format, which did not say in which workspace a key is.
    pub(in crate::engine::role) fn place_keys_by_definition(&mut self) {
        let workspace_id = &self.definition.terms.workspace_id;
        self.current.workspace_id.clone_from(workspace_id);
        for key in &mut self.superseded {
            key.workspace_id.clone_from(workspace_id);
        }
    }

    /// How many of the superseded keys that still work a rotation of this storage has superseded.
    pub fn superseded_by_rotation(&self) -> usize {
        let superseded = self.superseded.iter();
        superseded
            .filter(|key| !key.found && !key.stage.is_held())
            .count()
    }

    /// As which of the role's keys it has the key of this hash.
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

    /// The hashes of all keys that work, oldest first, each with its connection.
    pub fn keys(&self) -> impl Iterator<Item = (&KeyHash, &ConnectionName)> {
        self.superseded
            .iter()
            .map(|key| (&key.hash, &key.connection))
            .chain([(&self.current.hash, &self.current.connection)])
    }
}

impl CurrentKey {
    /// Whether it was ordered before that.
    pub fn is_older_than(&self, at: Timestamp) -> bool {
        self.ordered.unwrap_or(self.since) < at
    }
}

impl SupersededKey {
    /// Whether it was ordered before that.
    pub fn is_older_than(&self, at: Timestamp) -> bool {
        self.ordered.unwrap_or(self.since) < at
    }
}

impl PartialEq for CurrentKey {
    /// By hash, which is that of the secret, and by what may change while the key stays.
    fn eq(&self, other: &Self) -> bool {
        let changing = |key: &Self| {
            let limits = (key.limits, key.limits_unproved);
            (limits, key.promised_until, key.unguarded)
        };
        (&self.hash, &self.guardrail_id, changing(self))
            == (&other.hash, &other.guardrail_id, changing(other))
    }
}

#[cfg(test)]
mod tests;
