//! Callers that give up: through the server's own HTTP API, while OpenRouter takes its time.

use futures::future::join_all;
use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::{Mount, SOON, eventually};

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

/// How many keys of a connection are in the making at a time: so many had their turn.
const IN_THE_MAKING: usize = 16;
