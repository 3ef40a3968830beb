//! Rotations and revocations happen when they are due, by the engine's own timer, on whatever clock.

use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World, role};

#[tokio::test]
async fn a_rotation_and_the_revocation_after_it_happen_in_the_second_that_they_are_due() {
    let world = World::with_role().await;
    let first = world.openrouter.account().keys().remove(0).hash;
    world.pass(3_599).await;
    assert_eq!(world.version().await, 1);
    world.pass(1).await;
    assert_eq!(world.version().await, 2);
    world.pass(599).await;
    let living = || {
        world
            .openrouter
            .account()
            .key(&first)
            .unwrap()
            .deleted_at
            .is_none()
    };
    assert!(living());
    world.pass(1).await;
    assert!(!living());
}

#[tokio::test]
async fn what_became_due_while_the_mount_was_sealed_is_done_at_once() {
    let world = World::with_role().await;
    world.node().life.end();
    world.time.set(world.after(5_000));
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.version().await, 2);
}

#[tokio::test]
async fn a_manual_rotation_pushes_the_next_automatic_one() {
    let world = World::with_role().await;
    world.pass(3_000).await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(3_599).await;
    assert_eq!(world.version().await, 2);
    world.pass(1).await;
    assert_eq!(world.version().await, 3);
}

#[tokio::test]
async fn a_clock_that_jumps_forward_costs_one_rotation_and_one_that_jumps_back_none() {
    let world = World::with_role().await;
    world.time.set(world.after(100_000));
    world.quiet().await;
    assert_eq!(world.version().await, 2);
    world.time.set(world.after(-50_000));
    world.quiet().await;
    world.pass(1_000).await;
    assert_eq!(world.version().await, 2);
    assert_eq!(world.orders(), 2);
}

#[tokio::test]
async fn a_role_that_rotates_by_hand_only_is_left_alone() {
    let world = World::connected().await;
    let mut body = role();
    body["disable_automated_rotation"] = true.into();
    world.write(ROLE, body).await.unwrap();
    world.pass(1_000_000).await;
    assert_eq!(world.orders(), 1);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn a_window_that_was_missed_is_shown_and_skipped() {
    let world = World::connected().await;
    // It is Friday noon; the window opens at 3 in the morning.
    let body = json!({"rotation_schedule": "0 3 * * *", "rotation_window": "1h"});
    world.write(ROLE, body).await.unwrap();
    world.node().life.end();
    world.time.set("2026-11-21T05:00:00Z".parse().unwrap());
    world.restart().await;
    world.pass(600).await;
    assert_eq!(world.version().await, 1);
    let complaints = world.complaints().await;
    assert!(
        complaints[0].contains("2026-11-21T03:00:00Z was missed"),
        "{complaints:?}"
    );
    world.pass(24 * 60 * 60).await;
    assert_eq!(world.version().await, 2);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn a_schedule_that_is_made_faster_counts_from_the_last_rotation() {
    let world = World::with_role().await;
    world.pass(1_000).await;
    world
        .write(ROLE, json!({"rotation_period": 1_100}))
        .await
        .unwrap();
    world.pass(99).await;
    assert_eq!(world.version().await, 1);
    world.pass(1).await;
    assert_eq!(world.version().await, 2);
}

#[tokio::test]
async fn a_schedule_that_is_made_slower_does_not_outlive_the_key() {
    let world = World::with_role().await;
    let answer = world
        .write(ROLE, json!({"rotation_period": "30d"}))
        .await
        .unwrap();
    let warnings = answer.unwrap().warnings;
    assert!(
        warnings.iter().any(|w| w.contains("made to expire")),
        "{warnings:?}"
    );
    world.pass(7_200).await;
    assert_eq!(world.version().await, 2, "a grace period before its expiry");
    assert!(world.broken_promises().is_empty());
}

#[tokio::test]
async fn a_lease_under_a_longer_ttl_is_kept_whatever_the_role_becomes() {
    let world = World::with_role().await;
    world
        .write(ROLE, json!({"ttl": 9, "rotation_grace_period": 10}))
        .await
        .unwrap();
    world.pass(5).await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(600).await;
    assert_eq!(world.broken_promises(), [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}
