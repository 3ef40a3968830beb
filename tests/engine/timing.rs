//! Rotations and revocations happen when they are due, by the engine's own timer, with any clock. This file
//! covers periods and what changes them. The other schedules, and clocks that jump, have their own files.

// All of this is test code; declaring it as such makes clippy allow what it allows in tests.
#[cfg(test)]
mod clock_jumps;
#[cfg(test)]
mod cron;
#[cfg(test)]
mod time_of_day;
#[cfg(test)]
mod timer;

use jiff::Timestamp;
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
        warnings
            .iter()
            .any(|w| w.contains("the current key expires at")),
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

/// A world in which the role `app` was created at this time.
async fn role_made_at(at: &str, fields: Value) -> World {
    let world = World::connected().await;
    // Months pass here, and hourly comparisons with OpenRouter would take most of the time.
    let connection = json!({
        "management_key": world.openrouter.management_key(),
        "api_url": world.gate_url(),
        "reconcile_interval": 0,
    });
    world.write("config", connection).await.unwrap();
    world.time.set(at.parse().unwrap());
    world.write(ROLE, fields).await.unwrap();
    world.quiet().await;
    world
}

/// When the role's keys after the first one were created.
fn rotations(world: &World) -> Vec<Timestamp> {
    let mut times = world.made_at();
    times.remove(0);
    times
}

fn times(texts: &[&str]) -> Vec<Timestamp> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
