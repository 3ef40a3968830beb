//! How errors are sent, so that the server returns the right status.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::support::vault_host::{Reply, Vault, request};
use crate::support::vault_mount::Mood;
use crate::{connect, openrouter, with_role};

#[tokio::test]
async fn a_users_mistake_is_a_response_with_the_text_and_no_error_beside_it() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let table = [
        (
            "update",
            "config",
            json!({ "api_url": "no url" }),
            "api_url",
        ),
        ("create", "roles/b", json!({ "limit": -1 }), "limit"),
        ("create", "roles/b", json!({ "limit": "much" }), "limit"),
        ("create", "roles/b", json!({ "connection": "none" }), "none"),
        ("patch", "roles/none", json!({ "limit": 1 }), "none"),
        ("read", "creds/none", Value::Null, "none"),
        ("update", "rotate-role/none", Value::Null, "none"),
        ("delete", "config", Value::Null, "app"),
    ];
    for (operation, path, data, named) in table {
        let refusal = mount.request(operation, path, data).await.refusal();
        assert!(refusal.contains(named), "{operation} {path}: {refusal}");
    }
}

#[tokio::test]
async fn a_message_without_a_request_is_refused() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let reply = Reply(mount.caller.handle(None).await.unwrap());
    assert!(reply.refusal().contains("no request"));
}

#[tokio::test]
async fn openrouters_failures_carry_the_status_that_a_client_may_act_on() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let table = [
        (Fault::status(503), 502),
        (Fault::ResetBeforeEffect, 502),
        (Fault::rate_limited(1), 503),
    ];
    for (fault, status) in table {
        openrouter.faults().clear();
        openrouter.faults().add(fault.on_anything().forever());
        let reply = mount.request("update", "rotate-role/app", json!({})).await;
        let fault = reply.fault();
        assert_eq!(
            (fault.err_type, fault.err_code),
            (CODED, status),
            "{fault:?}"
        );
        assert!(!fault.err_msg.is_empty());
    }
    let creds = mount.request("read", "creds/app", Value::Null).await.data();
    assert_eq!(creds["key_version"], 1, "the current key stays in service");
}

#[tokio::test]
async fn openrouters_refusal_is_the_users_mistake() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    openrouter
        .account()
        .revoke_management_key(openrouter.management_key())
        .unwrap();
    let reply = mount.request("update", "rotate-role/app", json!({})).await;
    let refusal = reply.refusal();
    assert!(refusal.contains("management key"), "{refusal}");
    assert!(!refusal.contains(openrouter.management_key()));
}

#[tokio::test]
async fn storage_that_may_not_be_written_is_told_with_the_phrase_that_makes_a_server_forward() {
    let openrouter = openrouter().await;
    for mood in [Mood::ReadOnly, Mood::ReadOnlyByStatus] {
        let (_vault, mount) = with_role(&openrouter).await;
        let keys = openrouter.account().keys().len();
        mount.server.set_mood(mood);
        let unverified = json!({ "description": "new", "verify_connection": false });
        for (operation, path, data) in [
            ("update", "config", unverified),
            ("delete", "config/other", json!({})),
            ("create", "roles/other", json!({})),
            ("patch", "roles/app", json!({ "description": "new" })),
            ("update", "rotate-role/app", json!({})),
            ("delete", "roles/app", json!({})),
        ] {
            let fault = mount.request(operation, path, data).await.fault();
            assert_eq!(fault.err_type, 0, "{operation} {path}: {fault:?}");
            assert!(
                fault.err_msg.contains("cannot write to readonly storage"),
                "{operation} {path}: {fault:?}"
            );
        }
        assert_eq!(openrouter.account().keys().len(), keys, "{mood:?}");
    }
}

#[tokio::test]
async fn storage_that_fails_is_the_servers_fault_and_says_why() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    mount.server.set_mood(Mood::Absent);
    let fault = mount.request("read", "config", Value::Null).await.fault();
    assert_eq!(fault.err_type, INTERNAL);
    assert!(
        fault.err_msg.contains("missing implementation"),
        "{fault:?}"
    );
    let check = mount.caller.existence_check("roles/app").await.unwrap();
    assert_eq!(check.err.unwrap().err_type, INTERNAL);
    assert!(!check.check_found && !check.exists);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_named_without_its_text() {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    connect(&mount, &openrouter).await;
    let broken = br#"{"version":1,"management_key":"sk-or-v1-planted"#.to_vec();
    mount.server.put_entry("config/default", broken);
    let fault = mount.request("read", "config", Value::Null).await.fault();
    assert_eq!(fault.err_type, INTERNAL);
    assert!(fault.err_msg.contains("config/default"), "{fault:?}");
    assert!(!fault.err_msg.contains("planted"), "{fault:?}");
}

#[tokio::test]
async fn every_reply_is_json_that_a_strict_decoder_takes() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    for (operation, path, data) in [
        ("read", "config", Value::Null),
        ("list", "config/", Value::Null),
        ("update", "roles/app", json!({ "limit": 5 })),
        ("patch", "roles/app", json!({ "key_name": "other" })),
        ("read", "roles/app", Value::Null),
        ("list", "roles/", Value::Null),
        ("read", "creds/app", Value::Null),
        ("read", "static-creds/app", Value::Null),
        ("update", "rotate-role/app", json!({})),
        ("help", "", Value::Null),
        ("read", "creds/none", Value::Null),
    ] {
        let request = request(operation, path, &data.to_string());
        let reply = mount.caller.handle(request).await.unwrap();
        let response = reply.response.expect("an answer");
        let fields: Value = serde_json::from_str(&response.data).unwrap();
        assert!(fields.is_object(), "{operation} {path}");
        let secret = response.secret.map(|secret| secret.internal_data);
        if let Some(internal_data) = secret {
            let internal_data: Value = serde_json::from_str(&internal_data).unwrap();
            assert!(internal_data.is_object(), "{operation} {path}");
        }
    }
}

const INTERNAL: u32 = 2;
const CODED: u32 = 3;
