//! A host's request to an engine.

use std::str::FromStr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Data;

/// One request on a mount.
#[derive(Clone)]
pub struct Request {
    /// The host's id of the request, for logs. Empty for the host's own requests.
    pub id: String,
    /// The requested operation.
    pub operation: Operation,
    /// The path relative to the mount, without a leading slash.
    pub path: String,
    /// Where the engine is mounted, with a slash at the end; empty for the host's own requests.
    pub mount_point: String,
    /// The request's fields; for renew and revoke, the lease's response data.
    pub data: Data,
    /// The lease to renew or revoke.
    pub secret: Option<LeasedSecret>,
    /// The caller, as the token's display name. Empty for the host's own requests.
    pub display_name: String,
    /// The caller's identity entity; empty if there is none.
    pub entity_id: String,
    /// Cancelled when the caller is gone. The handler still runs to completion, as Go handlers do.
    pub caller_gone: CancellationToken,
}

impl Request {
    /// A request without data, such as the host's own.
    pub fn new(operation: Operation, path: impl Into<String>) -> Self {
        Self::of_caller(operation, path, CancellationToken::new())
    }

    /// The same for a caller who cancels `caller_gone` on leaving.
    pub(super) fn of_caller(
        operation: Operation,
        path: impl Into<String>,
        caller_gone: CancellationToken,
    ) -> Self {
        Self {
            id: String::new(),
            operation,
            path: path.into(),
            mount_point: String::new(),
            data: Data::new(),
            secret: None,
            display_name: String::new(),
            entity_id: String::new(),
            caller_gone,
        }
    }

    /// The same request with these fields.
    pub fn with_data(mut self, data: Data) -> Self {
        self.data = data;
        self
    }
}

impl std::fmt::Debug for Request {
    /// Shows no data: it may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id)
            .field("operation", &self.operation)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A lease as the host stores it.
#[derive(Clone)]
pub struct LeasedSecret {
    /// What the engine stored in the lease when it was issued.
    pub internal_data: Data,
    /// When the lease was issued, in seconds since 1970.
    pub issued_at: i64,
    /// The lease's duration.
    pub ttl: Duration,
    /// The extension that the client requested; zero if it requested none.
    pub increment: Duration,
}

impl std::fmt::Debug for LeasedSecret {
    /// Shows no internal data: it may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeasedSecret")
            .field("issued_at", &self.issued_at)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// An operation on a path; the strings of `logical.Operation` in Vault's SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Write to an object that does not exist; only on paths with an existence check.
    Create,
    /// Read.
    Read,
    /// Write.
    Update,
    /// Change only the named fields.
    Patch,
    /// Delete.
    Delete,
    /// List the names below the path.
    List,
    /// Describe the path.
    Help,
    /// Renew a lease.
    Renew,
    /// Revoke a lease.
    Revoke,
    /// The server's periodic call, in which an engine also cleans up unfinished work.
    Rollback,
}

impl FromStr for Operation {
    type Err = UnknownOperation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "create" => Self::Create,
            "read" => Self::Read,
            "update" => Self::Update,
            "patch" => Self::Patch,
            "delete" => Self::Delete,
            "list" => Self::List,
            "help" => Self::Help,
            "renew" => Self::Renew,
            "revoke" => Self::Revoke,
            "rollback" => Self::Rollback,
            other => return Err(UnknownOperation(other.to_owned())),
        })
    }
}

/// An operation that engines here do not support, such as `header` or `alias-lookahead`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported operation {0:?}")]
pub struct UnknownOperation(pub String);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Entry, Lease, Response, Secret};
    use super::*;

    #[test]
    fn nothing_that_travels_with_a_secret_shows_it_by_debug() {
        let data = Data::from_iter([("api_key".to_owned(), json!("planted"))]);
        let (ttl, max_ttl) = (Duration::from_secs(60), Duration::ZERO);
        let mut request = Request::new(Operation::Update, "config").with_data(data.clone());
        request.secret = Some(LeasedSecret {
            internal_data: data.clone(),
            issued_at: 0,
            ttl,
            increment: ttl,
        });
        let mut response = Response::with_data(data.clone());
        response.secret = Some(Secret {
            lease: Lease {
                ttl,
                max_ttl,
                renewable: false,
            },
            internal_data: data,
            rendered: None,
        });
        let entry = Entry {
            key: "config/default".to_owned(),
            value: b"planted".to_vec(),
        };
        let shown = format!("{request:?} {:?} {response:?} {entry:?}", request.secret);
        assert!(shown.contains("config/default"), "{shown}");
        // `Debug` of a `Vec<u8>` prints numbers.
        for secret in ["planted", "112, 108, 97, 110"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
