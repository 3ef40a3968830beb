//! A role that is moved to a connection of another account: what its names mean there is looked up again.

use openrouter_simulator::MemberRole;
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World, role};

/// Moves the role there, and mentions nothing else.
async fn moved(world: &World) -> Result<(), String> {
    let written = world.write(ROLE, json!({"connection": "other"})).await;
    written.map(drop).map_err(|reason| reason.to_string())
}

#[tokio::test]
async fn its_workspace_is_the_one_of_that_name_there() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.add_named_workspace("Team", "team").unwrap();
    let mut body = role();
    body["workspace"] = json!("team");
    world.write(ROLE, body).await.unwrap();
    let other = world.other_account("other").await;
    let refusal = moved(&world).await.unwrap_err();
    assert!(refusal.contains("has no workspace \"team\""), "{refusal}");
    let there = other.add_named_workspace("Team", "team").unwrap();
    moved(&world).await.unwrap();
    let shown = world.role("app").await.unwrap();
    assert_eq!(shown["workspace_id"], there);
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(other.keys()[0].workspace_id, there);
}

#[tokio::test]
async fn the_creator_of_its_keys_has_to_be_a_member_there_too() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.become_organization();
    let member = account.add_member("a@example.com", MemberRole::Member);
    let mut body = role();
    body["creator_user_id"] = json!(member.unwrap());
    world.write(ROLE, body).await.unwrap();
    let other = world.other_account("other").await;
    other.become_organization();
    let refusal = moved(&world).await.unwrap_err();
    assert!(refusal.contains("has no member"), "{refusal}");
    let shown = world.role("app").await.unwrap();
    assert_eq!(shown["connection"], "default");
}
