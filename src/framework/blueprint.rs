//! The description that an engine gives of itself.

use std::sync::Arc;

use async_trait::async_trait;

use super::path::Path;
use super::secret::SecretType;
use crate::logical::{Error, SpecialPaths};

/// What an engine consists of.
pub struct Blueprint<E> {
    /// For OpenAPI.
    pub title: &'static str,
    /// What the engine is, for help and OpenAPI.
    pub description: &'static str,
    /// The engine's version, for OpenAPI.
    pub version: &'static str,
    /// What the names of its operations begin with, for instance `open-router`.
    pub prefix: &'static str,
    /// Its paths; the first that matches is taken.
    pub paths: Vec<Path<E>>,
    /// What it puts under leases.
    pub secrets: Vec<SecretType<E>>,
    /// Paths that the server treats differently.
    pub special_paths: SpecialPaths,
    /// What happens besides requests.
    pub lifecycle: Arc<dyn Lifecycle<E>>,
}

/// What an engine does besides answering requests.
#[async_trait]
pub trait Lifecycle<E>: Send + Sync {
    /// Storage may be used from now on. See [`crate::logical::Backend::initialize`].
    async fn initialize(&self, engine: &Arc<E>) -> Result<(), Error>;

    /// The server's call, about once a minute. It holds a lock that sealing needs: start work, do
    /// not wait for it.
    async fn periodic(&self, engine: &Arc<E>) -> Result<(), Error>;

    /// Another node changed this storage key.
    async fn invalidate(&self, engine: &Arc<E>, key: &str);

    /// The mount goes away from this process. See [`crate::logical::Backend::cleanup`].
    async fn cleanup(&self, engine: &Arc<E>);
}
