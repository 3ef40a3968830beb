//! The snapshot was taken between a change of the place of a role's keys and its next rotation: the forgotten
//! key is not where the current one is.

use openrouter_simulator::Account;
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World, hashes, role};

/// The role is rotated once more, and storage loses that. Returns the hash of the forgotten key.
async fn forget_a_rotation(world: &World) -> String {
    let snapshot = world.snapshot();
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
    let other = world.other_account("other").await;
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
    let snapshot = world.snapshot();
    // The role moves back, and that is lost too.
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

/// Where a role can create its keys: in two workspaces of each of two accounts.
const PLACES: [(&str, bool); 4] = [
    ("default", false),
    ("default", true),
    ("other", false),
    ("other", true),
];

/// A world with a second account, and the fields of each place.
async fn with_places() -> (World, Account, [Value; 4]) {
    let world = World::connected().await;
    let other = world.other_account("other").await;
    let workspaces = [
        world.openrouter.account().add_workspace(),
        other.add_workspace(),
    ];
    let fields = PLACES.map(|(connection, is_workspace)| {
        let workspace = &workspaces[usize::from(connection == "other")];
        let workspace = is_workspace.then_some(workspace);
        json!({"connection": connection, "workspace_id": workspace})
    });
    (world, other, fields)
}

/// The same with a role that was made at one place and has moved to another one.
async fn with_moved_role(from: usize, to: usize) -> (World, Account, [Value; 4]) {
    let (world, other, fields) = with_places().await;
    let mut role = role();
    let first = fields[from].as_object().unwrap().clone();
    role.as_object_mut().unwrap().extend(first);
    world.write(ROLE, role).await.unwrap();
    world.write(ROLE, fields[to].clone()).await.unwrap();
    (world, other, fields)
}

/// The account that a place is in.
fn account_of<'a>(world: &'a World, other: &'a Account, place: usize) -> &'a Account {
    match PLACES[place].0 {
        "other" => other,
        _ => world.openrouter.account(),
    }
}

/// The snapshot is taken right after the change, or after the next rotation.
#[tokio::test]
async fn keys_that_storage_forgets_are_found_wherever_a_role_has_moved() {
    for from in 0..4 {
        for to in (0..4).filter(|to| *to != from) {
            for is_rotated_before in [false, true] {
                let (world, other, fields) = with_moved_role(from, to).await;
                if is_rotated_before {
                    world.write(ROTATE, Value::Null).await.unwrap();
                }
                let forgotten = forget_a_rotation(&world).await;
                let account = account_of(&world, &other, to);
                is_taken_in_and_dies_at_its_time(&world, account, &forgotten).await;
                let moved = (&fields[from], &fields[to], is_rotated_before);
                assert_living_are_known(&world, &other, &format!("{moved:?}")).await;
            }
        }
    }
}

/// Storage knows the place of the forgotten key only as that of a superseded one.
#[tokio::test]
async fn keys_that_storage_forgets_are_found_wherever_a_role_has_moved_back() {
    for from in 0..4 {
        for to in (0..4).filter(|to| *to != from) {
            let (world, other, fields) = with_moved_role(from, to).await;
            world.write(ROTATE, Value::Null).await.unwrap();
            let snapshot = world.snapshot();
            world.write(ROLE, fields[from].clone()).await.unwrap();
            world.write(ROTATE, Value::Null).await.unwrap();
            let forgotten = world.key_hash("app").await;
            world.restore(snapshot).await;
            world.restart().await;
            world.quiet().await;
            let account = account_of(&world, &other, from);
            is_taken_in_and_dies_at_its_time(&world, account, &forgotten).await;
            assert_living_are_known(&world, &other, &format!("{from} to {to}")).await;
        }
    }
}

/// The living keys are the role's, in either account.
async fn assert_living_are_known(world: &World, other: &Account, place: &str) {
    let role = world.role("app").await.unwrap();
    let mut living: Vec<_> = [world.openrouter.account(), other]
        .into_iter()
        .flat_map(Account::keys)
        .map(|key| key.hash)
        .collect();
    let mut known = hashes(&role);
    living.sort();
    known.sort();
    assert_eq!(living, known, "{place}");
}
