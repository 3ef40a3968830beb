//! Why a role's current key is not as storage expects.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The reason why a current key differs from what storage expects: the role's entry was restored from a
/// snapshot, or the key was deleted or disabled at OpenRouter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The reason.
    pub reason: MismatchReason,
    /// When it was found.
    pub since: Timestamp,
    /// When OpenRouter was last asked about it; `None` if only when it was found.
    #[serde(default)]
    pub asked: Option<Timestamp>,
    /// Whether it was found when a node had just begun its work: the reason may be in a time that a restored
    /// snapshot has lost. The stored version is unchanged: without this field a disabled key only waits for a
    /// person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_first: bool,
}

impl Mismatch {
    /// A reason that OpenRouter has just reported.
    pub fn found(reason: MismatchReason, now: Timestamp) -> Self {
        Self {
            asked: Some(now),
            ..Self::concluded(reason, now)
        }
    }

    /// A reason that follows from something else: OpenRouter was not asked about the key.
    pub fn concluded(reason: MismatchReason, now: Timestamp) -> Self {
        Self {
            reason,
            since: now,
            asked: None,
            at_first: false,
        }
    }
}

/// See [`Mismatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchReason {
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

impl MismatchReason {
    /// Whether the key does not work.
    pub fn is_dead(self) -> bool {
        match self {
            Self::Gone | Self::Disabled | Self::Held | Self::TornDown => true,
            Self::Outdated => false,
        }
    }
}
