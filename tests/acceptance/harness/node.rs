//! One server on Raft storage on disk, as in production: configured by a file, with its own plugin directory,
//! stopped and restarted with everything that it has stored.
//!
//! [`RaftVault`](super::RaftVault) is one such node, [`Cluster`](super::Cluster) several.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::cli::CliOutput;
use super::client::Client;
use super::directory::Directory;
use super::listen;
use super::process::{PluginProcess, ServerProcess};
use super::program::{self, PLUGIN_NAME};
use super::wait::{SOON, eventually};

/// A server process with its storage. Its owner is responsible for unsealing it.
pub(crate) struct Node {
    // Dropped in this order: the process ends before its files go.
    process: ServerProcess,
    directory: Directory,
    address: SocketAddr,
    name: String,
    seal: Option<Value>,
    /// The address that its peers are told, if they do not reach it directly.
    advertised: Option<SocketAddr>,
}

impl Node {
    /// Starts a server with empty storage. With `seal`, it unseals itself with that stanza of its
    /// configuration.
    pub(crate) async fn new(name: &str, seal: Option<Value>) -> Self {
        Self::advertising(name, seal, None).await
    }

    /// The same for a node whose peers are told this address.
    pub(super) async fn advertising(
        name: &str,
        seal: Option<Value>,
        advertised: Option<SocketAddr>,
    ) -> Self {
        let directory = Directory::new();
        fs::create_dir(directory.path("raft")).expect("a storage directory");
        for _ in 0..listen::ATTEMPTS {
            let address = listen::free_address();
            let configuration = configure(&directory, address, advertised, name, seal.as_ref());
            let mut process = spawn(&directory, &configuration);
            let anybody = Client::new(&format!("http://{address}"), "");
            if listen::answers(&mut process, &anybody, "sys/seal-status").await {
                let name = name.to_owned();
                return Self {
                    process,
                    directory,
                    address,
                    name,
                    seal,
                    advertised,
                };
            }
        }
        panic!(
            "each of {} free ports was taken by somebody else",
            listen::ATTEMPTS
        );
    }

    /// A client of this node, for the test's own runtime.
    pub(crate) fn client(&self, token: &str) -> Client {
        Client::new(&self.url(), token)
    }

    /// Its address, also for its peers.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens for its peers.
    pub(super) fn cluster_address(&self) -> SocketAddr {
        cluster_address(self.address)
    }

    /// The server's process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends the process. Returns the plugins that outlived it.
    pub(crate) fn stop(&mut self) -> Vec<PluginProcess> {
        self.process.stop()
    }

    /// Kills the process, as in a crash. Its plugins notice without being told.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Restarts the server on its existing storage.
    pub(crate) async fn start(&mut self) {
        let configuration = configure(
            &self.directory,
            self.address,
            self.advertised,
            &self.name,
            self.seal.as_ref(),
        );
        for _ in 0..listen::ATTEMPTS {
            self.process = spawn(&self.directory, &configuration);
            let anybody = self.client("");
            if listen::answers(&mut self.process, &anybody, "sys/seal-status").await {
                return;
            }
            // Another process may use the port only for a short time.
            tokio::time::sleep(PORT_PAUSE).await;
        }
        panic!(
            "the server's port {} was taken while it was down",
            self.address
        );
    }

    /// The running plugin processes.
    pub(crate) fn plugin_processes(&self) -> Vec<PluginProcess> {
        self.process.plugins()
    }

    /// Everything that the server and its plugins have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.log()).expect("the server's log can be read")
    }

    /// Waits until this has been logged. Log lines can appear later than the event.
    pub(crate) async fn has_logged(&self, words: &str) {
        let logged = async || self.log().contains(words).then_some(());
        eventually(&format!("`{words}` is logged"), SOON, logged).await;
    }

    /// Removes the plugin's executable from this node, as if it had never been installed there.
    pub(crate) fn remove_plugin(&self) {
        let executable = self.directory.path("plugins").join(PLUGIN_NAME);
        fs::remove_file(executable).expect("the plugin can be removed");
    }

    /// Installs the plugin's executable again.
    pub(crate) fn add_plugin(&self) {
        self.directory.add_plugin(PLUGIN_NAME);
    }

    /// Replaces the plugin's executable with another version. Returns its entry for the catalog.
    pub(crate) fn replace_plugin(&self, version: &str) -> Value {
        self.directory.replace_plugin(PLUGIN_NAME, version);
        program::catalog_entry_of(&self.directory.path("plugins").join(PLUGIN_NAME))
    }

    /// Installs another plugin in addition to this one. Returns its entry for the catalog.
    pub(crate) fn add_other_plugin(&self, executable: &Path, name: &str) -> Value {
        self.directory.add_executable(executable, name);
        json!({"sha256": program::sha256(executable), "command": name})
    }

    /// Runs `vault <arguments>` against this node.
    pub(crate) async fn cli(&self, client: &Client, arguments: &[&str]) -> CliOutput {
        CliOutput::of(&self.directory, client, arguments).await
    }

    /// Saves a snapshot of all storage. Returns its file. In a cluster only the leader can do this.
    pub(crate) async fn save_snapshot(&self, client: &Client) -> String {
        let file = self.path("snapshot").display().to_string();
        let save = ["operator", "raft", "snapshot", "save", &file];
        self.cli(client, &save).await.ok();
        file
    }

    /// Restores a snapshot. The server serves requests again some time after it has answered.
    pub(crate) async fn restore_snapshot(&self, client: &Client, file: &str) {
        let restore = ["operator", "raft", "snapshot", "restore", file];
        self.cli(client, &restore).await.ok();
    }

    /// The path of a file of this node.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }
}

/// Between two attempts to listen on an address that the server used before.
const PORT_PAUSE: Duration = Duration::from_secs(1);

fn spawn(directory: &Directory, configuration: &Value) -> ServerProcess {
    let file = directory.path("server.json");
    fs::write(&file, configuration.to_string()).expect("a file");
    let mut command = directory.command(program::server());
    command.arg("server").arg("-config").arg(file);
    ServerProcess::start(command, &directory.log())
}

fn cluster_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

fn configure(
    directory: &Directory,
    address: SocketAddr,
    advertised: Option<SocketAddr>,
    name: &str,
    seal: Option<&Value>,
) -> Value {
    let cluster = cluster_address(address);
    let advertised = advertised.unwrap_or(cluster);
    let mut configuration = json!({
        "storage": {"raft": {
            "path": directory.path("raft"),
            "node_id": name,
            // How often the server checks whether a node that has joined may vote.
            "autopilot_update_interval": "500ms",
            "autopilot_reconcile_interval": "500ms",
        }},
        "listener": {"tcp": {"address": address, "cluster_address": cluster, "tls_disable": true}},
        "api_addr": format!("http://{address}"),
        "cluster_addr": format!("https://{advertised}"),
        "plugin_directory": directory.path("plugins"),
        // Locking memory needs a privilege that the tests do not have.
        "disable_mlock": true,
        "log_level": "debug",
        // For tests that inspect or change stored entries.
        "raw_storage_endpoint": true,
    });
    if let Some(seal) = seal {
        configuration["seal"] = seal.clone();
    }
    configuration
}
