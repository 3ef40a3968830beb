//! Vault and External Secrets Operator beside a cluster, as the head of the samples describes it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::kubernetes::{ISSUER, Kubernetes};
use super::programs::Programs;
use crate::harness::{Client, Directory, Mount, RaftVault, ServerProcess, samples};

/// What an application in the cluster depends on.
pub(super) struct Site {
    // Dropped in this order: the operator ends before those that it asks.
    _operator: ServerProcess,
    directory: Directory,
    pub(super) cluster: Kubernetes,
    pub(super) mount: Mount,
    pub(super) vault: RaftVault,
    _turn: MutexGuard<'static, ()>,
}

/// Every refresh of the operator that the samples schedule, shortened.
pub(super) struct Intervals {
    pub(super) rotating: &'static str,
    pub(super) dynamic: &'static str,
}

impl Site {
    /// Starts everything, unless it is not built; nothing is deployed yet.
    pub(super) async fn new() -> Option<Self> {
        let programs = Programs::find()?;
        let turn = turn().await;
        let cluster = Kubernetes::new(&programs).await;
        let vault = RaftVault::new().await;
        let mount = Mount::as_in_the_samples(vault.client()).await;
        let_in(&vault.client(), &cluster).await;
        for name in DEFINITIONS {
            let file = programs.definitions.join(name);
            let text = fs::read_to_string(file).expect("a resource definition");
            cluster.api().apply(&text).await;
        }
        let account =
            "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: app\n  namespace: apps\n";
        cluster.api().apply(account).await;
        let directory = Directory::without_plugin();
        let operator = external_secrets(&programs, &directory, &cluster.kubeconfig());
        Some(Self {
            _operator: ServerProcess::start(operator, &directory.log()),
            directory,
            cluster,
            mount,
            vault,
            _turn: turn,
        })
    }

    /// Applies the sample with these refresh intervals instead of its own.
    pub(super) async fn deploy(&self, intervals: &Intervals) {
        let mut manifest = sample("external-secrets-operator.yaml");
        let vault = self.vault.client();
        let interval = |time| format!("refreshInterval: {time}");
        for (sampled, here) in [
            ("https://vault.example.com:8200", vault.address()),
            ("refreshInterval: 30m", &interval(intervals.rotating)),
            ("refreshInterval: 45m", &interval(intervals.dynamic)),
        ] {
            assert!(manifest.contains(sampled), "{sampled}");
            manifest = manifest.replace(sampled, here);
        }
        self.cluster.api().apply(&manifest).await;
    }

    /// Everything that the operator has logged so far.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.directory.log()).expect("the operator's log can be read")
    }
}

/// A cluster takes half a gigabyte: the tests have one after the other.
pub(super) async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Lets the service account `app` of the cluster read what the samples' policy allows. Its token is a JWT, and the
/// JWT method, which is built into the server, takes the place of the Kubernetes method: a login has the same path
/// and the same parameters.
async fn let_in(root: &Client, cluster: &Kubernetes) {
    let write = async |path: &str, body: Value| root.write(path, body).await.ok();
    write("sys/auth/kubernetes", json!({"type": "jwt"})).await;
    let config = json!({"jwt_validation_pubkeys": cluster.accounts(), "bound_issuer": ISSUER});
    write("auth/kubernetes/config", config).await;
    let policy = sample("vault-policy.hcl");
    write("sys/policies/acl/app", json!({"policy": policy})).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ISSUER,
        "bound_subject": "system:serviceaccount:apps:app", "token_policies": "app",
        "token_ttl": "1h",
    });
    write("auth/kubernetes/role/app", role).await;
}

fn external_secrets(programs: &Programs, directory: &Directory, kubeconfig: &Value) -> Command {
    let file = directory.path("kubeconfig");
    fs::write(&file, kubeconfig.to_string()).expect("a file");
    let mut command = directory.command(&programs.external_secrets);
    command
        .env("KUBECONFIG", file)
        .arg("--metrics-addr=127.0.0.1:0")
        // For these it would need more resource definitions.
        .arg("--enable-cluster-store-reconciler=false")
        .arg("--enable-cluster-external-secret-reconciler=false")
        .arg("--enable-push-secret-reconciler=false")
        .arg("--enable-cluster-push-secret-reconciler=false");
    command
}

/// A file of `samples/kubernetes`.
pub(super) fn sample(name: &str) -> String {
    fs::read_to_string(samples().join("kubernetes").join(name)).expect("the sample can be read")
}

/// What the operator needs to start, and the samples use.
pub(super) const DEFINITIONS: [&str; 4] = [
    "external-secrets.io_externalsecrets.yaml",
    "external-secrets.io_secretstores.yaml",
    "generators.external-secrets.io_generatorstates.yaml",
    "generators.external-secrets.io_vaultdynamicsecrets.yaml",
];
