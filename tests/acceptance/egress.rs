//! OpenRouter behind an egress proxy that requires credentials and intercepts TLS, for a server whose
//! environment names other proxies.

use serde_json::json;

use crate::harness::{EgressProxy, Mount, PLUGIN_NAME, Vault};

/// A server with an environment in which every proxy is unreachable. None of them must be used.
async fn misled_server() -> Vault {
    let nowhere = "http://127.0.0.1:9";
    let environment = [
        ("HTTP_PROXY", nowhere),
        ("HTTPS_PROXY", nowhere),
        ("ALL_PROXY", nowhere),
        ("http_proxy", nowhere),
        ("https_proxy", nowhere),
        ("all_proxy", nowhere),
        ("NO_PROXY", "*"),
        ("no_proxy", "*"),
    ];
    Vault::dev_with(&environment).await
}

#[tokio::test]
async fn a_key_lives_its_life_through_the_proxy_whatever_the_environment_says() {
    let vault = misled_server().await;
    let mount = Mount::of(PLUGIN_NAME, vault.client()).await;
    let proxy = EgressProxy::opening(mount.openrouter.address()).await;
    // No api_url: it is OpenRouter's own, which the proxy redirects to the simulator.
    let connection = json!({
        "management_key": mount.openrouter.management_key(),
        "proxy_url": proxy.url(),
        "ca_certificate": proxy.authority(),
    });
    mount.write("config", connection).await.ok();
    mount.role("app", json!({"limit": 5})).await;
    let first = mount.key("app").await;
    assert!(mount.openrouter.accepts(&first).await);
    mount.write("rotate-role/app", json!({})).await.ok();
    let second = mount.key("app").await;
    assert_ne!(first, second);
    assert!(mount.openrouter.accepts(&second).await);
    mount.knows_every_key().await;
    mount.delete("roles/app").await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);

    let targets = proxy.targets();
    assert!(!targets.is_empty());
    assert!(
        targets.iter().all(|target| target == "openrouter.ai:443"),
        "{targets:?}"
    );
    let shown = mount.read("config").await.ok();
    assert_eq!(
        shown.text("proxy_url"),
        format!("http://{}", proxy.address())
    );
    let authority = shown.text("ca_certificate");
    assert_eq!(authority.trim(), proxy.authority().trim());
    for secret in ["pl@nted", "pl%40nted"] {
        assert!(!shown.json().to_string().contains(secret), "{shown}");
        assert!(!vault.log().contains(secret));
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_or_does_not_trust_us_is_told_apart_and_nothing_is_stored() {
    let vault = misled_server().await;
    let mount = Mount::of(PLUGIN_NAME, vault.client()).await;
    let proxy = EgressProxy::opening(mount.openrouter.address()).await;
    let connection = |url: String| {
        json!({
            "management_key": mount.openrouter.management_key(),
            "proxy_url": url,
        })
    };
    let untrusted = mount.write("config", connection(proxy.url())).await;
    let through = format!("through the proxy http://{}", proxy.address());
    untrusted.refused(502, &[&through, "certificate"]);

    let mut wrong = connection(proxy.url_with("vault:planted"));
    wrong["ca_certificate"] = proxy.authority().into();
    let unauthorized = mount.write("config", wrong).await;
    let unauthorized = unauthorized.refused(502, &[&through, "proxy authorization required"]);
    assert!(!unauthorized.errors().contains("planted"), "{unauthorized}");
    mount.read("config").await.absent();
    assert_eq!(mount.openrouter.requests().all(), []);
}
