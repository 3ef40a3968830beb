//! A leader whose last write is committed by the other nodes without its knowledge. It hears "leadership
//! lost", reads its own outdated state, and continues to work until its server has finished the requests in
//! progress. One request stays in progress here, since OpenRouter does not answer it.

use openrouter_simulator::{Fault, LoggedRequest};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::crash::SHUTDOWN_TIME;
use crate::harness::{Client, Cluster, Mount, Relays, Reply, SOON, eventually, skipped};

// The relays have threads of their own: a leader whose heartbeats are late is deposed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_does_not_know_of_its_last_write_ends_no_key() {
    let relays = Relays::new().await;
    let mut cluster = Cluster::through(&relays).await;
    let leader = cluster.leader().await;
    let mut mount = patient(cluster.client(leader)).await;
    let other = patient(cluster.client(leader)).await;
    let lasting = json!({"rotation_grace_period": 3_600, "ttl": 600});
    mount.role("app", lasting.clone()).await;
    let brief = json!({"rotation_grace_period": GRACE, "ttl": GRACE / 2});
    mount.role("brief", brief).await;
    let first = mount.read("static-creds/app").await.ok();
    let restored = mount.key("brief").await;

    let rotation = unanswered(&mount, "rotate-role/app", ("GET", "/key")).await;
    let in_progress = unanswered(&other, "roles/app", ("POST", "/keys")).await;
    // The old leader will be due to revoke the first key, and its successor will postpone that by the `ttl`.
    mount.write("rotate-role/brief", json!({})).await.ok();
    mount.role("brief", lasting).await;
    relays.deafen(leader, cluster.node(leader).id());
    // Now the new key is proved, and written to its role.
    mount.openrouter.recover();
    let reply = rotation.await.expect("the caller does not panic");
    assert!(reply.status() >= 500, "{reply}");
    let successor = cluster.successor_of(leader).await;
    mount.reach_through(cluster.client(successor));
    let longer = json!({"key_version": 1, "duration": 3_600});
    mount.write("restore-key/brief", longer).await.ok();
    let key = mount.read("static-creds/app").await.ok();
    assert_eq!(keys_ended(&mount), []);
    if key.text("key_hash") == first.text("key_hash") {
        skipped("the write came after the end of its leadership, so no node has it");
        return;
    }
    assert_eq!(key.integer("key_version"), 2);
    assert!(reply.errors().contains("leadership lost"), "{reply}");

    let old = cluster.node(leader);
    let tended = async || {
        let refused = failed_to_tend(&old.log(), "brief");
        (refused || !keys_ended(&mount).is_empty()).then_some(())
    };
    eventually("a revocation is due on the old leader", SOON, tended).await;
    other.openrouter.recover();
    in_progress.await.expect("the caller does not panic");
    let ended = async || old.plugin_processes().is_empty().then_some(());
    eventually("its engine ends", SHUTDOWN_TIME, ended).await;
    assert_eq!(keys_ended(&mount), []);

    relays.hear();
    cluster.is_complete().await;
    for client in cluster.clients() {
        mount.reach_through(client);
        assert_eq!(mount.key("app").await, key.text("api_key"));
    }
    mount.write("rotate-role/app", json!({})).await.ok();
    for text in [first.text("api_key"), key.text("api_key"), restored] {
        assert!(mount.openrouter.accepts(&text).await);
    }
    mount.knows_every_key().await;
    assert_eq!(keys_ended(&mount), []);
}

/// A mount whose requests to OpenRouter may take as long as possible.
async fn patient(client: Client) -> Mount {
    let mount = Mount::on(client).await;
    let patience = json!({"request_timeout": 60});
    mount.write("config", patience).await.ok();
    mount
}

/// A write that is in progress, since OpenRouter does not answer this request.
async fn unanswered(mount: &Mount, path: &str, (method, to): (&str, &str)) -> JoinHandle<Reply> {
    mount.openrouter.faults().add(Fault::held().on(method, to));
    let (client, path) = (mount.client().clone(), mount.at(path));
    let write = tokio::spawn(async move { client.write(&path, json!({})).await });
    mount.openrouter.holding(1).await;
    write
}

/// Whether the engine was prevented from doing what was due for a role.
fn failed_to_tend(log: &str, role: &str) -> bool {
    let mut lines = log.lines();
    lines.any(|line| line.contains("a task failed") && line.contains(role))
}

/// The requests to delete or disable a key.
fn keys_ended(mount: &Mount) -> Vec<LoggedRequest> {
    let requests = mount.openrouter.requests();
    let to = |method| requests.to(method, "/keys/*");
    [to("DELETE"), to("PATCH")].concat()
}

/// In seconds. Longer than a leader takes to notice that nobody answers, and shorter than that and an election
/// together.
const GRACE: u64 = 8;
