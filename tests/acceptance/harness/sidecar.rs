//! A Vault Agent or Vault Proxy for an application: the same executable as the server, with a configuration
//! from `samples/`.
//!
//! Its working directory is removed with it. It reaches the server by `VAULT_ADDR`, with a token in the file
//! `vault-token` that may only read `creds/app` of one mount.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::client::Client;
use super::directory::Directory;
use super::listen;
use super::mount::Mount;
use super::process::ServerProcess;
use super::program;

/// What to start. A test adds files to it and then starts it.
pub(crate) struct Setup {
    directory: Directory,
    server: Client,
    configuration: String,
}

/// A running Agent or Proxy. Ended when dropped.
pub(crate) struct Sidecar {
    // Dropped in this order: the process ends before its files go.
    process: ServerProcess,
    directory: Directory,
}

impl Sidecar {
    /// Prepares one with the configuration of `samples/<sample>`, with this mount instead of `openrouter`.
    pub(crate) async fn setup(mount: &Mount, sample: &str) -> Setup {
        let text = fs::read_to_string(samples().join(sample)).expect("the sample can be read");
        Self::configured(mount, &text).await
    }

    /// The same with a configuration of this text.
    pub(crate) async fn configured(mount: &Mount, text: &str) -> Setup {
        let directory = Directory::without_plugin();
        let token = reader(mount).await;
        fs::write(directory.path("vault-token"), token.token()).expect("a token file");
        Setup {
            directory,
            server: mount.client().clone(),
            configuration: text.replace("openrouter/", &mount.at("")),
        }
    }

    /// Whether the process has ended on its own.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// The path of a file in its working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// The content of a file in its working directory; `None` if it does not exist.
    pub(crate) fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    /// The complete lines of a file in its working directory.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = self.file(name).unwrap_or_default();
        let whole = text
            .rsplit_once('\n')
            .map_or("", |(whole, _beginning)| whole);
        whole.lines().map(str::to_owned).collect()
    }
}

impl Setup {
    /// Puts an executable shell script into the working directory.
    pub(crate) fn with_script(self, name: &str, script: &str) -> Self {
        let path = self.directory.path(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("an executable");
        self
    }

    /// Starts `vault agent`.
    pub(crate) fn agent(self) -> Sidecar {
        let process = self.start("agent");
        Sidecar {
            process,
            directory: self.directory,
        }
    }

    /// Starts `vault proxy` and returns a client of it without a token.
    pub(crate) async fn proxy(mut self) -> (Sidecar, Client) {
        let configuration = self.configuration.clone();
        for _ in 0..listen::ATTEMPTS {
            let address: SocketAddr = listen::free_address();
            self.configuration = configuration.replace("127.0.0.1:8100", &address.to_string());
            let mut process = self.start("proxy");
            let client = Client::new(&format!("http://{address}"), "");
            if listen::answers(&mut process, &client, "auth/token/lookup-self").await {
                let sidecar = Sidecar {
                    process,
                    directory: self.directory,
                };
                return (sidecar, client);
            }
        }
        panic!(
            "each of {} free ports was taken by somebody else",
            listen::ATTEMPTS
        );
    }

    fn start(&self, kind: &str) -> ServerProcess {
        let file = self.directory.path("configuration.hcl");
        fs::write(&file, &self.configuration).expect("a configuration file");
        let mut command = self.directory.command(program::server());
        command
            .arg(kind)
            .arg("-config")
            .arg(file)
            .env("VAULT_ADDR", self.server.address());
        ServerProcess::start(command, &self.directory.log())
    }
}

/// A client that may only read `creds/app` of this mount.
pub(crate) async fn reader(mount: &Mount) -> Client {
    let name = format!("reader-of-{}", mount.path());
    let path = mount.at("creds/app");
    let policy = format!("path \"{path}\" {{ capabilities = [\"read\"] }}");
    let root = mount.client();
    root.write(
        &format!("sys/policies/acl/{name}"),
        json!({"policy": policy}),
    )
    .await
    .ok();
    let reply = root
        .write("auth/token/create", json!({"policies": [name]}))
        .await
        .ok();
    let token = reply.json()["auth"]["client_token"].as_str();
    root.with_token(token.expect("a token"))
}

/// The folder `samples`.
pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
}
