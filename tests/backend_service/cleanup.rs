//! Removing a mount from the process. A server that seals waits for it without limit.

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::vault_host::{Mount, Reply, Vault, request};
use crate::{PATIENCE, connect, openrouter, until, with_role};

#[tokio::test]
async fn cleanup_closes_the_mounts_connection_and_later_calls_fail() {
    let openrouter = openrouter().await;
    let (vault, mount) = with_role(&openrouter).await;
    let other = vault.mount().await;
    assert_eq!(mount.services.connections(), 1);

    mount.caller.cleanup().await.unwrap();
    mount.services.closed().await;
    let read = request("read", "creds/app", "null");
    let failed = mount.caller.handle(read).await.unwrap_err();
    assert!(
        failed.message().contains("no backend instance"),
        "{failed:?}"
    );

    assert_eq!(other.services.connections(), 1);
    other.request("read", "config", Value::Null).await.nothing();
}

#[tokio::test]
async fn cleanup_may_be_repeated_and_the_mount_set_up_anew() {
    let openrouter = openrouter().await;
    let (vault, mount) = with_role(&openrouter).await;
    mount.caller.cleanup().await.unwrap();
    mount.caller.cleanup().await.unwrap();

    let again = vault.mount_on(mount.server.clone()).await;
    let shown = again.request("read", "roles/app", Value::Null).await.data();
    assert_eq!(shown["description"], "for the app");
}

#[tokio::test]
async fn cleanup_waits_for_no_rotation_that_openrouter_holds_up() {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    connect(&mount, &openrouter).await;
    // Not the first key, which is created with the role.
    let held = Fault::held().after_the_effect().on("POST", "/keys").nth(2);
    openrouter.faults().add(held);
    let role = json!({ "rotation_period": "5s", "rotation_grace_period": "10s", "ttl": "5s" });
    mount.request("create", "roles/app", role).await.done();
    until("a rotation is under way", || {
        openrouter.faults().held() == 1
    })
    .await;

    let cleanup = timeout(PATIENCE, mount.caller.cleanup()).await;
    cleanup.expect("it waits for OpenRouter").unwrap();
    mount.services.closed().await;
    let intents = mount.server.keys_below("wal/");
    assert_eq!(intents.len(), 1, "what was broken off can be found again");
}

#[tokio::test]
async fn a_server_that_seals_is_not_held_up_by_a_request_whose_key_is_found_again() {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    connect(&mount, &openrouter).await;
    let held = Fault::held().after_the_effect().on("POST", "/keys");
    openrouter.faults().add(held);
    let Mount {
        caller,
        server,
        services,
    } = mount;
    let role = json!({ "rotation_grace_period": "2s", "ttl": "1s" });
    let write = tokio::spawn({
        let (caller, role) = (caller.clone(), role.to_string());
        async move { caller.handle(request("create", "roles/app", &role)).await }
    });
    until("the key is made", || openrouter.account().keys().len() == 1).await;

    caller.cleanup().await.unwrap();
    services.withdraw().await;
    assert!(!write.is_finished(), "it was waited for");
    openrouter.faults().clear();
    // The key can no longer be stored, but the intent that leads to it is.
    let failed = Reply(write.await.unwrap().unwrap()).fault();
    assert!(failed.err_msg.contains("storage"), "{failed:?}");
    assert_eq!(server.keys_below("roles/"), [""; 0]);
    assert_eq!(server.keys_below("wal/").len(), 1);

    let again = vault.mount_on(server.clone()).await;
    until("the key is looked for", || {
        !openrouter.requests().to("GET", "/keys").is_empty()
    })
    .await;
    // As far as the next instance knows, the key may be in use: it is left alone at first, and stays tracked.
    assert_eq!(openrouter.account().keys().len(), 1);
    assert_eq!(server.keys_below("wal/").len(), 1);
    drop(again);
}
