//! Callers that give up: through the server's own HTTP API, while OpenRouter is slow.

use std::time::{Duration, Instant};

use futures::future::join_all;
use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::harness::{Client, Mount, Reply, SOON, eventually};

#[tokio::test]
async fn readers_that_give_up_cost_no_keys_and_no_room() {
    let mount = Mount::new().await;
    let role = json!({"credential_type": "dynamic", "max_leases": READERS});
    mount.role("ci", role).await;
    let slow = Fault::Slow {
        milliseconds: 2_000,
        after_effect: false,
    };
    let faults = mount.openrouter.faults();
    faults.add(slow.on("POST", "/keys").forever());
    let path = mount.at("creds/ci");
    let reads = join_all((0..READERS).map(|_| mount.client().try_read(&path)));
    let ordered = async || (mount.openrouter.requests().in_flight() > 0).then_some(());
    // They hang up at the first order, whenever that comes on a busy machine.
    tokio::select! {
        _ = reads => panic!("somebody got an answer"),
        () = eventually("a key is ordered", SOON, ordered) => {}
    }

    let over = async || {
        let role = mount.read("roles/ci").await.ok();
        let idle = mount.openrouter.requests().in_flight() == 0;
        let empty = mount.openrouter.hashes().is_empty();
        (idle && empty && role.integer("living_leases") == 0).then_some(())
    };
    eventually("no key and no lease is left", SOON, over).await;
    let orders = mount.openrouter.requests().to("POST", "/keys").len();
    assert!(
        (1..=IN_THE_MAKING).contains(&orders),
        "{orders} orders for readers who had given up"
    );

    mount.openrouter.recover();
    for reply in join_all((0..READERS).map(|_| mount.read("creds/ci"))).await {
        reply.ok();
    }
    assert_eq!(mount.openrouter.hashes().len(), READERS);
    let full = mount.read("creds/ci").await;
    full.refused(429, &["max_leases"]);
}

const READERS: usize = 40;

/// How many keys of a connection are created at a time: this many had their turn.
const IN_THE_MAKING: usize = 16;

/// Every client waits for five seconds, and retries again and again.
#[tokio::test]
async fn after_a_stall_of_two_minutes_every_key_is_known_and_every_place_free() {
    let mount = Mount::new().await;
    let dynamic = json!({"credential_type": "dynamic", "max_leases": READERS});
    mount.role("ci", dynamic).await;
    for role in ["app", "urgent", "gone"] {
        let times = json!({"rotation_grace_period": 60, "ttl": 30});
        mount.role(role, times).await;
    }
    let lease = mount.read("creds/ci").await.ok().lease_id();
    let revocation = json!({"lease_id": lease, "sync": true});
    let urgent = mount.key("urgent").await;
    let faults = mount.openrouter.faults();
    faults.add(Fault::held().on_anything().forever());

    let at_once = json!({"rotation_grace_period": 0});
    let readers = join_all((0..READERS).map(|_| insisting(&mount, Act::Read("creds/ci"))));
    let writers = [
        Act::Write("rotate-role/app", json!({})),
        Act::Write("rotate-role/urgent", at_once.clone()),
        Act::Write("roles/app", json!({"limit": 3})),
        Act::Delete("roles/gone"),
        Act::Revoke(revocation.clone()),
    ];
    let writers = join_all(writers.map(|act| insisting(&mount, act)));
    let served = async {
        let begun = Instant::now();
        while begun.elapsed() < STALL {
            mount.read("static-creds/app").await.ok();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(readers, writers, served);
    faults.clear();

    // Vault aborts a revocation whose caller has gone.
    mount
        .client()
        .write("sys/leases/revoke", revocation)
        .await
        .ok();
    mount.write("rotate-role/urgent", at_once).await.ok();
    assert!(!mount.openrouter.accepts(&urgent).await);
    // Whatever happened to its deletion: there is no such role, or it can be deleted.
    mount.delete("roles/gone").await.ok();
    mount.knows_every_key().await;
    let app = mount.key("app").await;
    assert!(mount.openrouter.accepts(&app).await);
    let is_free = async || {
        let role = mount.read("roles/ci").await.ok();
        (role.integer("living_leases") == 0).then_some(())
    };
    eventually("no lease is left", SOON, is_free).await;
    for reply in join_all((0..READERS).map(|_| mount.read("creds/ci"))).await {
        reply.ok();
    }
}

/// What a persistent client requests.
enum Act {
    Read(&'static str),
    Write(&'static str, Value),
    Delete(&'static str),
    Revoke(Value),
}

impl Act {
    async fn tried(&self, mount: &Mount, client: &Client) -> Option<Reply> {
        match self {
            Self::Read(path) => client.try_read(&mount.at(path)).await,
            Self::Write(path, body) => client.try_write(&mount.at(path), body.clone()).await,
            Self::Delete(path) => client.try_delete(&mount.at(path)).await,
            Self::Revoke(body) => client.try_write("sys/leases/revoke", body.clone()).await,
        }
    }
}

async fn insisting(mount: &Mount, act: Act) {
    let client = mount.client().giving_up_after(Duration::from_secs(5));
    let begun = Instant::now();
    while begun.elapsed() < STALL {
        // Some are answered: the rotation is already done, or there is no room.
        let _ = act.tried(mount, &client).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

const STALL: Duration = Duration::from_secs(120);
