//! Vault and External Secrets Operator next to a cluster, as described at the beginning of the samples.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::kubernetes::{ISSUER, Kubernetes};
use super::programs::Programs;
use crate::harness::{Directory, Mount, RaftVault, ServerProcess, samples};

/// Everything that an application in the cluster depends on.
pub(super) struct Site {
    // Dropped in this order, so that the operator ends before the servers that it calls.
    _operator: ServerProcess,
    directory: Directory,
    pub(super) cluster: Kubernetes,
    pub(super) mount: Mount,
    pub(super) vault: RaftVault,
    _turn: MutexGuard<'static, ()>,
}

/// Every refresh interval in the samples, shortened.
pub(super) struct Intervals {
    pub(super) rotating: &'static str,
    pub(super) dynamic: &'static str,
}

impl Site {
    /// Starts everything, unless it is not built. Nothing is deployed yet.
    pub(super) async fn new() -> Option<Self> {
        let programs = Programs::find()?;
        let turn = turn().await;
        let cluster = Kubernetes::new(&programs).await;
        let vault = RaftVault::new().await;
        let mount = Mount::as_in_the_samples(vault.client()).await;
        let_in(&vault, &programs, &cluster).await;
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

/// A cluster takes half a gigabyte of memory, so the tests run one after the other.
pub(super) async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Lets the service account `app` of the cluster read what the samples' policy allows. Vault asks the cluster
/// about the account's token, with that token.
async fn let_in(vault: &RaftVault, programs: &Programs, cluster: &Kubernetes) {
    let root = vault.client();
    let write = async |path: &str, body: Value| root.write(path, body).await.ok();
    let entry = vault
        .node()
        .add_other_plugin(&programs.kubernetes_auth, METHOD);
    write(&format!("sys/plugins/catalog/auth/{METHOD}"), entry).await;
    write("sys/auth/kubernetes", json!({"type": METHOD})).await;
    let (url, authority) = cluster.address();
    let config = json!({
        "kubernetes_host": url, "kubernetes_ca_cert": authority, "disable_local_ca_jwt": true,
    });
    write("auth/kubernetes/config", config).await;
    let policy = sample("vault-policy.hcl");
    write("sys/policies/acl/app", json!({"policy": policy})).await;
    let role = json!({
        "bound_service_account_names": "app", "bound_service_account_namespaces": "apps",
        "audience": ISSUER, "token_policies": "app", "token_ttl": "1h",
    });
    write("auth/kubernetes/role/app", role).await;
    cluster.api().apply(MAY_BE_REVIEWED).await;
}

fn external_secrets(programs: &Programs, directory: &Directory, kubeconfig: &Value) -> Command {
    let file = directory.path("kubeconfig");
    fs::write(&file, kubeconfig.to_string()).expect("a file");
    let mut command = directory.command(&programs.external_secrets);
    command
        .env("KUBECONFIG", file)
        .arg("--metrics-addr=127.0.0.1:0")
        // These would need more resource definitions.
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

/// The name of the auth method in Vault's catalog.
const METHOD: &str = "vault-plugin-auth-kubernetes";

/// Lets the holder of the account's token ask the API server about it.
const MAY_BE_REVIEWED: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: app-token-review
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: system:auth-delegator
subjects:
  - kind: ServiceAccount
    name: app
    namespace: apps
";

/// What the operator needs to start, and what the samples use.
pub(super) const DEFINITIONS: [&str; 4] = [
    "external-secrets.io_externalsecrets.yaml",
    "external-secrets.io_secretstores.yaml",
    "generators.external-secrets.io_generatorstates.yaml",
    "generators.external-secrets.io_vaultdynamicsecrets.yaml",
];
