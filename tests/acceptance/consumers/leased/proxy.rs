//! Vault Proxy with its cache on, as `samples/proxy/proxy.hcl` has it: the cache is for leases like
//! these.

use serde_json::json;

use super::{dynamic, each_key_was_renewed_to_its_end, ordered, replaced_with_five_seconds_left};
use crate::consumers::application::Tally;
use crate::consumers::proxy::proxy;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn a_caching_proxy_renews_one_key_for_all_and_serves_no_dead_one() {
    let mount = dynamic(replaced_with_five_seconds_left()).await;
    let (_proxy, client) = proxy(&mount).await;
    let path = mount.at("creds/app");
    let read = async || Some(client.read(&path).await.ok().text("api_key"));
    let used = Tally::until_keys_are_dead(&mount, 1, read).await;
    used.is_flawless();
    assert!(used.keys.len() >= 2, "{used:?}");
    each_key_was_renewed_to_its_end(&mount, &used.keys, [15, 27]);
}

#[tokio::test]
async fn a_lease_that_is_revoked_through_the_proxy_leaves_its_cache() {
    let mount = dynamic(json!({})).await;
    let (_proxy, client) = proxy(&mount).await;
    let operator = client.with_token(mount.client().token());
    let mut keys = Vec::new();
    for _ in 0..3 {
        // The Proxy answers a revocation before it has quite forgotten the lease.
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
async fn a_lease_that_is_revoked_past_the_proxy_stays_in_its_cache_until_it_would_be_over() {
    let mount = dynamic(json!({"ttl": 8})).await;
    let (_proxy, client) = proxy(&mount).await;
    let path = mount.at("creds/app");
    let reply = client.read(&path).await.ok();
    let lease = json!({"lease_id": reply.lease_id(), "sync": true});
    mount.client().write("sys/leases/revoke", lease).await.ok();
    // Not intended: docs/consumers.md warns of it, and has to change when this is over.
    let served = client.read(&path).await.ok().text("api_key");
    assert_eq!(served, reply.text("api_key"));
    assert!(!mount.openrouter.accepts(&served).await);
    eventually("there is another key", SOON * 2, async || {
        let reply = client.read(&path).await.ok();
        (reply.text("api_key") != served).then_some(())
    })
    .await;
}
