//! Vault Proxy with its cache enabled, with the configuration of `samples/proxy/proxy.hcl`. The cache is for
//! leases like these.

use serde_json::json;

use super::{dynamic, each_key_was_renewed_to_its_end, look_up, ordered, replaced_with_time_left};
use crate::consumers::application::Tally;
use crate::consumers::proxy::proxy;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn a_caching_proxy_renews_one_key_for_all_and_serves_no_dead_one() {
    let mount = dynamic(replaced_with_time_left()).await;
    let (_proxy, client) = proxy(&mount).await;
    let path = mount.at("creds/app");
    let read = async || Some(client.read(&path).await.ok().text("api_key"));
    let used = Tally::until_keys_are_dead(&mount, 1, read).await;
    used.is_flawless();
    each_key_was_renewed_to_its_end(&mount, &used.keys);
}

#[tokio::test]
async fn a_lease_that_is_revoked_through_the_proxy_leaves_its_cache() {
    let mount = dynamic(json!({})).await;
    let (_proxy, client) = proxy(&mount).await;
    let operator = client.with_token(mount.client().token());
    let mut keys = Vec::new();
    for _ in 0..3 {
        // Proxy answers a revocation before it has completely forgotten the lease.
        let another = async || {
            let reply = client.read(&mount.at("creds/app")).await.ok();
            (!keys.contains(&reply.text("api_key"))).then_some(reply)
        };
        let reply = eventually("there is another key", SOON, another).await;
        assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
        keys.push(reply.text("api_key"));
        let lease = json!({"lease_id": reply.lease_id(), "sync": true});
        operator.write("sys/leases/revoke", lease).await.ok();
    }
    assert_eq!(ordered(&mount), 3);
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
}

#[tokio::test]
async fn a_lease_that_is_revoked_past_the_proxy_is_in_its_cache_no_longer_than_it_would_have_been()
{
    let mount = dynamic(json!({"ttl": 20})).await;
    let (_proxy, client) = proxy(&mount).await;
    let path = mount.at("creds/app");
    let first = client.read(&path).await.ok();
    // Proxy renews at once, and then notices if the lease has ended. After that it has no reason to make a
    // request for about 14 seconds.
    eventually("the lease is renewed", SOON, async || {
        let lease = look_up(&mount, &first.lease_id()).await?;
        lease.field("last_renewal").is_string().then_some(())
    })
    .await;
    let lease = json!({"lease_id": first.lease_id(), "sync": true});
    mount.client().write("sys/leases/revoke", lease).await.ok();
    assert!(!mount.openrouter.accepts(&first.text("api_key")).await);
    // Until Proxy notices, it serves the dead key, as docs/consumers.md warns. How soon it notices is not
    // defined.
    let next = eventually("there is another key", SOON, async || {
        let key = client.read(&path).await.ok().text("api_key");
        (key != first.text("api_key")).then_some(key)
    })
    .await;
    assert!(mount.openrouter.accepts(&next).await);
    assert_eq!(ordered(&mount), 2);
}
