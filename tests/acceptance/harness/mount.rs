//! The engine, mounted at a separate path for one test, with a separate simulated OpenRouter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Reply};
use super::openrouter::OpenRouter;
use super::program::PLUGIN_NAME;
use super::vault::Vault;
use super::wait::{SOON, eventually};

/// One mount of the engine.
pub(crate) struct Mount {
    /// The OpenRouter of the engine's connection.
    pub(crate) openrouter: OpenRouter,
    client: Client,
    path: String,
    /// Keeps the shared server alive for as long as the test runs.
    _server: Option<Arc<Vault>>,
}

impl Mount {
    /// Mounts the engine on the shared server, without a connection.
    pub(crate) async fn unconfigured() -> Self {
        let vault = Vault::shared().await;
        let mount = Self::of(PLUGIN_NAME, vault.client()).await;
        Self {
            _server: Some(vault),
            ..mount
        }
    }

    /// Mounts the engine on the shared server and connects it.
    pub(crate) async fn new() -> Self {
        let mount = Self::unconfigured().await;
        mount.connect().await.ok();
        mount
    }

    /// Mounts the engine on the server that the client talks to, and connects it.
    pub(crate) async fn on(client: Client) -> Self {
        let mount = Self::of(PLUGIN_NAME, client).await;
        mount.connect().await.ok();
        mount
    }

    /// The same with the name that the samples use.
    pub(crate) async fn as_in_the_samples(client: Client) -> Self {
        let mount = Self::at_path("openrouter".to_owned(), PLUGIN_NAME, client).await;
        mount.connect().await.ok();
        mount
    }

    /// Mounts a plugin of the catalog, without a connection.
    pub(crate) async fn of(plugin: &str, client: Client) -> Self {
        static MOUNTS: AtomicU32 = AtomicU32::new(0);
        let path = format!("openrouter-{}", MOUNTS.fetch_add(1, Ordering::Relaxed));
        Self::at_path(path, plugin, client).await
    }

    async fn at_path(path: String, plugin: &str, client: Client) -> Self {
        client
            .write(&format!("sys/mounts/{path}"), json!({"type": plugin}))
            .await
            .ok();
        Self {
            openrouter: OpenRouter::start().await,
            client,
            path,
            _server: None,
        }
    }

    /// Writes `config` so that the engine reaches this mount's OpenRouter.
    pub(crate) async fn connect(&self) -> Reply {
        self.write("config", self.connection()).await
    }

    /// The fields of a connection to this mount's OpenRouter.
    pub(crate) fn connection(&self) -> Value {
        json!({
            "api_url": self.openrouter.base_url(),
            "management_key": self.openrouter.management_key(),
        })
    }

    /// Creates or updates a role.
    pub(crate) async fn role(&self, name: &str, fields: Value) -> Reply {
        self.write(&format!("roles/{name}"), fields).await.ok()
    }

    /// The role's current key, read without a lease.
    pub(crate) async fn key(&self, role: &str) -> String {
        self.read(&format!("static-creds/{role}"))
            .await
            .ok()
            .text("api_key")
    }

    /// The same for a role that may have no key until its next rotation: clients retry a 503.
    pub(crate) async fn key_soon(&self, role: &str) -> String {
        let path = format!("static-creds/{role}");
        let ask = async || {
            let reply = self.read(&path).await;
            match reply.status() {
                200 => Some(reply.text("api_key")),
                503 => None,
                _ => panic!("{reply}"),
            }
        };
        eventually("the role has a key", SOON, ask).await
    }

    /// Waits until the living keys at OpenRouter are exactly those in the status of the rotating roles.
    pub(crate) async fn knows_every_key(&self) {
        let agreed = async || {
            let mut living = self.openrouter.hashes();
            let mut believed = self.believed_hashes().await;
            living.sort_unstable();
            believed.sort_unstable();
            (living == believed).then_some(())
        };
        eventually("the engine knows every living key", RECOVERY_TIME, agreed).await;
    }

    async fn believed_hashes(&self) -> Vec<String> {
        let mut hashes = Vec::new();
        for role in self.list("roles").await.keys() {
            let status = self.read(&format!("roles/{role}")).await.ok();
            if status.text("credential_type") == "dynamic" {
                continue;
            }
            let superseded = status
                .field("superseded_keys")
                .as_array()
                .expect("an array");
            let held = status.field("held_keys").as_array().expect("an array");
            let current = [status.field("current_key")];
            for key in superseded.iter().chain(held).chain(current) {
                hashes.push(key["hash"].as_str().expect("a hash").to_owned());
            }
        }
        hashes
    }

    /// The path of the mount, without slashes.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A path below the mount.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.path)
    }

    /// From now on, uses another node of the same cluster.
    pub(crate) fn reach_through(&mut self, client: Client) {
        self.client = client;
    }

    /// The client of the mount.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Disables the engine here, as `vault secrets disable` does.
    pub(crate) async fn disable(&self) -> Reply {
        self.client
            .delete(&format!("sys/mounts/{}", self.path))
            .await
    }

    pub(crate) async fn read(&self, path: &str) -> Reply {
        self.client.read(&self.at(path)).await
    }

    pub(crate) async fn list(&self, path: &str) -> Reply {
        self.client.list(&self.at(path)).await
    }

    pub(crate) async fn write(&self, path: &str, body: Value) -> Reply {
        self.client.write(&self.at(path), body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.client.patch(&self.at(path), body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.client.delete(&self.at(path)).await
    }

    pub(crate) async fn help(&self, path: &str) -> Reply {
        self.client.help(&self.at(path)).await
    }
}

/// How long the engine may take to find and delete a key whose secret it does not know. It searches at once,
/// and again after 5, 30 and 120 seconds.
const RECOVERY_TIME: Duration = Duration::from_secs(240);
