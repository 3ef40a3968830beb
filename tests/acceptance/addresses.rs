//! Where stored secrets are sent: only to the address that they were written for or created under, never to
//! an address that is written without the stored management key.

use openrouter_simulator::{Caller, LoggedRequest};
use serde_json::{Value, json};

use crate::crash::kill_plugin;
use crate::harness::{EgressProxy, Mount, OpenRouter, PLUGIN_NAME, SOON, Vault, eventually};

/// Checks that another address was sent only the management key that was written with it, and keys that were
/// created there.
fn has_seen_only_its_own_keys(thief: &OpenRouter) {
    let is_own = |request: &LoggedRequest| {
        matches!(
            request.caller,
            Caller::Management { .. } | Caller::Key { .. }
        )
    };
    let seen = thief.requests().all();
    assert!(seen.iter().all(is_own), "{seen:#?}");
}

#[tokio::test]
async fn another_address_without_a_management_key_is_refused_before_anything_is_sent() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let thief = OpenRouter::start().await;
    let proxy = EgressProxy::opening(thief.address()).await;
    mount.openrouter.requests().reset();
    let addresses = [
        json!({"api_url": thief.base_url()}),
        json!({"proxy_url": format!("http://{}", thief.address())}),
        json!({"ca_certificate": proxy.authority()}),
        json!({"api_url": thief.base_url(), "proxy_url": proxy.url(), "ca_certificate": proxy.authority()}),
    ];
    for address in addresses {
        for (switch, value) in [
            ("description", json!("moved")),
            ("verify_connection", json!(false)),
            ("force", json!(true)),
        ] {
            let mut fields = address.clone();
            fields[switch] = value;
            let written = mount.write("config", fields.clone()).await;
            written.refused(400, &["management_key"]);
            let patched = mount.patch("config", fields).await;
            patched.refused(400, &["management_key"]);
        }
    }
    assert_eq!(thief.requests().all(), []);
    assert_eq!(mount.openrouter.requests().all(), []);
    assert_eq!(proxy.targets(), [""; 0]);
    let shown = mount.read("config").await.ok();
    assert_eq!(shown.text("api_url"), mount.openrouter.base_url());
    mount.write("rotate-role/app", json!({})).await.ok();
}

#[tokio::test]
async fn whoever_moves_a_connection_with_a_key_of_their_own_is_sent_no_stored_secret() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let role = json!({"rotation_grace_period": 5, "ttl": 4});
    mount.role("app", role).await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    let lease = mount.read("creds/ci").await.ok();
    mount.write("rotate-role/app", json!({})).await.ok();
    let key = mount.key("app").await;

    let thief = OpenRouter::start().await;
    let elsewhere = json!({
        "api_url": thief.base_url(),
        "management_key": thief.management_key(),
    });
    let refused = mount.write("config", elsewhere.clone()).await;
    refused.refused(400, &["does not see"]);
    let with = |switch: &str, value: Value| {
        let mut fields = elsewhere.clone();
        fields[switch] = value;
        fields
    };
    mount.write("config", with("force", true.into())).await.ok();
    // Everything that makes the engine check its keys: a superseded key that is due, a lease that is revoked,
    // a new start.
    let revocation = json!({"lease_id": lease.lease_id(), "sync": true});
    vault.client().write("sys/leases/revoke", revocation).await;
    let asked = async || {
        let requests = thief.requests();
        (!requests.to("DELETE", "/keys/*").is_empty()).then_some(())
    };
    eventually("the superseded key is to be revoked there", SOON, asked).await;
    kill_plugin(&vault).await;
    thief.requests().reset();
    mount.read("creds/app").await;
    let compared = async || (!thief.requests().to("GET", "/keys").is_empty()).then_some(());
    eventually("the new process compares there", SOON, compared).await;
    mount.write("rotate-role/app", json!({})).await;
    has_seen_only_its_own_keys(&thief);
    let unverified = with("verify_connection", false.into());
    mount.write("config", unverified).await.ok();
    mount.read("creds/app").await;
    mount.delete("roles/app").await;
    has_seen_only_its_own_keys(&thief);
    assert!(mount.openrouter.accepts(&key).await);
}

#[tokio::test]
async fn whoever_brings_the_stored_management_key_along_moves_everything() {
    let vault = Vault::dev().await;
    let mount = Mount::of(PLUGIN_NAME, vault.client()).await;
    let proxy = EgressProxy::opening(mount.openrouter.address()).await;
    let stored = mount.openrouter.management_key();
    mount.connect().await.ok();
    mount.role("app", json!({})).await;
    let key = mount.key("app").await;
    let address = json!({
        "api_url": "https://openrouter.ai/api/v1",
        "proxy_url": proxy.url(),
        "ca_certificate": proxy.authority(),
        "management_key": stored,
    });
    mount.write("config", address).await.ok().without_warnings();
    let reached = proxy.targets().len();
    kill_plugin(&vault).await;
    assert_eq!(mount.key("app").await, key);
    mount.write("rotate-role/app", json!({})).await.ok();
    assert!(mount.openrouter.accepts(&mount.key("app").await).await);
    mount.knows_every_key().await;
    mount.delete("roles/app").await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
    assert!(
        proxy.targets().len() > reached,
        "it went to the new address"
    );
}
