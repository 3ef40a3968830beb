//! A server on Raft storage that is sealed, unsealed, stopped and restarted.

use std::time::Duration;

use futures::StreamExt;
use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::{Mount, RaftVault, SOON, eventually};

#[tokio::test]
async fn sealing_ends_the_plugin_and_unsealing_brings_everything_back() {
    let vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    let key = mount.key("app").await;
    vault.seal().await;
    let ended = async || vault.plugin_processes().is_empty().then_some(());
    eventually("the plugin process ends", SOON, ended).await;
    vault.unseal().await;
    assert_eq!(mount.key("app").await, key);
    mount.write("rotate-role/app", json!({})).await.ok();
    mount.knows_every_key().await;
}

#[tokio::test]
async fn after_a_restart_a_hundred_roles_are_read_without_a_call_to_openrouter_for_any() {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    let names: Vec<String> = (0..100).map(|number| format!("app-{number}")).collect();
    let keys = |names: Vec<String>| {
        let reads = names.into_iter().map(async |name| mount.key(&name).await);
        futures::stream::iter(reads)
            .buffered(16)
            .collect::<Vec<String>>()
    };
    let created = names.iter().map(|name| mount.role(name, json!({})));
    futures::stream::iter(created)
        .buffered(16)
        .collect::<Vec<_>>()
        .await;
    let before = keys(names.clone()).await;
    assert_eq!(vault.stop(), []);
    mount.openrouter.requests().reset();
    vault.start().await;
    assert_eq!(keys(names).await, before);
    mount.knows_every_key().await;
    // The engine compares its keys with OpenRouter's once, in two pages.
    let mut requests = mount.openrouter.requests().all();
    requests.retain(|request| request.path != "/keys" || request.method != "GET");
    assert_eq!(requests, []);
    assert!(mount.openrouter.requests().to("GET", "/keys").len() <= 2);
}

#[tokio::test]
async fn what_became_due_while_the_server_was_down_is_done_when_it_is_back() {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    mount
        .role(
            "scheduled",
            json!({"rotation_grace_period": 600, "ttl": 30}),
        )
        .await;
    mount
        .role("manual", json!({"rotation_grace_period": 4, "ttl": 3}))
        .await;
    let superseded = mount.key("manual").await;
    let overdue = mount.key("scheduled").await;
    // No role is due before the server is down, in case that takes longer than the times below.
    let faults = mount.openrouter.faults();
    faults.add(Fault::status(503).on("DELETE", "/keys/*").forever());
    mount.write("rotate-role/manual", json!({})).await.ok();
    faults.add(Fault::status(503).on("POST", "/keys").forever());
    mount.role("scheduled", json!({"rotation_period": 5})).await;
    vault.stop();
    mount.openrouter.recover();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(
        mount.openrouter.accepts(&superseded).await,
        "nobody has revoked it yet"
    );
    vault.start().await;
    let done = async || {
        let rotated = mount.key("scheduled").await != overdue;
        let revoked = !mount.openrouter.accepts(&superseded).await;
        (rotated && revoked).then_some(())
    };
    eventually("what is overdue is done", SOON, done).await;
    mount.knows_every_key().await;
}

/// The key expired while the server was down. A reader who comes before it is replaced waits, or gets a
/// status that Vault's clients retry, but never one that blames the request.
#[tokio::test]
async fn a_key_that_expired_meanwhile_is_replaced_before_its_first_reader_is_refused() {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    // A key lives for two periods plus the grace period.
    let fields = json!({"rotation_period": 5, "rotation_grace_period": 4, "ttl": 3});
    mount.role("app", fields).await;
    vault.stop();
    tokio::time::sleep(Duration::from_secs(15)).await;
    mount.openrouter.set_latency(Duration::from_millis(200));
    vault.start().await;
    let key = mount.key_soon("app").await;
    assert!(mount.openrouter.accepts(&key).await);
}

#[tokio::test]
async fn leases_survive_a_restart() {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    let reply = mount.read("creds/app").await.ok();
    vault.stop();
    vault.start().await;
    let lease = json!({"lease_id": reply.lease_id(), "sync": true});
    mount.client().write("sys/leases/revoke", lease).await.ok();
    assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
}
