//! The programs that the suite runs: the server under test, and the plugin that Cargo has just built.
//!
//! The server is Vault as `scripts/vault-server` finds or builds it, or OpenBao if
//! `ACCEPTANCE_SERVER=openbao` is set: then it is `$BAO_BIN` or `bao` on the PATH.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The plugin's name in the catalog of a dev server: its file name.
pub(crate) const PLUGIN_NAME: &str = "vault-plugin-secrets-openrouter";

/// The version that the plugin reports.
pub(crate) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// The vendor of the server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Vault,
    OpenBao,
}

/// The vendor of the server under test, where the two differ.
pub(crate) fn server_kind() -> ServerKind {
    match env::var("ACCEPTANCE_SERVER").as_deref() {
        Err(_) | Ok("vault") => ServerKind::Vault,
        Ok("openbao") => ServerKind::OpenBao,
        Ok(other) => panic!("ACCEPTANCE_SERVER is `{other}`; it can be `vault` or `openbao`"),
    }
}

/// The server's executable, found once per test binary.
pub(crate) fn server() -> &'static Path {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(|| match server_kind() {
        ServerKind::Vault => vault(),
        ServerKind::OpenBao => env::var_os("BAO_BIN").map_or_else(|| "bao".into(), PathBuf::from),
    })
}

/// The plugin's executable: the one that Cargo has built with the tests, or `$ACCEPTANCE_PLUGIN`, to measure
/// a release build.
pub(crate) fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        env::var_os("ACCEPTANCE_PLUGIN").map_or_else(
            || env!("CARGO_BIN_EXE_vault-plugin-secrets-openrouter").into(),
            PathBuf::from,
        )
    })
}

/// The plugin's entry for the catalog, as `vault plugin register` makes it.
pub(crate) fn catalog_entry(version: Option<&str>) -> Value {
    json!({"sha256": plugin_sha256(), "command": PLUGIN_NAME, "version": version})
}

/// The same for an executable that is installed elsewhere.
pub(super) fn catalog_entry_of(executable: &Path) -> Value {
    json!({"sha256": sha256(executable), "command": PLUGIN_NAME})
}

/// The plugin's executable as a build of another version, which must have the same length. Only the version
/// differs.
pub(super) fn of_version(version: &str) -> Vec<u8> {
    let mut binary = fs::read(plugin()).expect("the plugin's executable can be read");
    let (own, other) = (env!("CARGO_PKG_VERSION").as_bytes(), version.as_bytes());
    assert_eq!(own.len(), other.len(), "{version}");
    let places: Vec<usize> = (0..binary.len() - own.len())
        .filter(|at| binary[*at..].starts_with(own))
        .collect();
    assert!(!places.is_empty(), "the executable has its version in it");
    for at in places {
        binary[at..at + own.len()].copy_from_slice(other);
    }
    binary
}

fn plugin_sha256() -> &'static str {
    static SUM: OnceLock<String> = OnceLock::new();
    SUM.get_or_init(|| sha256(plugin()))
}

/// The checksum of an executable, in hexadecimal.
pub(crate) fn sha256(executable: &Path) -> String {
    let binary = fs::read(executable).expect("the executable can be read");
    let digest = Sha256::digest(binary);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn vault() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/vault-server");
    // Its stderr is inherited: it says in one sentence what is missing, or what takes so long.
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .expect("scripts/vault-server runs");
    assert!(
        output.status.success(),
        "there is no Vault server to test with, see above"
    );
    PathBuf::from(
        String::from_utf8(output.stdout)
            .expect("a path in UTF-8")
            .trim_end(),
    )
}
