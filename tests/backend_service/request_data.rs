//! The forms that a request's fields, and stored values, can come in.

use serde_json::json;

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
