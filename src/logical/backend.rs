//! What an engine is to the host: one instance for each mount.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Error, EventSink, Request, Response, Storage, SystemView};

/// A secrets engine on one mount.
///
/// Every method but [`special_paths`](Self::special_paths) may be called any number of times at
/// once, and a request may arrive twice: the host repeats the one that met a dead process.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Paths that the server treats differently. Always the same for a build.
    fn special_paths(&self) -> SpecialPaths;

    /// Called once storage may be used: after mounting, at every unseal and after every restart
    /// of the process. On a standby storage is read-only.
    ///
    /// # Errors
    /// While mounting an error fails the mount; at unseal it is only logged.
    async fn initialize(&self) -> Result<(), Error>;

    /// Carries out a request. `None` means there is nothing to say: 404 to a read, 204 to a write.
    ///
    /// # Errors
    /// What the user, or the server, is to be told.
    async fn handle_request(&self, request: Request) -> Result<Option<Response>, Error>;

    /// Whether what a write names exists, which decides between the `create` and `update`
    /// capabilities. Called before the caller's rights are known: it must be cheap and tell nothing.
    ///
    /// # Errors
    /// When it cannot be found out; the request then fails.
    async fn existence_check(&self, request: Request) -> Result<Existence, Error>;

    /// Another node changed this storage key.
    async fn invalidate(&self, key: &str);

    /// The mount goes away from this process. Must end within a second or two, whatever is under
    /// way: the server's sealing waits for it.
    async fn cleanup(&self);
}

/// Makes the instance for a mount. Must not use the storage yet: at registration there is none.
pub type Factory = Arc<dyn Fn(Mount) -> Arc<dyn Backend> + Send + Sync>;

/// What an instance is given.
#[derive(Clone)]
pub struct Mount {
    /// The mount's storage.
    pub storage: Arc<dyn Storage>,
    /// What the server knows of the mount.
    pub system: Arc<dyn SystemView>,
    /// The server's event bus.
    pub events: Arc<dyn EventSink>,
    /// The same for a mount over restarts and moves; empty at registration.
    pub backend_uuid: String,
}

/// The answer to an existence check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// The path has no existence check: every write is an update.
    Unknown,
    /// It is there: an update.
    Exists,
    /// It is not: a create.
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
    /// Storage prefixes that Vault Enterprise wraps with the seal once more.
    pub seal_wrap_storage: Vec<String>,
}
