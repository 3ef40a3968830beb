//! A current key that is disabled while an earlier process's order is unconfirmed: by the engine itself, in a
//! time that a restored snapshot has lost, or by somebody.

use openrouter_simulator::Fault;
use serde_json::json;
use vault_plugin_secrets_openrouter::logical::Entry;

use super::midway::snapshot_during;
use crate::harness::{ROLE, ROTATE, World};

/// A role that is compared every minute, a snapshot from the middle of its rotation with this grace period, and
/// its keys before and after that rotation.
async fn rotated(grace: u64) -> (World, Vec<Entry>, [String; 2]) {
    let world = World::with_role().await;
    let often = json!({"reconcile_interval": 60});
    world.write("config", often).await.unwrap();
    let body = json!({"revocation_hold": 7_000, "rotation_period": "30d"});
    world.write(ROLE, body).await.unwrap();
    let old = world.key_hash("app").await;
    let node = world.node();
    let rotate = node.write(ROTATE, json!({"rotation_grace_period": grace}));
    let (answer, snapshot) = snapshot_during(&world, rotate).await;
    answer.unwrap();
    let new = world.key_hash("app").await;
    (world, snapshot, [old, new])
}

/// The comparison finds that the old key is disabled after the search has found the key in the making.
#[tokio::test]
async fn a_held_key_is_replaced_at_once_if_its_successor_is_already_found() {
    let (world, snapshot, [old, new]) = rotated(0).await;
    assert!(world.seen(&old).disabled);
    world.restore(snapshot).await;
    // The first list is that of the search.
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("GET", "/keys").nth(2));
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.current().await, old.as_str(), "not compared yet");
    world.time.set(world.after(60));
    world.quiet().await;
    let hash = world.key_hash("app").await;
    assert!(![&old, &new].contains(&&hash), "{hash}");
    assert!(world.lives(&new), "applications hold it");
}

/// What is disabled later cannot have been disabled before the snapshot was restored.
#[tokio::test]
async fn a_key_that_is_disabled_in_the_first_two_minutes_is_replaced_and_later_it_waits_for_a_person()
 {
    for (seconds, is_replaced) in [(60, true), (120, true), (121, false)] {
        let (world, snapshot, [old, new]) = rotated(600).await;
        world.restore(snapshot).await;
        world.restart().await;
        world.quiet().await;
        let begun = world.after(0);
        let orders = world.orders();
        // The next comparison has begun, and gets its list at that time.
        let faults = world.openrouter.faults();
        faults.add(Fault::held().on("GET", "/keys"));
        world.time.set(world.after(60));
        world.holding(1).await;
        let passed = world.time.now().duration_since(begun).as_secs();
        world.time.set(world.after(seconds - passed));
        let account = world.openrouter.account();
        account.set_disabled(&old, true).unwrap();
        faults.clear();
        world.quiet().await;
        let is_old = world.current().await == old.as_str();
        assert_eq!(!is_old, is_replaced, "{seconds} seconds");
        if !is_replaced {
            let refusal = world.key("app").await.unwrap_err();
            assert!(refusal.contains("by somebody"), "{refusal}");
            world.pass(3_600).await;
            assert_eq!(world.orders(), orders);
        }
        assert!(world.lives(&new) || !is_replaced);
    }
}

/// There is no newer key, so it was not the engine.
#[tokio::test]
async fn a_disabled_key_is_not_replaced_because_of_an_order_that_never_left() {
    let world = World::with_role().await;
    let body = json!({"rotation_period": "30d"});
    world.write(ROLE, body).await.unwrap();
    let hash = world.key_hash("app").await;
    world.die_during_a_rotation("before POST /keys").await;
    let account = world.openrouter.account();
    account.set_disabled(&hash, true).unwrap();
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.intents().len(), 1);
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("by somebody"), "{refusal}");
    world.pass(3_600).await;
    assert!(world.intents().is_empty());
    assert_eq!(world.current().await, hash.as_str());
    assert_eq!(world.orders(), 1);
}
