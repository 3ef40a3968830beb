//! The keys of a rotating role, as they are stored.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::stage::Stage;
use crate::engine::names::{AddressId, ConnectionName};
use crate::engine::stored;
use crate::openrouter::{GuardrailId, KeyHash, Limits, WorkspaceId};

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
    /// As for [`SupersededKey::counted`]: a teardown has read and ended it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
    /// Whether its revocation was postponed because it became due while no node was active.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
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
            let unproved = key.guardrail_unproved;
            (limits, key.promised_until, unproved, key.counted)
        };
        (&self.hash, &self.guardrail_id, changing(self))
            == (&other.hash, &other.guardrail_id, changing(other))
    }
}
