//! How an engine's failure reaches the user, by the HTTP status that Vault makes of it.

use super::StorageError;

/// Why a request was not carried out. The variants are the answers Vault can give; the text is
/// what the user reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The user's mistake: HTTP 400 with exactly this text.
    #[error("{0}")]
    Invalid(String),
    /// An answer with a status of its own, for instance 502 when another service failed.
    #[error("{message}")]
    Status {
        /// The HTTP status, 400 to 599.
        code: u16,
        /// What the user reads.
        message: String,
    },
    /// Our own or the server's fault: HTTP 500.
    #[error("{0}")]
    Internal(String),
    /// This node may not write. Vault forwards the request to the active node when it reads this
    /// phrase, so it must reach the host unchanged.
    #[error("{READ_ONLY}")]
    ReadOnly,
    /// There is no such path: HTTP 404.
    #[error("unsupported path")]
    UnsupportedPath,
    /// The path has no such operation: HTTP 405.
    #[error("unsupported operation")]
    UnsupportedOperation,
}

impl Error {
    /// The user's mistake, HTTP 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// A fault of ours or of the server, HTTP 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into())
    }

    /// An answer with a status of its own.
    pub fn status(code: u16, message: impl Into<String>) -> Self {
        Self::Status {
            code,
            message: message.into(),
        }
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

/// `logical.ErrReadOnly` of Vault's SDK. It has no number on the wire: the host looks for this text.
pub(crate) const READ_ONLY: &str = "cannot write to readonly storage";
