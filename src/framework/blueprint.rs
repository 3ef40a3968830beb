//! The description of an engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::event::EventKind;
use super::path::Path;
use super::secret::SecretType;
use crate::logical::{Error, SpecialPaths};

/// The parts of an engine.
pub struct Blueprint<E> {
    /// For OpenAPI.
    pub title: &'static str,
    /// What the engine does, for help and OpenAPI.
    pub description: &'static str,
    /// The engine's version, for OpenAPI.
    pub version: &'static str,
    /// The prefix of its operation names, for example `open-router`.
    pub prefix: &'static str,
    /// Its paths; the first match is used.
    pub paths: Vec<Path<E>>,
    /// What it tells the server's event bus.
    pub events: &'static [EventKind],
    /// Its leased secrets.
    pub secrets: Vec<SecretType<E>>,
    /// Paths that the server treats differently.
    pub special_paths: SpecialPaths,
    /// What it does outside requests.
    pub lifecycle: Arc<dyn Lifecycle<E>>,
}

/// What an engine does outside requests.
#[async_trait]
pub trait Lifecycle<E>: Send + Sync {
    /// Storage may be used from now on. See [`crate::logical::Backend::initialize`].
    async fn initialize(&self, engine: &Arc<E>) -> Result<(), Error>;

    /// The server's periodic call, about once a minute. It holds a lock that sealing needs: start work,
    /// but do not wait for it.
    async fn periodic(&self, engine: &Arc<E>) -> Result<(), Error>;

    /// Another node changed this storage key.
    async fn invalidate(&self, engine: &Arc<E>, key: &str);

    /// The mount is leaving this process. See [`crate::logical::Backend::cleanup`].
    async fn cleanup(&self, engine: &Arc<E>);
}
