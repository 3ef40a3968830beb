//! One server on Raft storage on disk, as in production: configured by file, with its own plugin
//! directory, stopped and started again with everything it has stored.
//!
//! [`RaftVault`](super::RaftVault) is such a node alone, [`Cluster`](super::Cluster) several together.

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

/// A server process with its storage. What it needs to unseal is its owner's affair.
pub(crate) struct Node {
    // Dropped in this order: the process ends before its files go.
    process: ServerProcess,
    directory: Directory,
    address: SocketAddr,
    name: String,
    seal: Option<Value>,
}

impl Node {
    /// Starts a server with nothing in its storage. With `seal` it unseals itself, by that stanza of
    /// its configuration.
    pub(crate) async fn new(name: &str, seal: Option<Value>) -> Self {
        let directory = Directory::new();
        fs::create_dir(directory.path("raft")).expect("a storage directory");
        for _ in 0..listen::ATTEMPTS {
            let address = listen::free_address();
            let configuration = configure(&directory, address, name, seal.as_ref());
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

    /// Where it is reached, for its peers too.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the process; returns the plugins that outlived it.
    pub(crate) fn stop(&mut self) -> Vec<PluginProcess> {
        self.process.stop()
    }

    /// Ends the process as a crash would. Its plugins notice by themselves.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Starts the server again on the storage it has.
    pub(crate) async fn start(&mut self) {
        let configuration = configure(
            &self.directory,
            self.address,
            &self.name,
            self.seal.as_ref(),
        );
        for _ in 0..listen::ATTEMPTS {
            self.process = spawn(&self.directory, &configuration);
            let anybody = self.client("");
            if listen::answers(&mut self.process, &anybody, "sys/seal-status").await {
                return;
            }
            // Whoever has the port may not want it for long.
            tokio::time::sleep(PORT_PAUSE).await;
        }
        panic!(
            "the server's port {} was taken while it was down",
            self.address
        );
    }

    /// The plugin processes that live now.
    pub(crate) fn plugin_processes(&self) -> Vec<PluginProcess> {
        self.process.plugins()
    }

    /// Everything that the server and its plugins have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.log()).expect("the server's log can be read")
    }

    /// Waits until this has been logged: what is logged comes later than what it is about.
    pub(crate) async fn has_logged(&self, words: &str) {
        let logged = async || self.log().contains(words).then_some(());
        eventually(&format!("`{words}` is logged"), SOON, logged).await;
    }

    /// Takes the plugin's executable away from this node, as if it had never been installed here.
    pub(crate) fn remove_plugin(&self) {
        let executable = self.directory.path("plugins").join(PLUGIN_NAME);
        fs::remove_file(executable).expect("the plugin can be removed");
    }

    /// Installs the plugin's executable again.
    pub(crate) fn add_plugin(&self) {
        self.directory.add_plugin(PLUGIN_NAME);
    }

    /// Installs the plugin's executable of another version in the place of the one that is there;
    /// returns its entry for the catalog.
    pub(crate) fn replace_plugin(&self, version: &str) -> Value {
        self.directory.replace_plugin(PLUGIN_NAME, version);
        program::catalog_entry_of(&self.directory.path("plugins").join(PLUGIN_NAME))
    }

    /// Installs another plugin beside ours; returns its entry for the catalog.
    pub(crate) fn add_other_plugin(&self, executable: &Path, name: &str) -> Value {
        self.directory.add_executable(executable, name);
        json!({"sha256": program::sha256(executable), "command": name})
    }

    /// Runs `vault <arguments>` against this node.
    pub(crate) async fn cli(&self, client: &Client, arguments: &[&str]) -> CliOutput {
        CliOutput::of(&self.directory, client, arguments).await
    }

    /// Saves a snapshot of everything that is stored; returns its file. Of a cluster only the leader can.
    pub(crate) async fn save_snapshot(&self, client: &Client) -> String {
        let file = self.path("snapshot").display().to_string();
        let save = ["operator", "raft", "snapshot", "save", &file];
        self.cli(client, &save).await.ok();
        file
    }

    /// Restores a snapshot. The server serves again some time after it has answered.
    pub(crate) async fn restore_snapshot(&self, client: &Client, file: &str) {
        let restore = ["operator", "raft", "snapshot", "restore", file];
        self.cli(client, &restore).await.ok();
    }

    /// The path of a file of this node's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }
}

/// Between two attempts to listen where a server has listened before.
const PORT_PAUSE: Duration = Duration::from_secs(1);

fn spawn(directory: &Directory, configuration: &Value) -> ServerProcess {
    let file = directory.path("server.json");
    fs::write(&file, configuration.to_string()).expect("a file");
    let mut command = directory.command(program::server());
    command.arg("server").arg("-config").arg(file);
    ServerProcess::start(command, &directory.log())
}

fn configure(
    directory: &Directory,
    address: SocketAddr,
    name: &str,
    seal: Option<&Value>,
) -> Value {
    let cluster = SocketAddr::new(address.ip(), address.port() + 1);
    let mut configuration = json!({
        "storage": {"raft": {
            "path": directory.path("raft"),
            "node_id": name,
            // How often it is seen to whether a node that has joined may vote.
            "autopilot_update_interval": "500ms",
            "autopilot_reconcile_interval": "500ms",
        }},
        "listener": {"tcp": {"address": address, "cluster_address": cluster, "tls_disable": true}},
        "api_addr": format!("http://{address}"),
        "cluster_addr": format!("https://{cluster}"),
        "plugin_directory": directory.path("plugins"),
        // Locking memory needs a privilege that tests do not have.
        "disable_mlock": true,
        "log_level": "debug",
        // For tests that look at what is stored, or put something there.
        "raw_storage_endpoint": true,
    });
    if let Some(seal) = seal {
        configuration["seal"] = seal.clone();
    }
    configuration
}
