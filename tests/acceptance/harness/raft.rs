//! A server with Raft storage that a person unseals: initialized, sealed and unsealed, stopped and restarted.

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
        // Only the active node answers this successfully.
        listen::serves(&self.client, "sys/health").await;
    }

    /// Ends the server process. Returns the plugins that outlived it.
    pub(crate) fn stop(&mut self) -> Vec<PluginProcess> {
        self.node.stop()
    }

    /// Kills the server process, as in a crash. Its plugins notice without being told.
    pub(crate) fn kill(&mut self) {
        self.node.kill();
    }

    /// Restarts the server on its existing storage, and unseals it.
    pub(crate) async fn start(&mut self) {
        self.start_sealed().await;
        self.unseal().await;
    }

    /// Restarts the server on its existing storage.
    pub(crate) async fn start_sealed(&mut self) {
        self.node.start().await;
    }

    /// The running plugin processes.
    pub(crate) fn plugin_processes(&self) -> Vec<PluginProcess> {
        self.node.plugin_processes()
    }

    /// The server under it.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Saves a snapshot of all storage. Returns its file.
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

/// A string field that the reply must have.
pub(super) fn string(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
