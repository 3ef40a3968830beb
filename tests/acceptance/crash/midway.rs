//! Plugin and server end while OpenRouter holds a request, at every point of a key's life: nothing is lost,
//! and no one has to intervene.

use futures::future::join_all;
use serde_json::json;

use super::kill_plugin;
use super::life::{Cause, Life, Point, SHUTDOWN_TIME};
use super::lives::{Lives, lives};
use crate::harness::{PLUGIN_NAME, RaftVault, SOON, Vault, eventually};

#[tokio::test]
async fn a_plugin_killed_at_any_point_of_a_rotation_leaves_nothing_undone() {
    let vault = Vault::dev().await;
    let mut lives = Lives::at_every_point(&vault.client()).await;
    kill_plugin(&vault).await;
    lives.go_on();
    lives.callers_get_it_or_may_ask_again().await;
    lives.are_whole().await;
}

#[tokio::test]
async fn a_server_killed_at_any_point_of_a_rotation_leaves_nothing_undone() {
    let mut vault = RaftVault::new().await;
    let mut lives = Lives::at_every_point(&vault.client()).await;
    vault.kill();
    // The plugin notices without being told, and may receive OpenRouter's answer first.
    lives.go_on();
    assert_eq!(lives.replies().await.len(), 0);
    vault.start().await;
    lives.are_whole().await;
}

#[tokio::test]
async fn a_reload_at_any_point_of_a_rotation_leaves_nothing_undone() {
    let vault = Vault::dev().await;
    let mut lives = Lives::at_every_point(&vault.client()).await;
    let old = vault.plugin_processes().remove(0);
    let reload = async {
        let everywhere = json!({"plugin": PLUGIN_NAME});
        let path = "sys/plugins/reload/backend";
        vault.client().write(path, everywhere).await.ok();
    };
    let replies = async {
        // The first mount that is reloaded ends the process, and so the requests of all mounts.
        let ended = async || old.has_ended().then_some(());
        eventually("the process ends", SHUTDOWN_TIME, ended).await;
        lives.go_on();
        lives.callers_get_it_or_may_ask_again().await;
    };
    tokio::join!(reload, replies);
    lives.are_whole().await;
}

#[tokio::test]
async fn a_seal_at_any_point_of_a_rotation_leaves_nothing_undone() {
    let vault = RaftVault::new().await;
    let mut lives = Lives::at_every_point(&vault.client()).await;
    let client = vault.client();
    let seal = tokio::spawn(async move { client.write("sys/seal", json!({})).await.ok() });
    let begun = async || vault.log().contains("marked as sealed").then_some(());
    eventually("the seal begins", SOON, begun).await;
    // The server waits for the requests in progress.
    lives.callers_go_on();
    lives.callers_get_it_or_may_ask_again().await;
    // Now the operator waits only for the engine itself.
    let sealed = tokio::time::timeout(SHUTDOWN_TIME, seal).await;
    sealed.expect("it does not wait for OpenRouter").unwrap();
    lives.go_on();
    vault.unseal().await;
    lives.are_whole().await;
}

#[tokio::test]
async fn an_order_that_takes_effect_after_the_first_search_is_found_by_the_next() {
    let vault = Vault::dev().await;
    let points = [
        Point::before(Cause::Creation, "POST", "/keys"),
        Point::before(Cause::Manual, "POST", "/keys"),
    ];
    let lives = lives(&points, &vault.client()).await;
    kill_plugin(&vault).await;
    for life in &lives {
        life.mount.list("roles").await;
        let listed = async || {
            let listings = life.mount.openrouter.requests().to("GET", "/keys");
            listings
                .iter()
                .any(|listing| listing.status.is_some())
                .then_some(())
        };
        eventually("the new process looks for the key", SOON, listed).await;
    }
    lives.iter().for_each(Life::go_on);
    join_all(lives.iter().map(Life::is_whole)).await;
}
