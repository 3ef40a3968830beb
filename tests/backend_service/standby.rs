//! Nodes that may not write: they forward a write before anything has happened, and serve reads.

use serde_json::{Value, json};

use crate::support::vault_host::{Mount, Vault};
use crate::support::vault_mount::{Mood, MountServer};
use crate::{connect, openrouter, with_role};

/// Every operation that changes something.
fn writes(openrouter_url: &str) -> Vec<(&'static str, &'static str, Value)> {
    let connection = json!({ "management_key": "sk-or-v1-x", "api_url": openrouter_url });
    vec![
        ("update", "config", connection.clone()),
        ("create", "config/other", connection.clone()),
        ("patch", "config", connection),
        ("delete", "config", json!({})),
        ("create", "roles/other", json!({})),
        ("update", "roles/app", json!({ "limit": 5 })),
        ("patch", "roles/app", json!({ "limit": 5 })),
        ("delete", "roles/app", json!({})),
        ("update", "rotate-role/app", json!({})),
        ("update", "forget-role/app", json!({ "revoke_keys": false })),
        ("update", "forget-connection/default", json!({})),
    ]
}

#[tokio::test]
async fn a_standby_passes_every_write_on_before_anything_has_happened() {
    let openrouter = openrouter().await;
    let (vault, active) = with_role(&openrouter).await;
    let asked_before = openrouter.requests().all().len();

    for bits in [
        PERFORMANCE_STANDBY | 32,
        DR_SECONDARY,
        PERFORMANCE_SECONDARY,
    ] {
        let server = standing_by(&active.server, bits);
        let standby = vault.mount_on(server.clone()).await;
        let stored = server.stored();
        let calls = server.storage_calls();
        for (operation, path, data) in writes(&openrouter.base_url()) {
            let fault = standby.request(operation, path, data).await.fault();
            assert_eq!(fault.err_type, 0, "{operation} {path}: {fault:?}");
            assert_eq!(fault.err_msg, "cannot write to readonly storage");
        }
        assert_eq!(server.storage_calls(), calls, "storage was asked");
        assert_eq!(server.stored(), stored);
    }
    assert_eq!(openrouter.requests().all().len(), asked_before);
}

#[tokio::test]
async fn a_standby_still_says_what_is_wrong_with_a_write() {
    let vault = Vault::start().await;
    let server = standing_by(&MountServer::default(), PERFORMANCE_STANDBY);
    let standby = vault.mount_on(server).await;
    let write = standby.request("update", "roles/app", json!({ "limti": 5 }));
    assert!(write.await.refusal().contains("limti"));
}

#[tokio::test]
async fn a_standby_serves_reads_and_passes_on_those_that_make_a_lease() {
    let openrouter = openrouter().await;
    let (vault, active) = with_role(&openrouter).await;
    let server = standing_by(&active.server, PERFORMANCE_STANDBY);
    let standby = vault.mount_on(server).await;
    let read = async |mount: &Mount, path| mount.request("read", path, Value::Null).await;
    let key = read(&active, "static-creds/app").await.data();
    let same = read(&standby, "static-creds/app").await.data();
    assert_eq!(same["api_key"], key["api_key"]);
    let fault = read(&standby, "creds/app").await.fault();
    assert_eq!(fault.err_msg, "cannot write to readonly storage");
    standby
        .request("read", "roles/app", Value::Null)
        .await
        .data();
    let listed = standby.request("list", "roles/", Value::Null).await.data();
    assert_eq!(listed["keys"], json!(["app"]));
}

#[tokio::test]
async fn a_standby_rotates_nothing_of_its_own_accord() {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let active = vault.mount().await;
    connect(&active, &openrouter).await;
    let role = json!({ "rotation_period": "5s", "rotation_grace_period": "10s", "ttl": "5s" });
    active.request("create", "roles/app", role).await.done();
    active.caller.cleanup().await.unwrap();
    let asked_before = openrouter.requests().all().len();

    let server = standing_by(&active.server, PERFORMANCE_STANDBY);
    let standby = vault.mount_on(server).await;
    standby.request("rollback", "", Value::Null).await.nothing();
    standby.caller.invalidate("roles/app").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    standby.request("rollback", "", Value::Null).await.nothing();
    assert_eq!(openrouter.requests().all().len(), asked_before);
}

#[tokio::test]
async fn a_standby_that_becomes_active_takes_writes() {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let server = standing_by(&MountServer::default(), PERFORMANCE_STANDBY);
    let mount = vault.mount_on(server.clone()).await;
    server.set_replication_state(0);
    server.set_mood(Mood::Obliging);
    connect(&mount, &openrouter).await;
    mount.request("create", "roles/app", json!({})).await.done();
}

/// Another node with the same storage, to which it may not write.
fn standing_by(active: &MountServer, bits: i32) -> MountServer {
    let server = MountServer::default();
    for (key, value) in active.stored() {
        server.put_entry(&key, value);
    }
    server.set_replication_state(bits);
    server.set_mood(Mood::ReadOnly);
    server
}

const PERFORMANCE_SECONDARY: i32 = 64;
const DR_SECONDARY: i32 = 512;
const PERFORMANCE_STANDBY: i32 = 16384;
