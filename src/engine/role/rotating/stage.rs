//! How far the end of a superseded key has come, and whether somebody used it longer than they should.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::openrouter::KeyHash;

/// How far the end of a superseded key has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It works until the time at which it is to be revoked.
    #[default]
    Grace,
    /// The engine has disabled it; it can be restored.
    Held {
        /// Since when.
        since: Timestamp,
        /// Until when; then it is deleted.
        until: Timestamp,
    },
    /// It was held, a person wants it back, and OpenRouter has not confirmed yet that it is enabled.
    Restoring,
    /// A person has ordered that it be deleted, without a last look or a hold, and OpenRouter has not
    /// confirmed that yet.
    Ordered,
}

impl Stage {
    /// Whether the grace period is not over.
    pub fn is_grace(&self) -> bool {
        matches!(self, Self::Grace)
    }

    /// Whether the engine has disabled the key.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. })
    }
}

/// A superseded key was used after every lease on it had run out: somebody has not switched to the
/// next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateUse {
    /// Which key, for OpenRouter.
    pub hash: KeyHash,
    /// Which key, for the role.
    pub version: u64,
    /// When it was last used.
    pub used_at: Timestamp,
    /// When the last lease on it had run out.
    pub leased_until: Timestamp,
}
