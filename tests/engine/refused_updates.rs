//! A change of a role that OpenRouter rejects is reverted. What readers were promised in the meantime still
//! holds.

use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World};

/// Requests longer leases and another limit, which OpenRouter rejects. A reader reads the key in the
/// meantime.
async fn refused_while_somebody_reads(world: &World, fault: Fault) {
    world.openrouter.faults().add(fault.on("PATCH", "/keys/*"));
    world.openrouter.set_latency(Duration::from_millis(80));
    let node = world.node();
    let body = json!({"ttl": 3_000, "rotation_grace_period": 3_600, "limit": 9});
    let reader = async {
        while world.key("app").await.unwrap()["ttl"] != 3_000 {
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(node.write(ROLE, body), reader);
    answer.unwrap_err();
    world.openrouter.set_latency(Duration::ZERO);
    let role = world.role("app").await.unwrap();
    assert_eq!((&role["ttl"], &role["limit"]), (&json!(300), &json!(5)));
}

#[tokio::test]
async fn what_readers_were_promised_by_a_change_that_is_taken_back_holds() {
    for fault in [Fault::status(403), Fault::rate_limited(1)] {
        let world = World::with_role().await;
        refused_while_somebody_reads(&world, fault).await;
        world.write(ROTATE, Value::Null).await.unwrap();
        // Past the end of that lease by the margin that every lease has: a tenth of it.
        world.pass(3_330).await;
        assert_eq!(world.openrouter.account().keys().len(), 2);
        world.pass(600).await;
        assert_eq!(world.violations().await, [""; 0]);
        assert_eq!(world.broken_promises(), [""; 0]);
    }
}

#[tokio::test]
async fn an_emergency_keeps_no_promise_of_a_change_that_was_taken_back() {
    let world = World::with_role().await;
    refused_while_somebody_reads(&world, Fault::status(403)).await;
    let at_once = json!({"rotation_grace_period": 0});
    world.write(ROTATE, at_once).await.unwrap();
    assert_eq!(world.openrouter.account().keys().len(), 1);
}

#[tokio::test]
async fn shorter_leases_keep_the_promises_of_the_longer_ones_with_their_margin() {
    let world = World::with_role().await;
    let long = json!({"ttl": 3_000, "rotation_grace_period": 3_600});
    world.write(ROLE, long).await.unwrap();
    world.key("app").await.unwrap();
    let short = json!({"ttl": 10, "rotation_grace_period": 20});
    world.write(ROLE, short).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(3_330).await;
    assert_eq!(world.openrouter.account().keys().len(), 2);
    world.pass(10).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn a_description_is_changed_while_an_earlier_change_of_limits_is_pending() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("PATCH", "/keys/*"));
    world.node().write(ROLE, json!({"limit": 9})).await.unwrap();
    faults.add(Fault::status(403).on("PATCH", "/keys/*").times(3));
    let answer = world.write(ROLE, json!({"description": "new"})).await;
    answer.expect("it is no fault of this change");
    let role = world.role("app").await.unwrap();
    assert_eq!(role["description"], "new");
    assert_eq!(role["limit"], 9, "the wish stays");
    world.pass(60).await;
    assert_eq!(world.violations().await, [""; 0]);
}

/// The response to a read of the role.
async fn shown(world: &World) -> (Value, Vec<String>) {
    let answer = world.read(ROLE).await.unwrap().unwrap();
    (Value::Object(answer.data), answer.warnings)
}

/// Writes these fields, which OpenRouter rejects. The role is as before.
async fn leaves_no_trace(world: &World, change: Value) {
    let before = shown(world).await;
    let refused = Fault::status(403).on("PATCH", "/keys/*");
    world.openrouter.faults().add(refused);
    // Time stands still.
    let refusal = world.node().write(ROLE, change).await.unwrap_err();
    let refusal = refusal.to_string();
    assert!(refusal.contains("403"), "{refusal}");
    assert_eq!(shown(world).await, before);
}

/// According to the reverted schedule, a rotation was missed by then. The schedule counts from now on.
#[tokio::test]
async fn a_schedule_that_is_taken_back_moves_no_rotation() {
    let world = World::with_role().await;
    let monthly = json!({"rotation_period": "30d"});
    world.write(ROLE, monthly).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(3 * 3_600).await;
    let daily = json!({
        "limit": 9, "rotation_schedule": "30 12 * * *", "rotation_window": "1h",
    });
    leaves_no_trace(&world, daily).await;
}

#[tokio::test]
async fn a_change_that_is_taken_back_hides_no_rotation_that_failed() {
    let world = World::with_role().await;
    let refused = Fault::status(403).on("POST", "/keys");
    world.openrouter.faults().add(refused);
    world.write(ROTATE, Value::Null).await.unwrap_err();
    leaves_no_trace(&world, json!({"limit": 9})).await;
    assert_eq!(shown(&world).await.0["rotation_status"], "failed");
}

#[tokio::test]
async fn a_change_that_is_taken_back_hides_no_limits_that_are_pending() {
    let world = World::with_role().await;
    let unclear = Fault::status(500).on("PATCH", "/keys/*");
    world.openrouter.faults().add(unclear);
    world.node().write(ROLE, json!({"limit": 9})).await.unwrap();
    leaves_no_trace(&world, json!({"limit": 11})).await;
    let warnings = shown(&world).await.1;
    assert!(
        warnings[0].contains("the role's limits yet"),
        "{warnings:?}"
    );
    world.pass(60).await;
    assert_eq!(world.violations().await, [""; 0]);
}

/// The key's spending is counted before it is deleted, which fails. The change would forget that.
#[tokio::test]
async fn a_change_that_is_taken_back_lets_no_ended_key_be_counted_twice() {
    let world = World::connected().await;
    let tracked = json!({
        "rotation_period": "30d", "rotation_grace_period": 3_600, "ttl": 300, "track_usage": true,
    });
    world.write(ROLE, tracked).await.unwrap();
    let old = world.key_hash("app").await;
    world.openrouter.account().set_usage(&old, 4.0).unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    let away = Fault::status(500).on("DELETE", "/keys/*").forever();
    world.openrouter.faults().add(away);
    world.pass(3_600 + 601).await;
    let spent = async || {
        let usage = world.read("usage/app").await.unwrap().unwrap().data;
        usage["spent_ever"].clone()
    };
    assert_eq!(spent().await, 4.0);
    leaves_no_trace(&world, json!({"limit": 9, "track_usage": false})).await;
    world.openrouter.faults().clear();
    world.pass(2 * 3_600).await;
    assert!(!world.lives(&old));
    assert_eq!(spent().await, 4.0);
}
