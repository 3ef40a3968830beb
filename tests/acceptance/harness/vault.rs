//! A dev server: unsealed, in memory, with the plugin in its catalog.
//!
//! Tests that only use the server share one ([`Vault::shared`]), each with its own mount. Tests that kill or
//! count processes have their own server ([`Vault::dev`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use serde_json::json;

use super::cli::CliOutput;
use super::client::Client;
use super::directory::Directory;
use super::listen;
use super::process::{PluginProcess, ServerProcess};
use super::program::{self, ServerKind};

/// A running dev server.
pub(crate) struct Vault {
    // Dropped in this order: the process ends before its files go.
    process: ServerProcess,
    directory: Directory,
    client: Client,
}

impl Vault {
    /// A server for this test alone.
    pub(crate) async fn dev() -> Self {
        Self::dev_with(&[]).await
    }

    /// A server for this test alone, with these environment variables.
    pub(crate) async fn dev_with(environment: &[(&str, &str)]) -> Self {
        Self::start(environment, Talk::Some).await
    }

    /// A server for this test alone that reveals as much as possible, and the path of its audit log: it has
    /// the most verbose log level, collects metrics, and lists its storage.
    pub(crate) async fn talkative() -> (Self, PathBuf) {
        let vault = Self::start(&[], Talk::Everything).await;
        let log = vault.directory.path(AUDIT_LOG);
        if program::server_kind() == ServerKind::Vault {
            let device = json!({"type": "file", "options": {"file_path": log}});
            vault.client.write("sys/audit/file", device).await.ok();
        }
        (vault, log)
    }

    async fn start(environment: &[(&str, &str)], talk: Talk) -> Self {
        for _ in 0..listen::ATTEMPTS {
            let directory = Directory::new();
            let address = listen::free_address();
            // Different for each server, so that the answers of two servers are not confused.
            let token = format!("root-{}-{}", id(), SERVERS.fetch_add(1, Ordering::Relaxed));
            let mut command = directory.command(program::server());
            command
                .args(["server", "-dev", "-dev-no-store-token"])
                .arg(format!("-dev-root-token-id={token}"))
                .arg(format!("-dev-listen-address={address}"))
                .arg(format!(
                    "-dev-plugin-dir={}",
                    directory.path("plugins").display()
                ))
                .envs(environment.iter().copied());
            match talk {
                Talk::Some => command.arg("-log-level=debug"),
                Talk::Everything => command
                    .arg("-log-level=trace")
                    .arg(format!("-config={}", talkative(&directory).display())),
            };
            let mut process = ServerProcess::start(command, &directory.log());
            let client = Client::new(&format!("http://{address}"), &token);
            if listen::answers(&mut process, &client, "auth/token/lookup-self").await {
                return Self {
                    process,
                    directory,
                    client,
                };
            }
        }
        panic!(
            "each of {} free ports was taken by somebody else",
            listen::ATTEMPTS
        );
    }

    /// The server that the tests of this binary share. It is started for the first test that needs it, and
    /// ended when no running test needs it any more.
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Vault>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(vault) = shared.upgrade() {
            return vault;
        }
        let vault = Arc::new(Self::dev().await);
        *shared = Arc::downgrade(&vault);
        vault
    }

    /// A client with the root token, for this test's runtime.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.client.address(), self.client.token())
    }

    /// Runs `vault <arguments>` with the root token.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> CliOutput {
        CliOutput::of(&self.directory, &self.client, arguments).await
    }

    /// Installs another plugin in addition to this one, and registers it under `name`.
    #[allow(dead_code, reason = "for benches/side_by_side")]
    pub(crate) async fn install(&self, executable: &Path, name: &str) {
        self.directory.add_executable(executable, name);
        let entry = json!({"sha256": program::sha256(executable), "command": name});
        let path = format!("sys/plugins/catalog/secret/{name}");
        self.client.write(&path, entry).await.ok();
    }

    /// The server's own process id.
    #[allow(dead_code, reason = "for benches/side_by_side")]
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The running plugin processes.
    pub(crate) fn plugin_processes(&self) -> Vec<PluginProcess> {
        self.process.plugins()
    }

    /// The directory for everything that the server and its plugins write.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Everything that the server and its plugins have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.log()).expect("the server's log can be read")
    }

    /// Ends the server. Returns the plugins that outlived it.
    pub(crate) fn stop(mut self) -> Vec<PluginProcess> {
        self.process.stop()
    }
}

/// How verbose a server is.
#[derive(Clone, Copy)]
enum Talk {
    Some,
    Everything,
}

/// The configuration of a verbose server, in addition to that of a dev server.
fn talkative(directory: &Directory) -> PathBuf {
    let mut configuration = String::from(
        "raw_storage_endpoint = true\ntelemetry { prometheus_retention_time = \"1h\" }\n",
    );
    // It takes audit devices only from its configuration.
    if program::server_kind() == ServerKind::OpenBao {
        let options = format!("options {{ file_path = {:?} }}", directory.path(AUDIT_LOG));
        configuration += &format!("audit \"file\" \"file\" {{ {options} }}\n");
    }
    let file = directory.path("talkative.hcl");
    fs::write(&file, configuration).expect("a file can be written");
    file
}

const AUDIT_LOG: &str = "audit.log";

static SERVERS: AtomicU32 = AtomicU32::new(0);
