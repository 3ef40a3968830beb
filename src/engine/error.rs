//! Why the engine did not do what it was asked, and the answer that the user gets for it.

use crate::logical::{self, StorageError, SystemViewError};
use crate::openrouter;

/// What went wrong, by what it means to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The user's mistake: a field, and what it allows.
    #[error("{0}")]
    Invalid(String),
    /// Something that the request names does not exist, or was never written.
    #[error("{0}")]
    Missing(String),
    /// The request contradicts something else that is going on; it may be made again.
    #[error("{0}")]
    Conflict(String),
    /// Whoever asked has given up, so nothing was done. Nobody reads this.
    #[error("the request was given up before anything was done")]
    CallerGone,
    /// The role has as many leases as it may have.
    #[error("{0}")]
    Full(String),
    /// OpenRouter did not do its part.
    #[error("{doing}: {reason}")]
    OpenRouter {
        /// What the engine wanted of it, as the beginning of a sentence.
        doing: String,
        /// What came of it.
        reason: openrouter::Error,
    },
    /// A new key did not prove itself, so it was not taken into service.
    #[error("the new key was refused: {0}")]
    Unproven(String),
    /// Part of what was asked is done, and the rest is not.
    #[error("{0}")]
    Incomplete(String),
    /// The current key cannot be handed out, and only somebody's doing changes that.
    #[error("{0}")]
    Unusable(String),
    /// The current key cannot be handed out until the engine itself has replaced it, or has held it to its
    /// guardrail.
    #[error("{0}")]
    Awaited(String),
    /// The answer could not be put together.
    #[error(transparent)]
    Answer(logical::Error),
    /// The server's storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The server could not be asked about the mount.
    #[error(transparent)]
    System(#[from] SystemViewError),
}

impl Error {
    /// The user's mistake.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// For `map_err`: OpenRouter failed while the engine was `doing` something.
    pub fn while_doing(doing: impl Into<String>) -> impl FnOnce(openrouter::Error) -> Self {
        let doing = doing.into();
        move |reason| Self::OpenRouter { doing, reason }
    }

    /// The error of a change that was refused, and cannot be taken back since a role as it was before is
    /// `beyond` its connection's bounds by now.
    #[must_use]
    pub fn that_stays(self, beyond: Self) -> Self {
        match beyond {
            Self::Invalid(beyond) | Self::Missing(beyond) => Self::Incomplete(format!(
                "{self}; the role stays as it was written, since its former definition is not possible \
                 any more ({beyond})"
            )),
            other => other,
        }
    }

    /// The reason in one word, of which there are few: for counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::OpenRouter { reason, .. } => match reason {
                openrouter::Error::Refused { .. } => "refused",
                openrouter::Error::Unauthorized { .. } => "unauthorized",
                openrouter::Error::NotFound { .. } => "not_found",
                openrouter::Error::RateLimited { .. } => "rate_limited",
                openrouter::Error::Unreachable { .. } => "unreachable",
                openrouter::Error::Unclear { .. } => "unclear",
                openrouter::Error::UnusableKey => "unusable_key",
            },
            Self::Unproven(_) => "unproven",
            Self::Conflict(_) => "conflict",
            Self::Missing(_) => "no_connection",
            Self::Storage(_) | Self::System(_) => "server",
            Self::Invalid(_)
            | Self::CallerGone
            | Self::Full(_)
            | Self::Incomplete(_)
            | Self::Unusable(_)
            | Self::Awaited(_)
            | Self::Answer(_) => "other",
        }
    }

    /// How long OpenRouter asked to be left alone, if it did.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::OpenRouter { reason, .. } => reason.retry_after(),
            _ => None,
        }
    }
}

impl From<openrouter::Invalid> for Error {
    fn from(reason: openrouter::Invalid) -> Self {
        Self::Invalid(reason.to_string())
    }
}

impl From<Error> for logical::Error {
    /// The one place that decides on statuses. Where OpenRouter has refused for good, the request
    /// was at fault (400); where it could not answer, a gateway would say 502 or 503, which Vault's
    /// clients try again by themselves. What must not be repeated blindly is a 4xx.
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(_) | Error::Missing(_) | Error::Unusable(_) => Self::Invalid(text),
            Error::Conflict(_) => Self::status(409, text),
            // As where Vault itself has a quota. Its clients wait and try again.
            Error::Full(_) => Self::status(429, text),
            Error::Incomplete(_) => Self::status(424, text),
            Error::Awaited(_) => Self::status(503, text),
            Error::Unproven(_) => Self::status(502, text),
            // nginx's status for it; no reader sees it.
            Error::CallerGone => Self::status(499, text),
            Error::Answer(reason) => reason,
            Error::Storage(reason) => reason.into(),
            Error::System(reason) => reason.into(),
            Error::OpenRouter { reason, .. } => match reason {
                openrouter::Error::Refused { .. }
                | openrouter::Error::Unauthorized { .. }
                | openrouter::Error::NotFound { .. }
                | openrouter::Error::UnusableKey => Self::Invalid(text),
                openrouter::Error::RateLimited { .. } => Self::status(503, text),
                openrouter::Error::Unreachable { .. } | openrouter::Error::Unclear { .. } => {
                    Self::status(502, text)
                }
            },
        }
    }
}
