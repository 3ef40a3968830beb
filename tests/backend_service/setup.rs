//! Setting up instances, in any order in which a server does it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::PATIENCE;
use crate::support::vault_host::{Vault, request};
use crate::support::vault_mount::{Mood, MountServer};

#[tokio::test]
async fn registration_needs_neither_configuration_nor_storage() {
    let mut vault = Vault::start().await;
    let server = MountServer::default();
    server.set_mood(Mood::Absent);
    let services = vault.offer(&server);
    vault.announce(&services).await;
    let caller = vault.caller(&["registration"]);

    assert_eq!(caller.setup(services.id).await.unwrap().err, "");
    let version = caller.version().await.unwrap();
    assert_eq!(version, concat!("v", env!("CARGO_PKG_VERSION")));
    let numbers: Vec<&str> = version.trim_start_matches('v').splitn(3, '.').collect();
    assert_eq!(numbers.len(), 3, "a semantic version: {version}");
    assert_eq!(caller.backend_type().await.unwrap(), 1, "a secrets engine");
    caller.special_paths().await.unwrap();
    assert_eq!((server.storage_calls(), server.system_calls()), (0, 0));

    // In this case a server does not clean up.
    vault.host.shutdown().await;
    assert_eq!(vault.plugin.exit().await.code(), Some(0));
}

#[tokio::test]
async fn special_paths_are_the_same_for_every_mount_at_any_time() {
    let vault = Vault::start().await;
    let (one, other) = (vault.mount().await, vault.mount().await);
    let paths = one.caller.special_paths().await.unwrap();
    assert_eq!(paths.seal_wrap_storage, ["config/", "roles/"]);
    assert_eq!(paths.local_storage, ["wal/"]);
    let root = [
        "forget-role/*",
        "forget-connection/*",
        "revoke-key/*",
        "disable-key/*",
        "teardown",
    ];
    assert_eq!(paths.root, root);
    assert_eq!(paths.unauthenticated, [""; 0]);
    assert_eq!(other.caller.special_paths().await.unwrap(), paths);

    let connection = json!({ "management_key": "sk-or-v1-x", "verify_connection": false });
    one.request("create", "config", connection).await.done();
    assert_eq!(one.caller.special_paths().await.unwrap(), paths);
}

#[tokio::test]
async fn a_setup_may_come_before_the_word_where_its_storage_is() {
    let vault = Vault::start().await;
    let services = vault.offer(&MountServer::default());
    let caller = vault.caller(&["early"]);
    let announce = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        vault.announce(&services).await;
    };
    let (setup, ()) = tokio::join!(caller.setup(services.id), announce);
    assert_eq!(setup.unwrap().err, "");
    assert!(caller.special_paths().await.is_ok());
}

#[tokio::test]
async fn a_setup_may_come_after_the_word_where_its_storage_is() {
    let vault = Vault::start().await;
    let services = vault.offer(&MountServer::default());
    vault.announce(&services).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let caller = vault.caller(&["late"]);
    assert_eq!(caller.setup(services.id).await.unwrap().err, "");
    assert!(caller.special_paths().await.is_ok());
}

#[tokio::test]
async fn a_setup_whose_storage_is_never_announced_fails_in_time_and_holds_nobody_up() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let caller = vault.caller(&["never"]);
    let start = Instant::now();
    let waiting = tokio::spawn({
        let caller = caller.clone();
        async move { caller.setup(4_711).await }
    });

    mount.request("list", "roles/", Value::Null).await.done();
    assert!(!waiting.is_finished(), "others had to wait for it");
    let err = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    let err = err.unwrap().err;
    assert!(err.contains("timeout waiting for connection info"), "{err}");
    // go-plugin gives up after five seconds.
    let waited = start.elapsed();
    assert!(waited.as_secs() >= 4, "{waited:?}");
    let later = caller.handle(request("list", "roles/", "null")).await;
    assert!(later.is_err(), "there is no instance");
}

#[tokio::test]
async fn a_setup_whose_storage_keeps_silent_fails_in_time_and_holds_nobody_up() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("silent");
    let _silent = tokio::net::UnixListener::bind(&path).unwrap();
    let id = vault.host.next_id();
    vault.host.announce_at("unix", id, &path).await;
    let caller = vault.caller(&["silent"]);
    let waiting = tokio::spawn(async move { caller.setup(id).await });

    mount.request("list", "roles/", Value::Null).await.done();
    assert!(!waiting.is_finished(), "others had to wait for it");
    let err = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    let err = err.unwrap().err;
    assert!(err.contains("cannot reach the host"), "{err}");
    assert!(err.contains("timed out"), "{err}");
}

#[tokio::test]
async fn a_setup_that_cannot_reach_its_storage_says_so() {
    let vault = Vault::start().await;
    let id = vault.host.next_id();
    let nowhere = "/nowhere/at/all".as_ref();
    vault.host.announce_at("unix", id, nowhere).await;
    let err = vault.caller(&["nowhere"]).setup(id).await.unwrap().err;
    assert!(err.contains("cannot reach the host"), "{err}");
    assert!(err.contains("No such file"), "{err}");
}

#[tokio::test]
async fn a_second_setup_under_the_same_id_replaces_the_instance_and_lets_go_of_its_storage() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let connection = json!({ "management_key": "sk-or-v1-x", "verify_connection": false });
    mount.request("create", "config", connection).await.done();
    assert_eq!(mount.services.connections(), 1);

    let server = MountServer::default();
    let services = vault.offer(&server);
    vault.announce(&services).await;
    assert_eq!(mount.caller.setup(services.id).await.unwrap().err, "");

    mount.services.closed().await;
    mount.request("read", "config", Value::Null).await.nothing();
    assert!(server.storage_calls() > 0, "the new storage is asked");
}
