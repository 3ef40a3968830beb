//! Leases: how they are issued, and what happens to them.

use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::pb::backend as pb;

use crate::support::vault_host::{Mount, Reply, request};
use crate::{openrouter, with_role};

/// What the server sends about a lease that it has stored: the secret as it was issued.
async fn end(mount: &Mount, operation: &str, secret: pb::Secret) -> Reply {
    let request = pb::Request {
        secret: Some(secret),
        ..request(operation, "creds/app", "null")
    };
    Reply(mount.caller.handle(request).await.unwrap())
}

async fn issue(mount: &Mount) -> pb::Secret {
    let reply = mount.request("read", "creds/app", Value::Null).await;
    reply.response().secret.expect("a lease")
}

fn lease_of(internal_data: &Value) -> pb::Secret {
    pb::Secret {
        internal_data: internal_data.to_string(),
        ..pb::Secret::default()
    }
}

#[tokio::test]
async fn a_lease_is_issued_with_all_that_a_server_insists_on() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let secret = issue(&mount).await;
    let options = secret.lease_options.unwrap();
    assert!(options.issue_time.is_some(), "a missing time is an error");
    assert_eq!(options.ttl, 3_600 * 1_000_000_000, "nanoseconds");
    assert_eq!(options.max_ttl, options.ttl);
    assert!(!options.renewable);
    let internal_data: Value = serde_json::from_str(&secret.internal_data).unwrap();
    assert!(internal_data["secret_type"].is_string());
    assert!(!secret.internal_data.contains("sk-or-"));
}

#[tokio::test]
async fn a_lease_on_a_shared_key_cannot_be_renewed() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let secret = issue(&mount).await;
    let refusal = end(&mount, "renew", secret).await.refusal();
    assert!(refusal.contains("cannot be renewed"), "{refusal}");
}

#[tokio::test]
async fn revoking_a_lease_leaves_the_shared_key_to_its_other_readers() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    let secret = issue(&mount).await;
    let asked_before = openrouter.requests().all().len();
    // A server may repeat a call.
    end(&mount, "revoke", secret.clone()).await.nothing();
    end(&mount, "revoke", secret.clone()).await.nothing();
    assert_eq!(openrouter.account().keys().len(), 1);
    assert_eq!(openrouter.requests().all().len(), asked_before);

    let deleted = mount.request("delete", "roles/app", json!({})).await;
    deleted.done();
    end(&mount, "revoke", secret).await.nothing();
}

#[tokio::test]
async fn a_lease_that_this_engine_did_not_issue_is_an_error() {
    let openrouter = openrouter().await;
    let (_vault, mount) = with_role(&openrouter).await;
    for internal_data in [
        json!({ "secret_type": "database_creds" }),
        json!({ "secret_type": 5 }),
        json!({}),
        Value::Null,
    ] {
        for operation in ["renew", "revoke"] {
            let lease = lease_of(&internal_data);
            let fault = end(&mount, operation, lease).await.fault();
            assert_eq!(fault.err_type, 2, "{internal_data}: {fault:?}");
        }
    }
    let none = mount.request("revoke", "creds/app", Value::Null).await;
    assert!(none.fault().err_msg.contains("no lease"));
}
