//! Leases under a budget that end early or cannot be ended, and a budget that changes meanwhile.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::budget_leases::with_budget;
use crate::budget_leases_ends::available;
use crate::harness::{CI, World};

/// A world with a dynamic role at noon, whose budget is 10 a day, and the key of a lease that takes 1 of it.
async fn with_lease() -> (World, String) {
    let world = with_budget().await;
    let hash = world.lease_hash().await;
    spend(&world, &hash, 0.25);
    (world, hash)
}

fn spend(world: &World, hash: &str, dollars: f64) {
    let account = world.openrouter.account();
    account.set_usage(hash, dollars).unwrap();
}

#[tokio::test]
async fn a_key_that_somebody_revokes_waits_for_its_final_reading_too() {
    let (world, hash) = with_lease().await;
    let path = format!("revoke-key/default/{hash}");
    world.write(&path, json!({"force": true})).await.unwrap();
    world.quiet().await;
    assert!(world.seen(&hash).disabled);
    assert_eq!(world.seen(&hash).deleted_at, None);
    assert_eq!(available(&world).await, 9.0, "it counts with its limit");
    // A request was in flight.
    spend(&world, &hash, 0.75);
    world.pass(601).await;
    assert!(world.seen(&hash).deleted_at.is_some());
    assert_eq!(available(&world).await, 9.25);
}

/// Deleted, it could not be read any more, although OpenRouter refuses nothing.
#[tokio::test]
async fn a_key_that_cannot_be_disabled_during_an_outage_is_not_deleted_instead() {
    let (world, hash) = with_lease().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("PATCH", "/keys/*").forever());
    world.revoke().await.unwrap_err();
    assert_eq!(world.seen(&hash).deleted_at, None);
    faults.clear();
    world.revoke().await.unwrap();
    assert!(world.seen(&hash).disabled);
    world.pass(601).await;
    assert_eq!(available(&world).await, 9.75);
}

#[tokio::test]
async fn another_amount_does_not_make_a_budget_forget_what_was_spent() {
    let (world, _) = with_lease().await;
    world.revoke().await.unwrap();
    world.pass(601).await;
    world.write(CI, json!({"budget": 5})).await.unwrap();
    assert_eq!(available(&world).await, 4.75);
}

#[tokio::test]
async fn a_server_is_asked_about_the_mount_only_while_keys_wait_for_their_final_readings() {
    let (world, _) = with_lease().await;
    let node = world.node();
    let mut calls = Vec::new();
    for is_waiting in [false, true] {
        if is_waiting {
            world.revoke().await.unwrap();
        }
        world.quiet().await;
        let before = node.system.calls();
        node.tick().await.unwrap();
        world.quiet().await;
        calls.push(node.system.calls() - before);
    }
    assert_eq!(calls[1], calls[0] + 1, "{calls:?}");
}

#[tokio::test]
async fn a_budget_that_is_taken_away_and_written_again_begins_with_nothing_spent() {
    let (world, _) = with_lease().await;
    world.revoke().await.unwrap();
    world.pass(601).await;
    assert_eq!(available(&world).await, 9.75);
    for body in [json!({"budget": null}), json!({"budget": 10})] {
        world.write(CI, body).await.unwrap();
    }
    assert_eq!(available(&world).await, 10.0);
}
