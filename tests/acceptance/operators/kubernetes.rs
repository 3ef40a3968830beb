//! A cluster without nodes: an API server and its etcd, for one test, in one directory.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

use super::api::Api;
use super::programs::Programs;
use crate::harness::{ATTEMPTS, Directory, START_TIME, ServerProcess, eventually, free_address};

/// A running API server. Ended when dropped.
pub(super) struct Kubernetes {
    // Dropped in this order, so that no one uses etcd when it ends.
    apiserver: ServerProcess,
    etcd: ServerProcess,
    _directory: Directory,
    api: Api,
    url: String,
    authority: String,
    token: String,
}

impl Kubernetes {
    /// Starts a cluster that contains only the namespace `apps`.
    pub(super) async fn new(programs: &Programs) -> Self {
        let directory = Directory::without_plugin();
        let authority = write_identity(&directory);
        let token = format!("{:032x}", fastrand::u128(..));
        let user = format!("{token},tests,tests,system:masters\n");
        fs::write(directory.path("tokens.csv"), user).expect("a file");

        let command = |address| etcd(programs, &directory, address);
        let anybody = reqwest::Client::builder().no_proxy().build();
        let anybody = anybody.expect("an HTTP client");
        let ready = async |address| {
            let answer = anybody.get(format!("http://{address}/health")).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        };
        let (etcd, storage) = start(command, &directory.path("etcd.log"), ready).await;

        let client = |address| Api::new(&format!("https://{address}"), &authority, &token);
        let command = |address| apiserver(programs, &directory, address, storage);
        let ready = async |address| client(address).is_ready().await;
        let (apiserver, address) = start(command, &directory.log(), ready).await;
        let cluster = Self {
            apiserver,
            etcd,
            _directory: directory,
            api: client(address),
            url: format!("https://{address}"),
            authority,
            token,
        };
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: apps\n";
        cluster.api.apply(namespace).await;
        cluster
    }

    /// A client with all permissions.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// The configuration of a program with all permissions.
    pub(super) fn kubeconfig(&self) -> Value {
        let authority = BASE64_STANDARD.encode(&self.authority);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "users": [{"name": "tests", "user": {"token": self.token}}],
            "clusters": [{"name": "tests", "cluster": {
                "server": self.url, "certificate-authority-data": authority,
            }}],
        })
    }

    /// The URL of the API server, and the authority of its certificate, in PEM form.
    pub(super) fn address(&self) -> (&str, &str) {
        (&self.url, &self.authority)
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // Its stored data is no longer needed.
        self.apiserver.kill();
        self.etcd.kill();
    }
}

fn etcd(programs: &Programs, directory: &Directory, address: SocketAddr) -> Command {
    let peers = SocketAddr::new(address.ip(), address.port() + 1);
    let mut command = directory.command(&programs.etcd);
    command
        .arg(format!("--data-dir={}", directory.path("etcd").display()))
        .arg(format!("--listen-client-urls=http://{address}"))
        .arg(format!("--advertise-client-urls=http://{address}"))
        .arg(format!("--listen-peer-urls=http://{peers}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peers}"))
        .arg(format!("--initial-cluster=default=http://{peers}"))
        .arg("--unsafe-no-fsync")
        .arg("--log-level=error");
    command
}

fn apiserver(
    programs: &Programs,
    directory: &Directory,
    address: SocketAddr,
    storage: SocketAddr,
) -> Command {
    let file = |name| directory.path(name).display().to_string();
    let mut command = directory.command(&programs.apiserver);
    command
        .arg(format!("--bind-address={}", address.ip()))
        .arg(format!("--advertise-address={}", address.ip()))
        .arg(format!("--secure-port={}", address.port()))
        .arg(format!("--etcd-servers=http://{storage}"))
        .arg(format!("--tls-cert-file={}", file("server.crt")))
        .arg(format!("--tls-private-key-file={}", file("server.key")))
        .arg(format!("--token-auth-file={}", file("tokens.csv")))
        .arg("--authorization-mode=RBAC")
        .arg(format!("--service-account-issuer={ISSUER}"))
        .arg(format!(
            "--service-account-key-file={}",
            file("accounts.pub")
        ))
        .arg(format!(
            "--service-account-signing-key-file={}",
            file("accounts.key")
        ))
        // Neither works with loopback addresses only, and nothing here needs them.
        .arg("--endpoint-reconciler-type=none")
        .arg("--enable-priority-and-fairness=false");
    command
}

/// Writes the certificate of the API server and the key that signs the tokens of service accounts. Returns
/// the authority of the certificate.
fn write_identity(directory: &Directory) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let accounts = KeyPair::generate().unwrap();
    for (name, text) in [
        ("server.crt", pem("CERTIFICATE", certificate.der())),
        ("server.key", pem("PRIVATE KEY", &key.serialize_der())),
        (
            "accounts.key",
            pem("PRIVATE KEY", &accounts.serialize_der()),
        ),
        (
            "accounts.pub",
            pem("PUBLIC KEY", &accounts.subject_public_key_info()),
        ),
    ] {
        fs::write(directory.path(name), text).expect("a file");
    }
    authority
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// Starts a server at a free address, and waits until it is ready.
async fn start(
    command: impl Fn(SocketAddr) -> Command,
    log: &Path,
    ready: impl AsyncFn(SocketAddr) -> bool,
) -> (ServerProcess, SocketAddr) {
    for _ in 0..ATTEMPTS {
        let address = free_address();
        let mut process = ServerProcess::start(command(address), log);
        let up = eventually("the server is ready", START_TIME, async || {
            match process.has_ended() {
                true => Some(false),
                false => ready(address).await.then_some(true),
            }
        });
        if up.await {
            return (process, address);
        }
        let said = process.log_tail();
        assert!(said.contains("address already in use"), "it did not start");
    }
    panic!("each of {ATTEMPTS} free ports was taken by somebody else");
}

/// The issuer and the audience of the tokens of service accounts.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
