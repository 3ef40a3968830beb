//! A server with Raft storage that a person unseals: initialized, sealed and unsealed, stopped and
//! started again.

use serde_json::{Value, json};

use super::client::Client;
use super::listen;
use super::node::Node;
use super::process::PluginProcess;
use super::program::{self, PLUGIN_NAME};

/// A server on Raft storage, unsealed, with the plugin registered by its SHA-256.
pub(crate) struct RaftVault {
    node: Node,
    client: Client,
    unseal_key: String,
}

impl RaftVault {
    /// Starts and initializes a server, unseals it and registers the plugin.
    pub(crate) async fn new() -> Self {
        let node = Node::new("node", None).await;
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = node.client("").write("sys/init", shares).await.ok();
        let unseal_key = string(&keys.json()["keys_base64"][0]);
        let client = node.client(&string(&keys.json()["root_token"]));
        let vault = Self {
            node,
            client,
            unseal_key,
        };
        vault.unseal().await;
        let path = format!("sys/plugins/catalog/secret/{PLUGIN_NAME}");
        let entry = program::catalog_entry(None);
        vault.client.write(&path, entry).await.ok();
        vault
    }

    /// A client with the root token.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Seals the server: its plugins end, its storage is closed.
    pub(crate) async fn seal(&self) {
        self.client.write("sys/seal", json!({})).await.ok();
    }

    /// Unseals the server and waits until it serves requests.
    pub(crate) async fn unseal(&self) {
        self.client
            .write("sys/unseal", json!({"key": self.unseal_key}))
            .await
            .ok();
        // Answers with success on the active node only.
        listen::serves(&self.client, "sys/health").await;
    }

    /// Ends the server process; returns the plugins that outlived it.
    pub(crate) fn stop(&mut self) -> Vec<PluginProcess> {
        self.node.stop()
    }

    /// Ends the server process as a crash would. Its plugins notice by themselves.
    pub(crate) fn kill(&mut self) {
        self.node.kill();
    }

    /// Starts the server again on the storage it has, and unseals it.
    pub(crate) async fn start(&mut self) {
        self.start_sealed().await;
        self.unseal().await;
    }

    /// Starts the server again on the storage it has.
    pub(crate) async fn start_sealed(&mut self) {
        self.node.start().await;
    }

    /// The plugin processes that live now.
    pub(crate) fn plugin_processes(&self) -> Vec<PluginProcess> {
        self.node.plugin_processes()
    }

    /// The server under it.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Saves a snapshot of everything that is stored; returns its file.
    pub(crate) async fn save_snapshot(&self) -> String {
        self.node.save_snapshot(&self.client).await
    }

    /// Restores a snapshot, and waits until the server serves requests again.
    pub(crate) async fn restore_snapshot(&self, file: &str) {
        self.node.restore_snapshot(&self.client, file).await;
        listen::serves(&self.client, "sys/health").await;
    }

    /// Everything that the server and its plugins have logged so far.
    pub(crate) fn log(&self) -> String {
        self.node.log()
    }
}

/// A string of a reply that has it.
pub(super) fn string(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
