//! The forms that a request's fields, and stored values, can come in.

use serde_json::{Value, json};

use crate::support::vault_host::{Reply, Vault, request};
use crate::{openrouter, with_role};

#[tokio::test]
async fn no_fields_may_be_null_nothing_or_an_empty_object() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    for data in ["null", "", "{}"] {
        let read = request("read", "creds/app", data);
        let reply = Reply(mount.caller.handle(read).await.unwrap());
        assert_eq!(reply.data()["key_version"], 1, "{data:?}");
    }
}

#[tokio::test]
async fn fields_that_are_no_object_are_the_users_mistake() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    for data in ["[1]", "5", "\"text\"", "{", "{\"limit\":}"] {
        let write = request("update", "roles/app", data);
        let refusal = Reply(mount.caller.handle(write).await.unwrap()).refusal();
        assert!(refusal.contains("not a JSON object"), "{data}: {refusal}");
    }
}

#[tokio::test]
async fn an_unknown_field_is_refused_where_something_is_written_and_passed_over_on_reads() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let misspelt = || json!({ "limti": 5 });
    for (operation, path) in [
        ("update", "roles/app"),
        ("patch", "roles/app"),
        ("delete", "roles/app"),
        ("update", "config"),
        ("update", "rotate-role/app"),
    ] {
        let refusal = mount.request(operation, path, misspelt()).await.refusal();
        assert!(refusal.contains("limti"), "{operation} {path}: {refusal}");
    }
    for (operation, path) in [
        ("read", "roles/app"),
        ("read", "creds/app"),
        ("list", "roles/"),
    ] {
        mount.request(operation, path, misspelt()).await.data();
    }
    assert_eq!(openrouter.account().keys().len(), 1, "nothing was done");
}

#[tokio::test]
async fn a_field_of_five_mebibytes_is_refused_by_its_name() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let long = json!({ "description": "x".repeat(5 * MEBIBYTE) });
    for path in ["roles/app", "config"] {
        let refusal = mount.request("update", path, long.clone()).await.refusal();
        assert!(refusal.contains("description"), "{refusal}");
        assert!(refusal.len() < 200, "it repeats what was sent");
    }
}

#[tokio::test]
async fn a_stored_value_of_eight_mebibytes_passes_in_both_directions() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let connection = json!({ "management_key": "sk-or-v1-x", "verify_connection": false });
    mount.request("create", "config", connection).await.done();
    let stored = mount.server.entry("config/default").unwrap();
    let mut stored: Value = serde_json::from_slice(&stored).unwrap();
    stored["entry"]["description"] = "x".repeat(8 * MEBIBYTE).into();
    let stored = serde_json::to_vec(&stored).unwrap();
    mount.server.put_entry("config/default", stored);

    let shown = mount.request("read", "config", Value::Null).await.data();
    let description = shown["description"].as_str().unwrap();
    assert_eq!(description.len(), 8 * MEBIBYTE);

    let change = json!({ "request_timeout": "10s", "verify_connection": false });
    mount.request("patch", "config", change).await.done();
    let stored = mount.server.entry("config/default").unwrap();
    assert!(stored.len() > 8 * MEBIBYTE);
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["entry"]["request_timeout"], 10);
}

const MEBIBYTE: usize = 1_024 * 1_024;
