//! `creds/:name` and `static-creds/:name`: what a client gets, and under which lease.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::{Mount, SOON, eventually};

#[tokio::test]
async fn a_read_returns_the_documented_fields_and_no_other() {
    let mount = Mount::new().await;
    mount.role("app", json!({"limit": 5})).await;
    let expected = [
        "api_key",
        "key_hash",
        "key_name",
        "key_version",
        "last_vault_rotation",
        "rotation_period",
        "ttl",
    ];
    assert_eq!(mount.read("creds/app").await.ok().fields(), expected);
    assert_eq!(mount.read("static-creds/app").await.ok().fields(), expected);
}

#[tokio::test]
async fn the_key_works_and_is_the_one_that_its_hash_names() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let reply = mount.read("creds/app").await.ok();
    let key = reply.text("api_key");
    let hash: String = Sha256::digest(&key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(reply.text("key_hash"), hash);
    assert_eq!(mount.openrouter.hashes(), [hash]);
    assert_eq!(
        reply.text("key_name"),
        mount.openrouter.account().keys()[0].name
    );
    assert_eq!(reply.integer("key_version"), 1);
    assert_eq!(reply.integer("rotation_period"), 30 * 24 * 60 * 60);
    assert!(mount.openrouter.accepts(&key).await);
}

#[tokio::test]
async fn the_lease_lasts_the_roles_ttl_and_cannot_be_renewed() {
    let mount = Mount::new().await;
    mount.role("app", json!({"ttl": "20m"})).await;
    let reply = mount.read("creds/app").await.ok();
    let lease = reply.lease_id();
    assert!(lease.starts_with(&mount.at("creds/app/")), "{lease}");
    assert_eq!((reply.lease_duration(), reply.integer("ttl")), (1200, 1200));
    assert!(!reply.renewable());
    let renewal = mount
        .client()
        .write("sys/leases/renew", json!({"lease_id": lease}))
        .await;
    renewal.refused(400, &["renewable"]);
}

#[tokio::test]
async fn a_static_read_has_no_lease() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let reply = mount.read("static-creds/app").await.ok();
    assert_eq!(reply.json()["lease_id"], "");
    assert_eq!(
        reply.text("api_key"),
        mount.read("creds/app").await.ok().text("api_key")
    );
}

#[tokio::test]
async fn revoking_a_lease_leaves_the_shared_key_alive() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let reply = mount.read("creds/app").await.ok();
    let lease = json!({"lease_id": reply.lease_id(), "sync": true});
    mount.client().write("sys/leases/revoke", lease).await.ok();
    let all = mount.at("creds/app");
    mount
        .client()
        .write(
            &format!("sys/leases/revoke-prefix/{all}"),
            json!({"sync": true}),
        )
        .await
        .ok();
    assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
    assert_eq!(mount.key("app").await, reply.text("api_key"));
}

#[tokio::test]
async fn reading_makes_no_call_to_openrouter() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.openrouter.requests().reset();
    for _ in 0..10 {
        mount.read("creds/app").await.ok();
        mount.read("static-creds/app").await.ok();
    }
    assert_eq!(mount.openrouter.requests().all(), []);
}

#[tokio::test]
async fn the_current_key_is_served_while_openrouter_is_down() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.openrouter.fail();
    mount.read("creds/app").await.ok();
    mount.read("static-creds/app").await.ok();
}

#[tokio::test]
async fn nothing_but_ttl_changes_between_two_rotations() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let strip = |mut data: serde_json::Value| {
        data.as_object_mut().unwrap().remove("ttl");
        data
    };
    let first = strip(mount.read("creds/app").await.ok().data().clone());
    mount
        .role("app", json!({"limit": 3, "description": "changed"}))
        .await;
    assert_eq!(
        strip(mount.read("creds/app").await.ok().data().clone()),
        first
    );
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_said_to_be_missing() {
    let mount = Mount::new().await;
    mount.read("creds/nobody").await.refused(400, &["nobody"]);
    mount
        .read("static-creds/nobody")
        .await
        .refused(400, &["nobody"]);
}

#[tokio::test]
async fn a_lease_is_capped_by_the_mounts_maximum_with_a_warning() {
    let mount = Mount::new().await;
    mount.role("app", json!({"ttl": "1h"})).await;
    let tune = json!({"default_lease_ttl": "1m", "max_lease_ttl": "2m"});
    mount
        .client()
        .write(&format!("sys/mounts/{}/tune", mount.path()), tune)
        .await
        .ok();
    // The server's own message. The key still works for as long as its role says.
    let reply = mount.read("creds/app").await.ok().warns(&["max_ttl"]);
    assert_eq!((reply.lease_duration(), reply.integer("ttl")), (120, 3_600));
}

#[tokio::test]
async fn a_lease_is_capped_by_the_keys_own_expiry() {
    let mount = Mount::new().await;
    let fields = json!({
        "disable_automated_rotation": true,
        "rotation_grace_period": 100,
        "key_max_lifetime": 100,
        "ttl": 90,
    });
    mount.role("app", fields).await;
    let expiry = mount.openrouter.account().keys()[0].expires_at.unwrap();
    // The lease has ten seconds to spare at first. Then it must shrink with the key's remaining life.
    let shorter = async || {
        let asked = mount.openrouter.clock().now();
        let reply = mount.read("creds/app").await.ok();
        (reply.lease_duration() < 90).then_some((asked, reply))
    };
    let (asked, reply) = eventually("the lease is capped", SOON, shorter).await;
    let left = expiry.duration_since(asked).as_secs();
    assert_eq!(reply.integer("ttl"), reply.lease_duration());
    assert!(
        reply.lease_duration() <= left,
        "{} of {left}",
        reply.lease_duration()
    );
}
