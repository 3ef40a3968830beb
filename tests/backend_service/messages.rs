//! Messages of every size: which are accepted, and which are rejected without affecting anything else.

use serde_json::{Value, json};
use tonic::Code;

use crate::support::vault_host::Vault;

#[tokio::test]
async fn a_field_of_sixty_four_mebibytes_is_refused_by_its_name() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let long = json!({ "description": "x".repeat(64 * MEBIBYTE) });
    for path in ["roles/app", "config"] {
        let refusal = mount.request("update", path, long.clone()).await.refusal();
        assert!(refusal.contains("description"), "{refusal}");
        assert!(refusal.len() < 200, "it repeats what was sent");
    }
}

#[tokio::test]
async fn a_stored_value_of_sixty_four_mebibytes_passes_in_both_directions() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let connection = json!({ "management_key": "sk-or-v1-x", "verify_connection": false });
    mount.request("create", "config", connection).await.done();
    let stored = mount.server.entry("config/default").unwrap();
    let mut stored: Value = serde_json::from_slice(&stored).unwrap();
    stored["entry"]["description"] = "x".repeat(64 * MEBIBYTE).into();
    let stored = serde_json::to_vec(&stored).unwrap();
    mount.server.put_entry("config/default", stored);

    let shown = mount.request("read", "config", Value::Null).await.data();
    let description = shown["description"].as_str().unwrap();
    assert_eq!(description.len(), 64 * MEBIBYTE);

    let change = json!({ "request_timeout": "10s", "verify_connection": false });
    mount.request("patch", "config", change).await.done();
    let stored = mount.server.entry("config/default").unwrap();
    assert!(stored.len() > 64 * MEBIBYTE);
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["entry"]["request_timeout"], 10);
}

#[tokio::test]
async fn a_message_beyond_every_limit_is_refused_by_its_announcement_and_costs_nobody_else_anything()
 {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let before = vault.plugin.memory().reserved;
    let refused = mount.caller.announce_a_message_of(TWO_GIBIBYTES).await;
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    let reserved = vault.plugin.memory().reserved - before;
    assert!(reserved < TWO_GIBIBYTES.into(), "{reserved} bytes reserved");

    mount.request("list", "roles/", Value::Null).await.done();
    assert!(!vault.host.broker_stream.is_finished());
}

#[tokio::test]
async fn a_stored_value_beyond_every_limit_is_an_error_and_costs_nobody_else_anything() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let monster = vec![b'x'; 257 * MEBIBYTE];
    mount.server.put_entry("config/default", monster);
    let fault = mount.request("read", "config", Value::Null).await.fault();
    assert!(fault.err_msg.contains("too large"), "{fault:?}");

    mount.request("list", "roles/", Value::Null).await.done();
}

const MEBIBYTE: usize = 1_024 * 1_024;

/// About as many bytes as go-plugin's own hosts send and accept at most.
const TWO_GIBIBYTES: u32 = 0x7f7f_7f7f;
