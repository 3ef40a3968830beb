//! Callers that hang up: the server drops the call when its own client goes away, or after 90
//! seconds. What was begun is finished all the same.

use std::time::Duration;

use openrouter_simulator::{Fault, Simulator};
use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::vault_host::{Mount, Vault, request};
use crate::{connect, openrouter, until, with_role};

/// A mount on which the next key takes its time.
async fn slow_openrouter() -> (Simulator, Vault, Mount) {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    connect(&mount, &openrouter).await;
    openrouter.faults().add(slow().on("POST", "/keys"));
    (openrouter, vault, mount)
}

/// A reply that comes late, to a request that is carried out at once.
fn slow() -> Fault {
    Fault::Slow {
        milliseconds: 1_500,
        after_effect: true,
    }
}

/// Makes a request and drops it while OpenRouter has made one more key and not answered yet.
async fn hang_up_once_the_key_is_made(
    openrouter: &Simulator,
    mount: &Mount,
    operation: &'static str,
    path: &'static str,
) {
    let before = openrouter.account().keys().len();
    let caller = mount.caller.clone();
    let call = tokio::spawn(async move { caller.handle(request(operation, path, "null")).await });
    until("the key is made", || {
        openrouter.account().keys().len() > before
    })
    .await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled(), "it was not slow");
}

/// The role is there with the only key that there is, and nothing is left to be cleaned up.
async fn the_role_is_complete(openrouter: &Simulator, mount: &Mount) {
    until("the role is stored", || {
        mount.server.keys_below("roles/") == ["roles/app"]
    })
    .await;
    until("the intent is struck out", || {
        mount.server.keys_below("wal/").is_empty()
    })
    .await;
    let creds = mount.request("read", "creds/app", Value::Null).await.data();
    let keys = openrouter.account().keys();
    assert_eq!(keys.len(), 1);
    assert_eq!(creds["key_hash"], keys[0].hash);
}

#[tokio::test]
async fn a_write_whose_caller_hangs_up_is_finished() {
    let (openrouter, _vault, mount) = slow_openrouter().await;
    hang_up_once_the_key_is_made(&openrouter, &mount, "create", "roles/app").await;
    assert_eq!(mount.server.keys_below("wal/").len(), 1);

    the_role_is_complete(&openrouter, &mount).await;
}

#[tokio::test]
async fn a_write_whose_deadline_passes_is_finished() {
    let (openrouter, _vault, mount) = slow_openrouter().await;
    let deadline = Some(Duration::from_millis(500));
    let write = request("create", "roles/app", "null");
    let failed = mount.caller.handle_within(deadline, write).await;
    assert!(failed.is_err(), "it was not slow");

    the_role_is_complete(&openrouter, &mount).await;
}

#[tokio::test]
async fn a_rotation_whose_caller_hangs_up_is_finished() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let before = mount.server.entry("roles/app");
    openrouter.faults().add(slow().on("POST", "/keys"));
    hang_up_once_the_key_is_made(&openrouter, &mount, "update", "rotate-role/app").await;

    until("the role is stored", || {
        mount.server.entry("roles/app") != before
    })
    .await;
    until("the intent is struck out", || {
        mount.server.keys_below("wal/").is_empty()
    })
    .await;
    let creds = mount.request("read", "creds/app", Value::Null).await.data();
    assert_eq!(creds["key_version"], 2);
    assert_eq!(openrouter.account().keys().len(), 2);
}

#[tokio::test]
async fn many_slow_calls_leave_room_for_others() {
    let openrouter = openrouter().await;
    let (vault, mount) = with_role(&openrouter).await;
    let other = vault.mount().await;
    let slower = Fault::Slow {
        milliseconds: 60_000,
        after_effect: false,
    };
    openrouter
        .faults()
        .add(slower.on("POST", "/keys").forever());
    // More than a HTTP/2 server allows a client at once unless told otherwise.
    let mut calls = JoinSet::new();
    for n in 0..300 {
        let caller = mount.caller.clone();
        calls.spawn(async move {
            let write = request("create", &format!("roles/r{n}"), "null");
            caller.handle(write).await
        });
    }
    // Eight have their turn with OpenRouter, and the others wait for it.
    until("they are under way", || {
        mount.server.keys_below("wal/").len() == 8
    })
    .await;
    let read = other.request("read", "config", Value::Null);
    timeout(Duration::from_secs(5), read)
        .await
        .unwrap()
        .nothing();
}

#[tokio::test]
async fn calls_given_up_before_a_busy_plugin_has_seen_them_cost_nobody_else_anything() {
    let openrouter = openrouter().await;
    let (vault, mount) = with_role(&openrouter).await;
    vault.plugin.signal(Signal::STOP);
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let caller = mount.caller.clone();
        calls.spawn(async move {
            let read = caller.handle(request("read", "creds/app", "null"));
            let _ = timeout(Duration::from_millis(500), read).await;
        });
    }
    calls.join_all().await;
    vault.plugin.signal(Signal::CONT);
    for _ in 0..10 {
        mount.request("read", "creds/app", Value::Null).await.data();
    }
    assert!(!vault.host.broker_stream.is_finished());
}
