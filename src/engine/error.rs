//! Why a request failed, and the answer that the user gets.

use crate::logical::{self, StorageError, SystemViewError};
use crate::openrouter;

/// A failure, classified by what it means to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Invalid input: the field and its valid values.
    #[error("{0}")]
    Invalid(String),
    /// Something that the request names does not exist.
    #[error("{0}")]
    Missing(String),
    /// The request conflicts with another operation in progress. It may be repeated.
    #[error("{0}")]
    Conflict(String),
    /// The caller is gone, so nothing was done. No one reads this error.
    #[error("the request was given up before anything was done")]
    CallerGone,
    /// The role has reached `max_leases`, or its budget has no room for another lease.
    #[error("{message}")]
    Full {
        /// What the user reads.
        message: String,
        /// In seconds: when there is room at the earliest; `None` if that is unknown.
        retry_after: Option<u64>,
    },
    /// A request to OpenRouter failed.
    #[error("{doing}: {reason}")]
    OpenRouter {
        /// What the engine was doing, as the beginning of a sentence.
        doing: String,
        /// How the request failed.
        reason: openrouter::Error,
    },
    /// The verification of a new key failed, so it was not put into service.
    #[error("the new key was refused: {0}")]
    Unproven(String),
    /// Only part of the request was carried out.
    #[error("{0}")]
    Incomplete(String),
    /// The current key cannot be handed out until someone intervenes.
    #[error("{0}")]
    Unusable(String),
    /// The current key cannot be handed out until the engine has replaced it, or has assigned it to its
    /// guardrail.
    #[error("{0}")]
    Awaited(String),
    /// The answer could not be serialized.
    #[error(transparent)]
    Answer(logical::Error),
    /// The server's storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A call to the server about the mount failed.
    #[error(transparent)]
    System(#[from] SystemViewError),
}

impl Error {
    /// An error for invalid input.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// For `map_err`: OpenRouter failed while the engine was `doing` something.
    pub fn while_doing(doing: impl Into<String>) -> impl FnOnce(openrouter::Error) -> Self {
        let doing = doing.into();
        move |reason| Self::OpenRouter { doing, reason }
    }

    /// Whether OpenRouter refused what was ordered, and would refuse it again.
    pub fn is_refused(&self) -> bool {
        matches!(
            self,
            Self::OpenRouter {
                reason: openrouter::Error::Refused { .. },
                ..
            }
        )
    }

    /// Whether OpenRouter has done nothing of what was ordered: it refused, or was not asked.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::OpenRouter { reason, .. } => reason.is_definite(),
            _ => true,
        }
    }

    /// The error of a change that was rejected and cannot be undone, because the former role is now `beyond`
    /// its connection's bounds.
    #[must_use]
    pub fn that_stays(self, beyond: Self) -> Self {
        match beyond {
            Self::Invalid(beyond) | Self::Missing(beyond) => Self::Incomplete(format!(
                "{self}; the role stays as it was written, because its former definition is no longer \
                 allowed ({beyond})"
            )),
            other => other,
        }
    }

    /// The reason as a label for counters. The number of labels is small.
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
            | Self::Full { .. }
            | Self::Incomplete(_)
            | Self::Unusable(_)
            | Self::Awaited(_)
            | Self::Answer(_) => "other",
        }
    }

    /// How long OpenRouter asked the engine to wait, if it did.
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
    /// The one place that decides on statuses. A definite refusal by OpenRouter means that the request was
    /// at fault (400). If OpenRouter could not answer, the status is that of a gateway, 502 or 503, which
    /// Vault's clients retry. Whatever must not be repeated blindly is a 4xx.
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(_) | Error::Missing(_) | Error::Unusable(_) => Self::Invalid(text),
            Error::Conflict(_) => Self::status(409, text),
            // The same as Vault's quotas: clients wait and retry.
            Error::Full { retry_after, .. } => Self::status(429, text).after(retry_after),
            Error::Incomplete(_) => Self::status(424, text),
            Error::Awaited(_) => Self::status(503, text),
            Error::Unproven(_) => Self::status(502, text),
            // nginx's status for a closed connection. The caller never sees it.
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
