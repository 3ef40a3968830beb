//! The requests that divide a budget: what waits for them if they fail, what does not, and whom they concern.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::budget::{limits, role, spend, superseded, with_budget};
use crate::harness::{ROLE, ROTATE, World};

#[tokio::test]
async fn a_rotation_waits_until_the_old_key_is_read_and_lowered_and_an_emergency_does_not() {
    for fault in [
        // The new key is asked first, to verify it.
        Fault::status(503).on("GET", "/key").nth(2),
        Fault::status(503).on("PATCH", "/keys/*"),
        Fault::status(403).on("PATCH", "/keys/*"),
    ] {
        for is_emergency in [false, true] {
            let shown = format!("{fault:?}, {is_emergency}");
            let world = with_budget().await;
            let old = world.current().await;
            spend(&world, &old, 40.0);
            world.openrouter.faults().add(fault.clone());
            let grace = if is_emergency { 0 } else { 3_600 };
            let body = json!({ "rotation_grace_period": grace });
            let rotated = world.write(ROTATE, body).await;
            assert_eq!(rotated.is_ok(), is_emergency, "{shown}");
            if is_emergency {
                assert_ne!(world.current().await, old, "{shown}");
                // Until its final reading it may have spent everything.
                assert_eq!(limits(&world), [(100.0, true), (0.0, false)], "{shown}");
                world.pass(601).await;
                assert_eq!(limits(&world), [(60.0, false)], "{shown}");
            } else {
                assert_eq!(world.current().await, old, "{shown}");
                world.pass(1_300).await;
                assert_eq!(limits(&world), [(100.0, false)], "{shown}");
            }
            assert_eq!(world.violations().await, [""; 0], "{shown}");
        }
    }
}

/// No comparison runs: the change of its limit shows it.
#[tokio::test]
async fn a_superseded_key_that_is_gone_when_it_is_to_be_lowered_counts_with_its_share_and_is_left()
{
    let world = with_budget().await;
    let never = json!({"reconcile_interval": 0});
    world.write("config", never).await.unwrap();
    let old = superseded(&world).await;
    world.openrouter.account().delete_key(&old).unwrap();
    world.write(ROLE, json!({"budget": 80})).await.unwrap();
    assert_eq!(limits(&world), [(34.0, false)]);
    world.pass(1_300).await;
    let path = format!("/keys/{old}");
    let changes = world.openrouter.requests().to("PATCH", &path);
    let calls: Vec<_> = changes.into_iter().filter_map(|call| call.body).collect();
    assert_eq!(
        calls.len(),
        2,
        "the second is the only one since: {calls:?}"
    );
    let usage = world.read("usage/app").await.unwrap().unwrap().data;
    assert_eq!(
        (&usage["remaining"], &usage["complete"]),
        (&json!(34.0), &json!(false))
    );
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn a_superseded_key_that_could_not_be_lowered_is_lowered_later() {
    for status in [403, 500] {
        let world = with_budget().await;
        let old = superseded(&world).await;
        let fault = Fault::status(status).on("PATCH", "/keys/*");
        world.openrouter.faults().add(fault);
        world.write(ROLE, json!({"budget": 80})).await.unwrap();
        assert_eq!(limits(&world)[1], (34.0, false), "the old one has 46");
        world.pass(1_300).await;
        assert_eq!(limits(&world), [(44.0, false), (36.0, false)], "{status}");
        assert!(world.lives(&old));
        assert_eq!(world.complaints().await, [""; 0]);
        assert_eq!(world.violations().await, [""; 0]);
    }
}

/// The earlier call may arrive later, and would raise it again.
#[tokio::test]
async fn while_it_is_unclear_whether_the_old_key_was_lowered_there_is_no_rotation() {
    let world = with_budget().await;
    spend(&world, &world.current().await, 40.0);
    let lost = Fault::LostReply.on("PATCH", "/keys/*");
    world.openrouter.faults().add(lost);
    let node = world.node();
    node.write(ROLE, json!({"budget": 60})).await.unwrap();
    let refusal = node.write(ROTATE, json!({})).await.unwrap_err();
    assert!(refusal.to_string().contains("not certain yet"), "{refusal}");
    world.pass(1_300).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(42.0, false), (18.0, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}

/// The earlier leader may still be sending it.
#[tokio::test]
async fn a_call_that_was_unclear_at_a_failover_is_unclear_for_ten_minutes_more() {
    let world = with_budget().await;
    let lost = Fault::LostReply.on("PATCH", "/keys/*");
    world.openrouter.faults().add(lost);
    let node = world.node();
    node.write(ROLE, json!({"budget": 200})).await.unwrap();
    world.pass(500).await;
    world.restart().await;
    world.pass(590).await;
    let refusal = world.write(ROTATE, json!({})).await.unwrap_err();
    assert!(refusal.to_string().contains("not certain yet"), "{refusal}");
    world.pass(60).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(20.0, false), (180.0, false)]);
}

#[tokio::test]
async fn each_key_is_lowered_and_read_through_the_connection_with_which_it_was_made() {
    let world = World::connected().await;
    let elsewhere = world.other_account("other").await;
    let mut body = role();
    body["connection"] = json!("other");
    world.write(ROLE, body).await.unwrap();
    let old = world.current().await;
    let back = json!({"connection": "default"});
    world.write(ROLE, back).await.unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(elsewhere.key(&old).unwrap().limit, Some(10.0));
    assert_eq!(limits(&world), [(90.0, false)]);
    world.write(ROLE, json!({"budget": 50})).await.unwrap();
    assert_eq!(elsewhere.key(&old).unwrap().limit, Some(5.0));
    world.pass(3_600).await;
    assert!(elsewhere.key(&old).unwrap().disabled);
    world.pass(601).await;
    assert!(elsewhere.key(&old).unwrap().deleted_at.is_some());
    assert_eq!(limits(&world), [(50.0, false)]);
    let usage = world.read("usage/app").await.unwrap().unwrap().data;
    assert_eq!(usage["complete"], true);
}

/// Its share is still as large as the one that it would be given.
#[tokio::test]
async fn a_key_that_is_restored_with_the_limit_that_it_has_costs_no_change_of_a_limit() {
    let world = with_budget().await;
    let old = superseded(&world).await;
    world.pass(3_600).await;
    assert_eq!(limits(&world), [(46.0, true), (54.0, false)]);
    world.openrouter.requests().reset();
    let body = json!({"key_version": 1, "duration": 3_600});
    world.write("restore-key/app", body).await.unwrap();
    assert_eq!(limits(&world), [(46.0, false), (54.0, false)]);
    let changes = world.openrouter.requests().to("PATCH", "/keys/*");
    let enabling = changes.iter().map(|change| &*change.path);
    let enabling: Vec<&str> = enabling.collect();
    assert_eq!(enabling, [format!("/keys/{old}")]);
    assert_eq!(world.violations().await, [""; 0]);
}
