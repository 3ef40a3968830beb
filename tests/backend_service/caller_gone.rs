//! Callers that hang up: the server drops the call when its own client disconnects, or after 90 seconds. Work
//! in progress is still completed.

use std::time::{Duration, SystemTime};

use openrouter_simulator::{Fault, Simulator};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use vault_plugin_secrets_openrouter::logical::pb::backend as pb;

use crate::support::vault_host::{Mount, Reply, Vault, request};
use crate::{PATIENCE, connect, openrouter, until, with_role};

/// A mount on which the next key is created at once, and the reply is held.
async fn holding_openrouter() -> (Simulator, Vault, Mount) {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    connect(&mount, &openrouter).await;
    openrouter.faults().add(held().on("POST", "/keys"));
    (openrouter, vault, mount)
}

/// A held reply to a request that is carried out at once.
fn held() -> Fault {
    Fault::held().after_the_effect()
}

/// Makes a request and drops it when OpenRouter has created one more key but has not answered yet. Then
/// OpenRouter answers.
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
    assert!(call.await.unwrap_err().is_cancelled(), "it was not held");
    assert_eq!(mount.server.keys_below("wal/").len(), 1);
    openrouter.faults().clear();
}

/// The role exists with the only key, and nothing is left to be cleaned up.
async fn the_role_is_complete(openrouter: &Simulator, mount: &Mount) {
    until("the role is stored", || {
        mount.server.keys_below("roles/") == ["roles/app"]
    })
    .await;
    until("the intent is deleted", || {
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
    let (openrouter, _vault, mount) = holding_openrouter().await;
    hang_up_once_the_key_is_made(&openrouter, &mount, "create", "roles/app").await;
    the_role_is_complete(&openrouter, &mount).await;
}

#[tokio::test]
async fn a_write_whose_deadline_passes_is_finished() {
    let (openrouter, _vault, mount) = holding_openrouter().await;
    // Long enough for the order to be sent, on a busy machine.
    let deadline = Some(Duration::from_secs(8));
    let write = request("create", "roles/app", "null");
    let failed = mount.caller.handle_within(deadline, write).await;
    assert!(failed.is_err(), "it was not held");
    openrouter.faults().clear();

    the_role_is_complete(&openrouter, &mount).await;
}

#[tokio::test]
async fn a_rotation_whose_caller_hangs_up_is_finished() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let before = mount.server.entry("roles/app");
    openrouter.faults().add(held().on("POST", "/keys"));
    hang_up_once_the_key_is_made(&openrouter, &mount, "update", "rotate-role/app").await;

    until("the role is stored", || {
        mount.server.entry("roles/app") != before
    })
    .await;
    until("the intent is deleted", || {
        mount.server.keys_below("wal/").is_empty()
    })
    .await;
    let creds = mount.request("read", "creds/app", Value::Null).await.data();
    assert_eq!(creds["key_version"], 2);
    assert_eq!(openrouter.account().keys().len(), 2);
}

/// A mount with a dynamic role.
async fn with_dynamic_role(openrouter: &Simulator, max_leases: usize) -> (Vault, Mount) {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    connect(&mount, openrouter).await;
    let role = json!({ "credential_type": "dynamic", "max_leases": max_leases });
    mount.request("create", "roles/ci", role).await.done();
    (vault, mount)
}

/// No key is left, and no entry that leads to a key or counts as one.
async fn nothing_is_left(openrouter: &Simulator, mount: &Mount) {
    until("nothing is left", || {
        let idle = openrouter.requests().in_flight() == 0;
        let forgotten = mount.server.keys_below("wal/").is_empty();
        idle && forgotten && openrouter.account().keys().is_empty()
    })
    .await;
    let role = mount.request("read", "roles/ci", Value::Null).await.data();
    assert_eq!(role["living_leases"], 0);
}

#[tokio::test]
async fn a_key_whose_reader_hangs_up_while_it_is_made_is_deleted_at_once() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_dynamic_role(&openrouter, 1).await;
    openrouter.faults().add(held().on("POST", "/keys"));
    hang_up_once_the_key_is_made(&openrouter, &mount, "read", "creds/ci").await;
    nothing_is_left(&openrouter, &mount).await;
    assert_eq!(openrouter.account().all_keys().len(), 1);
    mount.request("read", "creds/ci", Value::Null).await.data();
}

/// The server has the lease, whether or not it hears of the renewal.
#[tokio::test]
async fn a_renewal_whose_caller_hangs_up_leaves_the_lease_its_key() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_dynamic_role(&openrouter, 1).await;
    let lease = mount.request("read", "creds/ci", Value::Null).await;
    let mut lease = lease.response().secret.unwrap();
    let options = lease.lease_options.as_mut().unwrap();
    options.issue_time = Some(SystemTime::from(openrouter.clock().now()).into());
    // Two hours. More than the role's ttl, so that there is something to store.
    options.increment = 2 * 3_600 * 1_000_000_000;
    let renewal = pb::Request {
        secret: Some(lease),
        ..request("renew", "creds/ci", "null")
    };
    let renew = || {
        let (caller, renewal) = (mount.caller.clone(), renewal.clone());
        async move { caller.handle(renewal).await }
    };
    mount.server.hold_writes(true);
    let call = tokio::spawn(renew());
    until("the renewal is being stored", || {
        mount.server.held_writes() == 1
    })
    .await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled(), "it was not held");
    mount.server.hold_writes(false);
    // Whatever else the plugin does about the lease takes its turn among these.
    for _ in 0..20 {
        let renewed = Reply(renew().await.unwrap()).response();
        assert!(renewed.secret.is_some());
    }
    assert_eq!(openrouter.account().keys().len(), 1);
}

#[tokio::test]
async fn readers_that_give_up_while_they_wait_cost_nothing() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_dynamic_role(&openrouter, 40).await;
    let slow = Fault::Slow {
        milliseconds: 2_000,
        after_effect: false,
    };
    openrouter.faults().add(slow.on("POST", "/keys").times(8));
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let caller = mount.caller.clone();
        calls.spawn(async move {
            let read = caller.handle(request("read", "creds/ci", "null"));
            timeout(Duration::from_millis(500), read).await.is_err()
        });
    }
    let gave_up = calls.join_all().await;
    assert!(gave_up.into_iter().all(|gave_up| gave_up), "one got a key");
    nothing_is_left(&openrouter, &mount).await;
    let orders = openrouter.requests().to("POST", "/keys").len();
    assert!(
        orders <= IN_THE_MAKING,
        "{orders} orders for readers who had given up"
    );
}

#[tokio::test]
async fn many_slow_calls_leave_room_for_others() {
    let openrouter = openrouter().await;
    let (vault, mount) = with_role(&openrouter).await;
    let other = vault.mount().await;
    let held = Fault::held().on("POST", "/keys").forever();
    openrouter.faults().add(held);
    // More concurrent calls than an HTTP/2 server allows by default.
    let mut calls = JoinSet::new();
    for n in 0..300 {
        let caller = mount.caller.clone();
        calls.spawn(async move {
            let write = request("create", &format!("roles/r{n}"), "null");
            caller.handle(write).await
        });
    }
    // Eight have their turn with OpenRouter, and the others wait for one.
    until("they are under way", || {
        mount.server.keys_below("wal/").len() == 8
    })
    .await;
    let read = other.request("read", "config", Value::Null);
    timeout(PATIENCE, read).await.unwrap().nothing();
    assert!(calls.try_join_next().is_none(), "it waited for one of them");
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

/// How many keys of a connection are created at a time: this many readers had their turn.
const IN_THE_MAKING: usize = 16;
