//! The operations of each path, and the server's own calls.

use serde_json::{Value, json};

use crate::support::vault_host::Vault;
use crate::{connect, openrouter, with_role};

#[tokio::test]
async fn a_path_that_does_not_exist_is_unsupported() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    for path in [
        "",
        "/",
        "nothing",
        "roles/app/more",
        "roles/app/",
        "roles/..",
        "roles/a..b",
        "creds",
        "creds/",
        "/roles/app",
        "roles//app",
        "roles/-app",
    ] {
        let fault = mount.request("read", path, Value::Null).await.fault();
        assert_eq!(fault.err_type, UNSUPPORTED_PATH, "{path:?}: {fault:?}");
    }
}

#[tokio::test]
async fn an_operation_that_a_path_does_not_have_is_unsupported() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let table = [
        ("create", "static-creds/app"),
        ("update", "static-creds/app"),
        ("list", "creds/app"),
        ("read", "rotate-role/app"),
        ("delete", "static-creds/app"),
        ("read", "roles"),
        ("header", "creds/app"),
        ("alias-lookahead", "creds/app"),
        ("resolve-role", "roles/app"),
        ("rotate", "roles/app"),
        ("recover", "roles/app"),
        ("scan", "roles"),
        ("READ", "roles/app"),
        ("", "roles/app"),
    ];
    for (operation, path) in table {
        let fault = mount.request(operation, path, Value::Null).await.fault();
        assert_eq!(
            fault.err_type, UNSUPPORTED_OPERATION,
            "{operation:?} {path}: {fault:?}"
        );
    }
    assert_eq!(openrouter.account().keys().len(), 1, "nothing was done");
}

#[tokio::test]
async fn a_list_carries_its_names_and_nothing_when_there_are_none() {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    for path in ["roles/", "roles", "config/", "config"] {
        let listed = mount.request("list", path, Value::Null).await.data();
        assert_eq!(listed, json!({}), "{path}");
    }
    connect(&mount, &openrouter).await;
    let listed = mount.request("list", "config/", Value::Null).await.data();
    assert_eq!(listed, json!({ "keys": ["default"] }));
}

#[tokio::test]
async fn what_is_not_there_to_be_read_has_no_answer() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    for path in ["config", "config/other", "roles/app"] {
        mount.request("read", path, Value::Null).await.nothing();
    }
}

#[tokio::test]
async fn a_write_creates_where_there_is_nothing_and_updates_where_there_is() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let table = [
        ("roles/app", (true, true)),
        ("roles/other", (true, false)),
        ("config", (true, true)),
        ("config/default", (true, true)),
        ("config/other", (true, false)),
        // Every write is an update if there is no existence check.
        ("creds/app", (false, false)),
        ("rotate-role/app", (false, false)),
        ("roles/", (false, false)),
        ("nothing", (false, false)),
    ];
    for (path, expected) in table {
        let reply = mount.caller.existence_check(path).await.unwrap();
        assert_eq!(reply.err, None, "{path}");
        assert_eq!((reply.check_found, reply.exists), expected, "{path}");
    }
    assert_eq!(mount.server.keys_below("roles/"), ["roles/app"]);
}

#[tokio::test]
async fn the_servers_periodic_call_has_nothing_to_say() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    for _ in 0..3 {
        mount.request("rollback", "", Value::Null).await.nothing();
    }
    assert_eq!(openrouter.account().keys().len(), 1);
}

#[tokio::test]
async fn any_key_of_storage_may_be_invalidated() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    for key in [
        "config/default",
        "config/",
        "config/a/b",
        "roles/app",
        "roles/absent",
        "roles/",
        "roles/../config",
        "wal/4f1d",
        "wal/",
        "core/else",
        "",
    ] {
        mount.caller.invalidate(key).await.unwrap();
    }
    let creds = mount.request("read", "creds/app", Value::Null).await.data();
    assert_eq!(creds["key_version"], 1);
}

#[tokio::test]
async fn a_connection_that_another_node_has_changed_is_used_as_it_is_now() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let stored = mount.server.entry("config/default").unwrap();
    let mut stored: Value = serde_json::from_slice(&stored).unwrap();
    let successor = openrouter.account().add_management_key();
    stored["entry"]["management_key"] = successor.into();
    mount
        .server
        .put_entry("config/default", serde_json::to_vec(&stored).unwrap());
    openrouter
        .account()
        .revoke_management_key(openrouter.management_key())
        .unwrap();

    mount.caller.invalidate("config/default").await.unwrap();
    let rotated = mount.request("update", "rotate-role/app", json!({})).await;
    assert_eq!(rotated.data()["key_version"], 2);
}

const UNSUPPORTED_OPERATION: u32 = 5;
const UNSUPPORTED_PATH: u32 = 6;
