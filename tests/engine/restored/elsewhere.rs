//! The snapshot falls between a change of where a role's keys are made and its next rotation: the key
//! that it forgets is not where the current one is.

use openrouter_simulator::Account;
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World, hashes};

/// The role is rotated once more, and storage forgets that. Returns the hash of the forgotten key.
async fn forget_a_rotation(world: &World) -> String {
    let snapshot = world.snapshot().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let forgotten = world.key("app").await.unwrap();
    world.restore(snapshot).await;
    world.restart().await;
    world.quiet().await;
    forgotten["key_hash"].as_str().unwrap().to_owned()
}

async fn is_taken_in_and_dies_at_its_time(world: &World, account: &Account, forgotten: &String) {
    let role = world.role("app").await.unwrap();
    assert!(hashes(&role).contains(forgotten), "nobody knows of it");
    let died = || account.key(forgotten).unwrap().deleted_at;
    world.pass(599).await;
    assert_eq!(died(), None, "somebody may hold it");
    world.pass(2).await;
    assert!(died().is_some(), "its grace is over");
    let role = world.role("app").await.unwrap();
    assert!(!hashes(&role).contains(forgotten));
}

#[tokio::test]
async fn a_forgotten_key_of_the_connection_that_the_role_had_moved_to_is_found() {
    let world = World::with_role().await;
    let other = world.openrouter.add_account();
    let key = json!({"management_key": other.add_management_key(), "api_url": world.gate_url()});
    world.write("config/other", key).await.unwrap();
    world
        .write(ROLE, json!({"connection": "other"}))
        .await
        .unwrap();
    let forgotten = forget_a_rotation(&world).await;
    is_taken_in_and_dies_at_its_time(&world, &other, &forgotten).await;
}

#[tokio::test]
async fn a_forgotten_key_of_the_workspace_that_the_role_had_moved_to_is_found() {
    let world = World::with_role().await;
    let workspace = world.openrouter.account().add_workspace();
    let body = json!({"workspace_id": workspace});
    world.write(ROLE, body).await.unwrap();
    let forgotten = forget_a_rotation(&world).await;
    let account = world.openrouter.account();
    is_taken_in_and_dies_at_its_time(&world, account, &forgotten).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn a_forgotten_key_where_the_role_has_only_a_superseded_one_is_found() {
    let world = World::with_role().await;
    let workspace = world.openrouter.account().add_workspace();
    let body = json!({"workspace_id": workspace});
    world.write(ROLE, body).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    let snapshot = world.snapshot().await;
    // It moves back, and that is forgotten too.
    let body = json!({"workspace_id": null});
    world.write(ROLE, body).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    let forgotten = world.key("app").await.unwrap();
    let forgotten = forgotten["key_hash"].as_str().unwrap().to_owned();
    world.restore(snapshot).await;
    world.restart().await;
    world.quiet().await;
    let account = world.openrouter.account();
    is_taken_in_and_dies_at_its_time(&world, account, &forgotten).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}
