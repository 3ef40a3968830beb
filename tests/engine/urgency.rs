//! What must not wait behind hanging requests of the same connection: emergencies and revocations.

use std::sync::Arc;
use std::time::Duration;

use openrouter_simulator::{Fault, NewKey};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{CI, ROTATE, World};

/// A world with a rotating role and a leased key, in which eight orders hang.
async fn with_eight_hanging() -> (Arc<World>, JoinSet<()>) {
    let world = Arc::new(World::with_role().await);
    let role = json!({"credential_type": "dynamic"});
    world.write(CI, role).await.unwrap();
    world.lease().await.unwrap();
    let held = Fault::held().on("POST", "/keys").times(8);
    world.openrouter.faults().add(held);
    let mut readers = JoinSet::new();
    for _ in 0..8 {
        let node = world.node();
        readers.spawn(async move { drop(node.read("creds/ci").await) });
    }
    world.holding(8).await;
    (world, readers)
}

/// Happens on its own, however busy the machine is.
async fn comes<T>(what: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(20);
    let came = tokio::time::timeout(patience, what).await;
    came.expect("it does not wait behind what hangs")
}

#[tokio::test]
async fn an_emergency_rotation_waits_for_none_of_eight_hanging_requests() {
    let (world, _readers) = with_eight_hanging().await;
    let at_once = json!({"rotation_grace_period": 0});
    let node = world.node();
    comes(node.write(ROTATE, at_once)).await.unwrap();
    assert_eq!(world.openrouter.faults().held(), 8, "they still hang");
    assert_eq!(world.version().await, 2);
    let dead = world.openrouter.account().all_keys();
    let dead = dead.iter().filter(|key| key.deleted_at.is_some()).count();
    assert_eq!(dead, 1, "the old key");
}

#[tokio::test]
async fn a_revocation_waits_for_none_of_them_and_an_emergency_not_even_for_a_revocation() {
    let (world, _readers) = with_eight_hanging().await;
    let held = Fault::held().on("DELETE", "/keys/*");
    world.openrouter.faults().add(held);
    let revoking = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.revoke().await }
    });
    let is_held = world.holding(9);
    comes(is_held).await;
    let at_once = json!({"rotation_grace_period": 0});
    let node = world.node();
    comes(node.write(ROTATE, at_once)).await.unwrap();
    assert_eq!(world.openrouter.faults().held(), 9, "they still hang");
    world.openrouter.faults().clear();
    revoking.await.unwrap().unwrap();
}

#[tokio::test]
async fn even_then_at_most_ten_requests_are_in_flight() {
    let (world, _readers) = with_eight_hanging().await;
    let node = world.node();
    let more = async {
        tokio::join!(
            node.write(ROTATE, json!({"rotation_grace_period": 0})),
            world.revoke(),
            node.read("creds/ci"),
        )
    };
    tokio::pin!(more);
    tokio::select! {
        _ = &mut more => panic!("an ordinary request gets no place"),
        () = async {
            while world.server_leases().len() == 1 || world.version().await == 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } => {}
    }
    assert!(world.most_under_way() <= 10);
    world.openrouter.faults().clear();
    let (rotated, revoked, read) = more.await;
    rotated.unwrap();
    revoked.unwrap();
    read.unwrap();
}

#[tokio::test]
async fn a_key_that_nobody_has_is_revoked_by_order_before_what_hangs() {
    let (world, _readers) = with_eight_hanging().await;
    let leaked = NewKey::named("somebody's");
    let leaked = world.openrouter.account().create_key(leaked).hash;
    let node = world.node();
    let path = format!("revoke-key/default/{leaked}");
    comes(node.write(&path, json!({}))).await.unwrap();
    assert_eq!(world.openrouter.faults().held(), 8, "they still hang");
    assert!(world.seen(&leaked).deleted_at.is_some());
}

#[tokio::test]
async fn an_emergency_does_not_wait_until_an_earlier_order_is_looked_for() {
    let world = World::with_role().await;
    let leaked = world.key_hash("app").await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("POST", "/keys"));
    faults.add(Fault::status(503).on("GET", "/keys").forever());
    let node = world.node();
    node.write(ROTATE, Value::Null).await.unwrap_err();
    node.write(ROTATE, Value::Null).await.unwrap_err();
    assert_eq!(world.orders(), 2, "nobody knows what came of the first");
    let at_once = json!({"rotation_grace_period": 0});
    node.write(ROTATE, at_once).await.unwrap();
    assert_eq!(world.version().await, 2);
    assert!(world.seen(&leaked).deleted_at.is_some());
    faults.clear();
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0]);
}
