//! Plugin and server are killed with `kill -9`, reloaded and sealed: when idle, and at chosen points of a
//! key's life.

mod life;
mod lives;
mod midway;

use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::json;

pub(crate) use life::SHUTDOWN_TIME;
pub(crate) use lives::Lives;

use crate::harness::{Mount, PLUGIN_NAME, RaftVault, SOON, Vault, eventually};

#[tokio::test]
async fn the_next_request_after_a_kill_works() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    let key = mount.key("app").await;
    for _ in 0..3 {
        kill_plugin(&vault).await;
        assert_eq!(mount.key("app").await, key);
    }
    kill_plugin(&vault).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    mount.knows_every_key().await;
}

#[tokio::test]
async fn every_mount_of_a_killed_process_comes_back() {
    let vault = Vault::dev().await;
    let one = Mount::on(vault.client()).await;
    let two = Mount::on(vault.client()).await;
    one.role("app", json!({})).await;
    two.role("app", json!({})).await;
    let keys = (one.key("app").await, two.key("app").await);
    kill_plugin(&vault).await;
    assert_eq!((one.key("app").await, two.key("app").await), keys);
    assert_eq!(vault.plugin_processes().len(), 1);
}

#[tokio::test]
async fn a_rotation_that_became_due_meanwhile_is_done_by_the_next_process() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount
        .role(
            "app",
            json!({"rotation_period": 5, "rotation_grace_period": 60, "ttl": 30}),
        )
        .await;
    let first = mount.key("app").await;
    kill_plugin(&vault).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let rotated = async || (mount.key("app").await != first).then_some(());
    eventually("the overdue rotation is done", SOON, rotated).await;
    mount.knows_every_key().await;
}

#[tokio::test]
async fn a_server_that_is_killed_takes_its_plugin_with_it_whatever_that_is_doing() {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    let patient = json!({"request_timeout": life::REQUEST_TIME.as_secs()});
    mount.write("config", patient).await.ok();
    let faults = mount.openrouter.faults();
    faults.add(Fault::held().on("POST", "/keys"));
    let (client, role) = (vault.client(), mount.at("roles/app"));
    let order = tokio::spawn(async move { client.try_write(&role, json!({})).await });
    let under_way = async || (mount.openrouter.requests().in_flight() == 1).then_some(());
    eventually("a key is being made", SOON, under_way).await;

    let plugins = vault.plugin_processes();
    assert_eq!(plugins.len(), 1);
    vault.kill();
    let gone = async || plugins[0].has_ended().then_some(());
    eventually("the plugin is gone", SHUTDOWN_TIME, gone).await;
    assert!(order.await.unwrap().is_none(), "nobody has answered");
}

/// Kills the plugin and waits until the server has noticed: a request before that is still sent to the dead
/// process, and fails. Only another request shows that, so one is made to a mount that nothing else uses. The
/// server restarts each of the other mounts at its next request.
pub(crate) async fn kill_plugin(vault: &Vault) {
    let unused = Mount::of(PLUGIN_NAME, vault.client()).await;
    let plugins = vault.plugin_processes();
    assert_eq!(plugins.len(), 1);
    plugins[0].kill();
    let noted = async || {
        let ended = plugins[0].has_ended();
        (ended && unused.list("roles").await.status() == 404).then_some(())
    };
    eventually("the server takes note of the plugin's end", SOON, noted).await;
    unused.disable().await.ok();
}
