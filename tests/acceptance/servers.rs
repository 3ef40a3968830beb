//! The servers of the tests, without any plugin: they start, answer, restart and end.

use serde_json::json;

use crate::harness::{RaftVault, Vault};

#[tokio::test]
async fn a_dev_server_answers_over_http_and_through_its_cli() {
    let vault = Vault::shared().await;
    let client = vault.client();
    client
        .write("secret/data/greeting", json!({"data": {"text": "hello"}}))
        .await
        .ok();
    let reply = client.read("secret/data/greeting").await.ok();
    assert_eq!(reply.field("data")["text"], "hello");
    let printed = vault
        .cli(&["kv", "get", "-field=text", "secret/greeting"])
        .await
        .ok();
    assert_eq!(printed, "hello");
    client
        .with_token("nobody")
        .read("secret/data/greeting")
        .await
        .refused(403, &["permission"]);
}

#[tokio::test]
async fn a_server_on_raft_storage_remembers_across_seal_and_restart() {
    let mut vault = RaftVault::new().await;
    vault
        .client()
        .write("sys/mounts/kv", json!({"type": "kv"}))
        .await
        .ok();
    vault
        .client()
        .write("kv/greeting", json!({"text": "hello"}))
        .await
        .ok();
    vault.seal().await;
    vault
        .client()
        .read("kv/greeting")
        .await
        .refused(503, &["sealed"]);
    vault.unseal().await;
    assert_eq!(
        vault.client().read("kv/greeting").await.ok().text("text"),
        "hello"
    );
    vault.stop();
    vault.start().await;
    assert_eq!(
        vault.client().read("kv/greeting").await.ok().text("text"),
        "hello"
    );
}
