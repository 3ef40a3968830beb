//! Reads that are served from the cache, on real servers: changes by anyone are seen in time, whether or not
//! the plugin is notified.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Cluster, Mount, RaftVault, SOON, eventually};

/// The version that both kinds of readers get.
async fn version(mount: &Mount) -> i64 {
    let [leased, unleased] = versions(mount).await;
    assert_eq!(unleased, leased);
    leased
}

async fn versions(mount: &Mount) -> [i64; 2] {
    let leased = mount.read("creds/app").await.ok().integer("key_version");
    let unleased = mount.read("static-creds/app").await.ok();
    [leased, unleased.integer("key_version")]
}

async fn with_role(vault: &RaftVault) -> Mount {
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    assert_eq!(version(&mount).await, 1);
    mount
}

/// The path of the role in the server's raw storage.
async fn raw_entry(mount: &Mount) -> String {
    let table = mount.client().read("sys/mounts").await.ok();
    let uuid = table.data()[mount.at("")]["uuid"].as_str().unwrap();
    format!("sys/raw/logical/{uuid}/roles/app")
}

/// A change that no plugin is notified of. This is the only test that waits a minute.
#[tokio::test]
async fn a_write_to_raw_storage_is_seen_after_a_minute() {
    let vault = RaftVault::new().await;
    let mount = with_role(&vault).await;
    let client = mount.client();
    let raw = raw_entry(&mount).await;
    let first = client.read(&raw).await.ok().text("value");
    mount.write("rotate-role/app", json!({})).await.ok();
    let read = Instant::now();
    assert_eq!(version(&mount).await, 2);
    client.write(&raw, json!({"value": first})).await.ok();
    let role = mount.read("roles/app").await.ok();
    assert_eq!(role.field("current_key")["version"], 1, "it is not cached");
    let [old, _] = versions(&mount).await;
    // Unless the machine slept through it, the old entry is still in use.
    assert!(
        old == 2 || read.elapsed() > Duration::from_secs(50),
        "{old}"
    );
    // The minute may end between the two reads.
    let seen = async || (versions(&mount).await == [1; 2]).then_some(());
    eventually("what is stored is read", SOON * 3, seen).await;
}

#[tokio::test]
async fn what_was_read_before_a_restored_snapshot_is_not_handed_out_after_it() {
    let vault = RaftVault::new().await;
    let mount = with_role(&vault).await;
    let snapshot = vault.save_snapshot().await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let forgotten = mount.key("app").await;
    assert_eq!(version(&mount).await, 2);
    vault.restore_snapshot(&snapshot).await;
    let read = async || {
        let reply = mount.read("static-creds/app").await;
        (reply.status() == 200).then_some(reply)
    };
    let reply = eventually("it is read again", SOON, read).await;
    assert_ne!(reply.text("api_key"), forgotten);
    assert_ne!(reply.integer("key_version"), 2);
}

/// Changes the entry without notification, which reveals who serves the cached value.
#[tokio::test]
async fn after_a_seal_and_after_a_reload_nothing_is_handed_out_that_was_read_before() {
    let vault = RaftVault::new().await;
    let mount = with_role(&vault).await;
    let (client, raw) = (vault.client(), raw_entry(&mount).await);
    let first = client.read(&raw).await.ok().text("value");
    let first_key = mount.key("app").await;
    let cached_and_changed = async || {
        // Rejected if the engine has just replaced a key that storage had forgotten.
        mount.write("rotate-role/app", json!({})).await;
        let cached = mount.key("app").await;
        assert_ne!(cached, first_key);
        client.write(&raw, json!({"value": first})).await.ok();
        cached
    };
    let before = cached_and_changed().await;
    let reload = json!({"mounts": [mount.at("")]});
    client
        .write("sys/plugins/reload/backend", reload)
        .await
        .ok();
    assert_ne!(mount.key("app").await, before);

    // The next process finds the key that storage has forgotten, and repeats its rotation. Until that is
    // stored, it may store the role as it was read before the change.
    let repeated = async || {
        let role = mount.read("roles/app").await.ok();
        let newest = role.field("current_key")["version"].as_i64()?;
        (newest > 2).then_some(())
    };
    eventually("the forgotten rotation is repeated", SOON, repeated).await;
    let compared = async || {
        let config = mount.read("config").await.ok();
        config.field("last_reconciliation").as_str().map(drop)
    };
    eventually("the comparison is over", SOON, compared).await;

    let before = cached_and_changed().await;
    vault.seal().await;
    assert_eq!(mount.read("static-creds/app").await.status(), 503);
    vault.unseal().await;
    assert_ne!(mount.key("app").await, before);
}

#[tokio::test]
async fn a_rotation_on_another_node_of_the_cluster_is_seen_by_the_next_read() {
    let mut cluster = Cluster::turn().await;
    let leader = cluster.leader().await;
    let mut mount = Mount::on(cluster.client(leader)).await;
    mount.role("app", json!({})).await;
    let [standby, _] = Cluster::others(leader);
    mount.reach_through(cluster.client(standby));
    let known = async || (mount.read("static-creds/app").await.status() == 200).then_some(());
    eventually("the standby knows the role", SOON, known).await;
    // Through the standby, which forwards the request or is notified of the leader's changes.
    for expected in 2..5 {
        // A standby that reads by itself has the entry in its cache now, for a minute.
        for _ in 0..2 {
            assert_eq!(versions(&mount).await, [expected - 1; 2]);
        }
        mount.reach_through(cluster.client(leader));
        mount.write("rotate-role/app", json!({})).await.ok();
        assert_eq!(version(&mount).await, expected);
        mount.reach_through(cluster.client(standby));
        // A lease comes from the leader. The rest comes from the standby, if it reads by itself.
        let seen = async || (versions(&mount).await == [expected; 2]).then_some(());
        eventually("the rotation is seen through the standby", NOTICED, seen).await;
    }
    // The leader has the entry in its cache when it loses its leadership.
    mount.reach_through(cluster.client(leader));
    assert_eq!(version(&mount).await, 4);
    let successor = loop {
        let office = cluster.step_down(leader).await;
        let next = cluster.next_after(&office).await;
        if next != leader {
            break next;
        }
    };
    mount.reach_through(cluster.client(successor));
    mount.write("rotate-role/app", json!({})).await.ok();
    assert_eq!(version(&mount).await, 5);
    mount.reach_through(cluster.client(leader));
    let seen = async || (versions(&mount).await == [5; 2]).then_some(());
    eventually("the rotation is seen through the one before", NOTICED, seen).await;
}

/// For changes that a node is notified of, with a margin for a very busy machine. Much less than the minute
/// after which a node would see the change without a notification.
const NOTICED: Duration = Duration::from_secs(15);
