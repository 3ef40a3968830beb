//! A server with Raft storage on disk, as in production: configured by file, initialized, sealed and
//! unsealed, stopped and started again with everything it has stored.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::client::Client;
use super::directory::Directory;
use super::listen;
use super::process::{PluginProcess, ServerProcess};
use super::program::{self, PLUGIN_NAME};

/// A server on Raft storage, unsealed, with the plugin registered by its SHA-256.
pub(crate) struct RaftVault {
    process: ServerProcess,
    directory: Directory,
    address: SocketAddr,
    client: Client,
    unseal_key: String,
}

impl RaftVault {
    /// Starts and initializes a server, unseals it and registers the plugin.
    pub(crate) async fn new() -> Self {
        let directory = Directory::new();
        fs::create_dir(directory.path("raft")).expect("a storage directory");
        let (process, address) = Self::first_start(&directory).await;
        let anybody = Client::new(&format!("http://{address}"), "");
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = anybody.write("sys/init", shares).await.ok();
        let unseal_key = string(&keys.json()["keys_base64"][0]);
        let client = anybody.with_token(&string(&keys.json()["root_token"]));
        let vault = Self {
            process,
            directory,
            address,
            client,
            unseal_key,
        };
        vault.unseal().await;
        let path = format!("sys/plugins/catalog/secret/{PLUGIN_NAME}");
        vault
            .client
            .write(&path, program::catalog_entry(None))
            .await
            .ok();
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
        self.process.stop()
    }

    /// Ends the server process as a crash would. Its plugins notice by themselves.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the server again on the storage it has, and unseals it.
    pub(crate) async fn start(&mut self) {
        self.process = Self::spawn(&self.directory, self.address);
        let up = listen::answers(&mut self.process, &self.client, "sys/seal-status").await;
        assert!(
            up,
            "the server's port {} was taken while it was down",
            self.address
        );
        self.unseal().await;
    }

    /// The plugin processes that live now.
    pub(crate) fn plugin_processes(&self) -> Vec<PluginProcess> {
        self.process.plugins()
    }

    /// Everything that the server and its plugins have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.log()).expect("the server's log can be read")
    }

    async fn first_start(directory: &Directory) -> (ServerProcess, SocketAddr) {
        for _ in 0..listen::ATTEMPTS {
            let address = listen::free_address();
            let mut process = Self::spawn(directory, address);
            let anybody = Client::new(&format!("http://{address}"), "");
            if listen::answers(&mut process, &anybody, "sys/seal-status").await {
                return (process, address);
            }
        }
        panic!(
            "each of {} free ports was taken by somebody else",
            listen::ATTEMPTS
        );
    }

    fn spawn(directory: &Directory, address: SocketAddr) -> ServerProcess {
        let configuration = directory.path("server.json");
        fs::write(&configuration, configure(directory, address).to_string()).expect("a file");
        let mut command = directory.command(program::server());
        command.arg("server").arg("-config").arg(configuration);
        ServerProcess::start(command, &directory.log())
    }
}

fn configure(directory: &Directory, address: SocketAddr) -> Value {
    let cluster = SocketAddr::new(address.ip(), address.port() + 1);
    json!({
        "storage": {"raft": {
            "path": directory.path("raft"),
            "node_id": "node",
            // The election of the only node is a matter of a second then, not of five.
            "performance_multiplier": "1",
        }},
        "listener": {"tcp": {"address": address, "cluster_address": cluster, "tls_disable": true}},
        "api_addr": format!("http://{address}"),
        "cluster_addr": format!("https://{cluster}"),
        "plugin_directory": directory.path("plugins"),
        // Locking memory needs a privilege that tests do not have.
        "disable_mlock": true,
        "log_level": "debug",
    })
}

fn string(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
