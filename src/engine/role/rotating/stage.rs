//! The stage of a superseded key's end, and whether the key was used for too long.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::openrouter::KeyHash;

/// The stage of a superseded key's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It works until it is revoked.
    #[default]
    Grace,
    /// The engine has disabled it; it can be restored.
    Held {
        /// When it was disabled.
        since: Timestamp,
        /// When it is deleted.
        until: Timestamp,
    },
    /// It was held and is being restored. OpenRouter has not confirmed yet that it is enabled.
    Restoring,
    /// A person ordered its deletion, without a last check or a hold. OpenRouter has not confirmed it yet.
    Ordered,
}

impl Stage {
    /// Whether the key is in its grace period.
    pub fn is_grace(&self) -> bool {
        matches!(self, Self::Grace)
    }

    /// Whether the engine has disabled the key.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. })
    }
}

/// A superseded key was used after every lease on it had expired, so someone has not switched to the next
/// key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateUse {
    /// The key's hash.
    pub hash: KeyHash,
    /// The key's version.
    pub version: u64,
    /// When it was last used.
    pub used_at: Timestamp,
    /// When the last lease on it expired.
    pub leased_until: Timestamp,
}
