//! How an engine's errors reach the user: by the HTTP status that Vault returns for them.

use super::StorageError;

/// Why a request failed. The variants are the answers that Vault can give; the user reads the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The user's mistake: HTTP 400 with exactly this text.
    #[error("{0}")]
    Invalid(String),
    /// An answer with its own status, for example 502 if another service failed.
    #[error("{message}")]
    Status {
        /// The HTTP status, 400 to 599.
        code: u16,
        /// What the user reads.
        message: String,
        /// In seconds: when it is worth trying again, for the response header `Retry-After`. The server drops
        /// the header unless the mount's `allowed_response_headers` name it.
        retry_after: Option<u64>,
    },
    /// A fault of this engine or the server: HTTP 500.
    #[error("{0}")]
    Internal(String),
    /// This node may not write. Vault forwards the request to the active node if it finds this phrase,
    /// so it must reach the host unchanged.
    #[error("{READ_ONLY}")]
    ReadOnly,
    /// The path does not exist: HTTP 404.
    #[error("unsupported path")]
    UnsupportedPath,
    /// The path does not support the operation: HTTP 405.
    #[error("unsupported operation")]
    UnsupportedOperation,
}

impl Error {
    /// The user's mistake, HTTP 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// A fault of this engine or the server, HTTP 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into())
    }

    /// An answer with its own status.
    pub fn status(code: u16, message: impl Into<String>) -> Self {
        Self::Status {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same error with a time after which it is worth trying again, in seconds. Only for an answer with
    /// its own status.
    #[must_use]
    pub fn after(mut self, seconds: Option<u64>) -> Self {
        if let Self::Status { retry_after, .. } = &mut self {
            *retry_after = seconds;
        }
        self
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::ReadOnly => Self::ReadOnly,
            other => Self::Internal(other.to_string()),
        }
    }
}

/// `logical.ErrReadOnly` of Vault's SDK. It has no number in the protocol: the host looks for this
/// text.
pub(crate) const READ_ONLY: &str = "cannot write to readonly storage";
