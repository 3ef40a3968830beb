//! Names and workspaces that were changed at OpenRouter: what is reported about them, and what is not.

use openrouter_simulator::{KeyChanges, NewKey};
use serde_json::{Value, json};

use super::every_minute;
use crate::harness::{ROLE, World};

fn rename(world: &World, hash: &str, name: &str) {
    let changes = KeyChanges {
        name: Some(name.to_owned()),
        ..KeyChanges::default()
    };
    let account = world.openrouter.account();
    account.change_key(hash, &changes).unwrap();
}

#[tokio::test]
async fn a_name_at_openrouter_puts_no_secret_into_an_answer() {
    let world = World::with_role().await;
    every_minute(&world).await;
    let served = world.key("app").await.unwrap();
    let secret = served["api_key"].as_str().unwrap();
    rename(&world, &world.current().await, secret);
    world.pass(120).await;
    let read = Value::from(world.role("app").await.unwrap()).to_string();
    assert!(read.contains("key_renamed"), "{read}");
    assert!(!read.contains(secret), "renamed: {read}");
}

/// Of a mount with one role.
#[tokio::test]
async fn a_key_that_was_moved_is_said_to_be_although_no_other_is_managed() {
    let world = World::with_role().await;
    every_minute(&world).await;
    let account = world.openrouter.account();
    account.create_key(NewKey::named("somebody's"));
    let changes = KeyChanges {
        workspace_id: Some(account.add_workspace()),
        ..KeyChanges::default()
    };
    account
        .change_key(&world.current().await, &changes)
        .unwrap();
    world.pass(600).await;
    let read = world.role("app").await.unwrap();
    assert!(
        read["drift"].to_string().contains("key_moved"),
        "{}",
        read["drift"]
    );
}

#[tokio::test]
async fn the_name_of_an_adopted_key_puts_no_secret_into_a_role() {
    let world = World::connected().await;
    let key = world
        .openrouter
        .account()
        .create_key(NewKey::named("chatbot"));
    rename(&world, &key.hash, key.secret());
    let body = json!({"api_key": key.secret(), "rotation_grace_period": 600, "ttl": 300});
    world.write(ROLE, body).await.unwrap();
    let read = Value::from(world.role("app").await.unwrap()).to_string();
    assert!(!read.contains(key.secret()), "{read}");
}
