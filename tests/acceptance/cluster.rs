//! A cluster of three: leaders die and step down in the middle of an operation, and standbys forward
//! requests.

use serde_json::json;

use crate::crash::{Lives, SHUTDOWN_TIME};
use crate::harness::{Cluster, Mount, Node, PLUGIN_NAME, SOON, eventually};

#[tokio::test]
async fn a_leader_killed_at_any_point_of_a_rotation_leaves_nothing_undone() {
    let mut cluster = Cluster::turn().await;
    let leader = cluster.leader().await;
    let mut lives = Lives::at_every_point(&cluster.client(leader)).await;
    cluster.kill(leader);
    lives.go_on();
    assert_eq!(lives.replies().await.len(), 0);
    let successor = cluster.successor_of(leader).await;
    lives.reach_through(&cluster.client(successor));
    lives.are_whole().await;
    cluster.start(leader).await;
}

#[tokio::test]
async fn a_leader_that_steps_down_at_any_point_of_a_rotation_leaves_nothing_undone() {
    let mut cluster = Cluster::turn().await;
    let leader = cluster.leader().await;
    let old = cluster.node(leader);
    let mut lives = Lives::at_every_point(&cluster.client(leader)).await;
    let count = || old.log().matches("stepping down from active").count();
    let before = count();
    let office = cluster.step_down(leader).await;
    let begun = async || (count() > before).then_some(());
    eventually("the leader steps down", SOON, begun).await;
    // The server waits for the requests in progress.
    lives.callers_go_on();
    lives.callers_get_it_or_may_ask_again().await;
    let ended = async || old.plugin_processes().is_empty().then_some(());
    eventually("its engine ends", SHUTDOWN_TIME, ended).await;
    lives.go_on();
    let next = cluster.next_after(&office).await;
    lives.reach_through(&cluster.client(next));
    lives.are_whole().await;
}

#[tokio::test]
async fn a_standby_passes_requests_on_and_does_nothing_itself() {
    let mut cluster = Cluster::turn().await;
    let leader = cluster.leader().await;
    let mut mount = Mount::on(cluster.client(leader)).await;
    let [standby, _] = Cluster::others(leader);
    mount.reach_through(cluster.client(standby));
    // A change that was written through the standby may take a moment to be visible there.
    let known = async || (mount.read("config").await.status() == 200).then_some(());
    eventually("the standby knows the mount", SOON, known).await;
    mount.connect().await.ok();
    let fields = json!({"rotation_grace_period": 600, "ttl": 30});
    mount.role("app", fields).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    // Only now, so that the schedule does not interfere with the manual rotation.
    mount.role("app", json!({"rotation_period": 5})).await;
    let rotated = async || {
        let reply = mount.read("creds/app").await;
        (reply.status() == 200 && reply.integer("key_version") >= 3).then_some(reply)
    };
    let reply = eventually("it is rotated by schedule", SOON, rotated).await;
    assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
    let by_hand = json!({"disable_automated_rotation": true, "key_max_lifetime": 0});
    mount.role("app", by_hand).await;
    mount.knows_every_key().await;
    // Only one engine acts, however many there are.
    let role = mount.read("roles/app").await.ok();
    let version = role.field("current_key")["version"].as_u64().unwrap();
    let orders = mount.openrouter.requests().to("POST", "/keys").len();
    assert_eq!(orders as u64, version);
    assert_eq!(mount.openrouter.requests().to("GET", "/keys").len(), 0);
}

#[tokio::test]
async fn a_leader_without_the_plugin_says_so_and_the_next_leader_goes_on() {
    let reason = format!("{PLUGIN_NAME}: no such file or directory");
    a_leader_that_cannot_run_it(Node::remove_plugin, &reason).await;
}

#[tokio::test]
async fn a_leader_with_another_version_than_is_registered_says_so_and_the_next_leader_goes_on() {
    let replace = |node: &Node| {
        node.replace_plugin("0.0.9");
    };
    a_leader_that_cannot_run_it(replace, "checksums did not match").await;
}

/// One node is broken and becomes the leader. Then it is repaired, and steps down.
async fn a_leader_that_cannot_run_it(spoil: impl Fn(&Node), reason: &str) {
    let mut cluster = Cluster::turn().await;
    let leader = cluster.leader().await;
    let [lacking, other] = Cluster::others(leader);
    // So that only the node that is to lead is without the plugin: a standby of OpenBao 2.6.2 without it
    // panics when something is written below one of its mounts. This happens before anything is written here,
    // so that the stopped node has fallen behind and is not elected.
    cluster.kill(other);
    let mut mount = Mount::on(cluster.client(leader)).await;
    mount.role("app", json!({})).await;
    let key = mount.key("app").await;
    spoil(cluster.node(lacking));
    cluster.hand_over(leader, lacking).await;
    mount.reach_through(cluster.client(lacking));
    // The server's own message to the caller, and the reason in its log.
    let reply = mount.read("creds/app").await;
    let refused = reply.status() >= 400 && !reply.errors().is_empty();
    assert!(refused, "{reply}");
    cluster.node(lacking).has_logged(reason).await;
    assert!(mount.openrouter.accepts(&key).await);
    cluster.node(lacking).add_plugin();
    cluster.start(other).await;
    cluster.is_complete().await;
    let office = cluster.step_down(lacking).await;
    let next = cluster.next_after(&office).await;
    mount.reach_through(cluster.client(next));
    assert_eq!(mount.key("app").await, key);
    mount.write("rotate-role/app", json!({})).await.ok();
    mount.knows_every_key().await;
}
