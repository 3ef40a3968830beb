//! The programs that `scripts/operator-servers` has built.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::program::{ServerKind, server_kind};
use crate::harness::skipped;

/// The programs' paths.
pub(super) struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) apiserver: PathBuf,
    pub(super) external_secrets: PathBuf,
    /// Vault's Kubernetes auth method. A server that the scripts build does not contain it.
    pub(super) kubernetes_auth: PathBuf,
    /// The folder with the resource definitions of External Secrets Operator.
    pub(super) definitions: PathBuf,
}

impl Programs {
    /// Finds the programs. Prints one line if they are not built. The suite supports only Vault.
    pub(super) fn find() -> Option<Self> {
        if server_kind() == ServerKind::OpenBao {
            skipped("the suite `operators`: it runs on Vault only");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/operator-servers");
        let output = Command::new(script).output().expect("the script runs");
        if !output.status.success() {
            skipped(
                "the suite `operators`: its servers are not built; `scripts/test operators` does it",
            );
            return None;
        }
        let lines = String::from_utf8(output.stdout).expect("paths in UTF-8");
        let paths: Vec<PathBuf> = lines.lines().map(PathBuf::from).collect();
        let [
            etcd,
            apiserver,
            external_secrets,
            kubernetes_auth,
            definitions,
        ] = paths.try_into().expect("five paths");
        Some(Self {
            etcd,
            apiserver,
            external_secrets,
            kubernetes_auth,
            definitions,
        })
    }
}
