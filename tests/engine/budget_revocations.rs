//! The end of superseded keys under a budget with complications: an order to revoke, a hold that is shorter
//! than the final reading needs, a key that is gone, a new key that cannot be deleted.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::budget::{limits, superseded_and_used, with_budget};
use crate::harness::{ROLE, ROTATE};

/// Its spending is unknown then, which matters less than the fact that it works.
#[tokio::test]
async fn a_key_that_is_revoked_by_order_and_cannot_be_disabled_is_deleted_before_the_answer() {
    let world = with_budget().await;
    let old = superseded_and_used(&world).await;
    let unclear = Fault::status(500).on("PATCH", "/keys/*");
    world.openrouter.faults().add(unclear);
    let revoke = format!("revoke-key/default/{old}");
    world.write(&revoke, json!({"force": true})).await.unwrap();
    assert!(world.seen(&old).deleted_at.is_some());
    assert_eq!(limits(&world), [(54.0, false)], "all of its share counts");
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_key_is_held_at_least_until_its_final_reading() {
    let world = with_budget().await;
    let short = json!({"revocation_hold": 60});
    world.write(ROLE, short).await.unwrap();
    let old = superseded_and_used(&world).await;
    world.pass(3_600).await;
    assert!(world.seen(&old).disabled);
    let role = world.role("app").await.unwrap();
    let until = world.after(600).to_string();
    assert_eq!(role["held_keys"][0]["held_until"], until.as_str());
    world.pass(599).await;
    assert_eq!(world.seen(&old).deleted_at, None);
    world.pass(1).await;
    assert!(world.seen(&old).deleted_at.is_some());
    assert_eq!(limits(&world), [(58.0, false)], "what it left over is free");
    assert_eq!(world.violations().await, [""; 0]);
}

/// No comparison runs: the end of its grace period shows it.
#[tokio::test]
async fn a_key_that_is_gone_at_the_end_of_its_grace_period_counts_with_all_of_its_share() {
    let world = with_budget().await;
    let never = json!({"reconcile_interval": 0});
    world.write("config", never).await.unwrap();
    let old = superseded_and_used(&world).await;
    world.openrouter.account().delete_key(&old).unwrap();
    world.pass(3_600).await;
    let role = world.role("app").await.unwrap();
    assert_eq!(role["superseded_keys"], json!([]));
    let usage = world.read("usage/app").await.unwrap().unwrap().data;
    assert_eq!(usage["complete"], false);
    assert_eq!(usage["remaining"], json!(54.0));
    // None of it is returned to later keys.
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(5.4, false), (48.6, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}

/// Its raise was unclear, so it does not become current. It can spend its intended limit until it is deleted.
#[tokio::test]
async fn a_rejected_key_counts_against_the_budget_until_it_is_deleted() {
    let world = with_budget().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("PATCH", "/keys/*").nth(2));
    faults.add(Fault::status(503).on("DELETE", "/keys/*").forever());
    world.write(ROTATE, json!({})).await.unwrap_err();
    for _ in 0..4 {
        let lives = limits(&world);
        assert_eq!(lives.len(), 2, "it cannot be deleted");
        let granted: f64 = lives.iter().map(|(limit, _)| limit).sum();
        assert!(granted <= 100.0, "{lives:?}");
        world.pass(400).await;
    }
    faults.clear();
    world.pass(2 * 3_600).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(10.0, false), (90.0, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}
