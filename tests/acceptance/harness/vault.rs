//! A dev server: unsealed, in memory, with the plugin in its catalog.
//!
//! Tests that only use the server share one ([`Vault::shared`]), each with a mount of its own; those
//! that kill or count processes have one to themselves ([`Vault::dev`]).

use std::fs;
use std::path::PathBuf;
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
        Self::start(environment, None).await
    }

    /// A server for this test alone that writes an audit log, and where it is.
    pub(crate) async fn audited() -> (Self, PathBuf) {
        match program::server_kind() {
            ServerKind::Vault => {
                let vault = Self::dev().await;
                let log = vault.directory.path("audit.log");
                let device = json!({"type": "file", "options": {"file_path": log}});
                vault.client.write("sys/audit/file", device).await.ok();
                (vault, log)
            }
            // It takes audit devices only from its configuration.
            ServerKind::OpenBao => {
                let vault = Self::start(&[], Some("audit.log")).await;
                let log = vault.directory.path("audit.log");
                (vault, log)
            }
        }
    }

    async fn start(environment: &[(&str, &str)], audit_log: Option<&str>) -> Self {
        for _ in 0..listen::ATTEMPTS {
            let directory = Directory::new();
            let address = listen::free_address();
            // Different for each server, so that the answers of two are never taken for each other's.
            let token = format!("root-{}-{}", id(), SERVERS.fetch_add(1, Ordering::Relaxed));
            let mut command = directory.command(program::server());
            command
                .args(["server", "-dev", "-dev-no-store-token", "-log-level=debug"])
                .arg(format!("-dev-root-token-id={token}"))
                .arg(format!("-dev-listen-address={address}"))
                .arg(format!(
                    "-dev-plugin-dir={}",
                    directory.path("plugins").display()
                ))
                .envs(environment.iter().copied());
            if let Some(name) = audit_log {
                let (config, log) = (directory.path("audit.hcl"), directory.path(name));
                let options = format!("options {{ file_path = {log:?} }}");
                let device = format!("audit \"file\" \"file\" {{ {options} }}\n");
                fs::write(&config, device).expect("a file can be written");
                command.arg(format!("-config={}", config.display()));
            }
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

    /// The server that the tests of this binary share: started when the first of them needs it,
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

    /// The plugin processes that live now.
    pub(crate) fn plugin_processes(&self) -> Vec<PluginProcess> {
        self.process.plugins()
    }

    /// Everything that the server and its plugins have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.log()).expect("the server's log can be read")
    }

    /// Ends the server; returns the plugins that outlived it.
    pub(crate) fn stop(mut self) -> Vec<PluginProcess> {
        self.process.stop()
    }
}

static SERVERS: AtomicU32 = AtomicU32::new(0);
