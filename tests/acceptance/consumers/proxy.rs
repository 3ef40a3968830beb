//! Vault Proxy with its cache enabled, with the configuration of `samples/proxy/proxy.hcl`.

use serde_json::json;

use super::application::{LONG_GRACE, Tally};
use crate::harness::{Client, Mount, Sidecar};

#[tokio::test]
async fn a_caching_proxy_never_serves_a_dead_key() {
    let mount = Mount::new().await;
    let fields = json!({"rotation_period": 6, "rotation_grace_period": LONG_GRACE, "ttl": 3});
    mount.role("app", fields).await;
    let (_proxy, client) = proxy(&mount).await;
    let path = mount.at("creds/app");
    let read = async || Some(client.read(&path).await.ok().text("api_key"));
    let used = Tally::until_keys_are_dead(&mount, 2, read).await;
    used.is_flawless();
}

#[tokio::test]
async fn a_caching_proxy_serves_the_new_key_right_after_a_rotation() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let (_proxy, client) = proxy(&mount).await;
    for (version, grace) in [(1, json!("24h")), (2, json!("24h")), (3, json!(0))] {
        for _ in 0..3 {
            let reply = client.read(&mount.at("creds/app")).await.ok();
            assert_eq!(reply.integer("key_version"), version);
            assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
        }
        let rotate = json!({"rotation_grace_period": grace});
        mount.write("rotate-role/app", rotate).await.ok();
    }
    let last = client.read(&mount.at("creds/app")).await.ok();
    assert!(mount.openrouter.accepts(&last.text("api_key")).await);
}

#[tokio::test]
async fn the_proxys_cache_is_at_work_in_these_tests() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let (_proxy, client) = proxy(&mount).await;
    // The token of a login is renewable, so the proxy returns the same one for the next login.
    let login = login_of_somebody(&mount).await;
    let log_in = async || {
        let reply = client.write(&login, json!({"password": "p"})).await.ok();
        reply.json()["auth"]["client_token"].clone()
    };
    assert_eq!(log_in().await, log_in().await);
    let lease = async || client.read(&mount.at("creds/app")).await.ok().lease_id();
    assert_ne!(lease().await, lease().await);
}

pub(super) async fn proxy(mount: &Mount) -> (Sidecar, Client) {
    Sidecar::setup(mount, "proxy/proxy.hcl").await.proxy().await
}

/// The path for a login with the password `p`.
async fn login_of_somebody(mount: &Mount) -> String {
    let (root, at) = (mount.client(), format!("userpass-of-{}", mount.path()));
    let method = json!({"type": "userpass"});
    root.write(&format!("sys/auth/{at}"), method).await.ok();
    root.write(
        &format!("auth/{at}/users/somebody"),
        json!({"password": "p"}),
    )
    .await
    .ok();
    format!("auth/{at}/login/somebody")
}
