//! An engine as the host sees it: one instance per mount.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Error, EventSink, Request, Response, Storage, SystemView};

/// A secrets engine on one mount.
///
/// All methods but [`special_paths`](Self::special_paths) may be called any number of times
/// concurrently. A request may arrive twice: the host repeats a request if the process dies.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Paths that the server treats differently. Constant for a build.
    fn special_paths(&self) -> SpecialPaths;

    /// Called once storage may be used: after mounting, at every unseal, and after every restart of the
    /// process. Storage is read-only on a standby.
    ///
    /// # Errors
    /// An error fails the mount; at unseal it is only logged.
    async fn initialize(&self) -> Result<(), Error>;

    /// Handles a request. `None` is an empty answer: 404 for a read, 204 for a write.
    ///
    /// # Errors
    /// What the user or the server is told.
    async fn handle_request(&self, request: Request) -> Result<Option<Response>, Error>;

    /// Whether the object that a write names exists, which decides between the `create` and `update`
    /// capabilities. Called before the caller's permissions are known: it must be cheap and reveal
    /// nothing.
    ///
    /// # Errors
    /// If it cannot be determined; the request then fails.
    async fn existence_check(&self, request: Request) -> Result<Existence, Error>;

    /// Another node changed this storage key.
    async fn invalidate(&self, key: &str);

    /// The mount is leaving this process. Must finish within a second or two, even with work in flight:
    /// the server waits for it while sealing.
    async fn cleanup(&self);
}

/// Creates the instance for a mount. Must not use storage yet: there is none at registration.
pub type Factory = Arc<dyn Fn(Mount) -> Arc<dyn Backend> + Send + Sync>;

/// What an instance receives.
#[derive(Clone)]
pub struct Mount {
    /// The mount's storage.
    pub storage: Arc<dyn Storage>,
    /// What the server knows about the mount.
    pub system: Arc<dyn SystemView>,
    /// The server's event bus.
    pub events: Arc<dyn EventSink>,
    /// The mount's UUID, which stays the same over restarts and moves; empty at registration.
    pub backend_uuid: String,
}

/// The answer to an existence check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// The path has no existence check: every write is an update.
    Unknown,
    /// It exists: an update.
    Exists,
    /// It does not exist: a create.
    Absent,
}

/// Paths that the server treats differently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialPaths {
    /// API paths that need the `sudo` capability.
    pub root: Vec<String>,
    /// API paths that need no token.
    pub unauthenticated: Vec<String>,
    /// Storage prefixes that are not replicated to performance secondaries.
    pub local_storage: Vec<String>,
    /// Storage prefixes that Vault Enterprise seal-wraps.
    pub seal_wrap_storage: Vec<String>,
}
