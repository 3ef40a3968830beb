//! A role that is moved to a connection of another account: what its names mean there is looked up again.

use openrouter_simulator::{Account, MemberRole};
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World, role};

/// Another account, with the connection `other`.
async fn other_account(world: &World) -> Account {
    let account = world.openrouter.add_account();
    let management_key = account.add_management_key();
    let body = json!({"management_key": management_key, "api_url": world.gate_url()});
    world.write("config/other", body).await.unwrap();
    account
}

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
    let other = other_account(&world).await;
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
    let other = other_account(&world).await;
    other.become_organization();
    let refusal = moved(&world).await.unwrap_err();
    assert!(refusal.contains("has no member"), "{refusal}");
    let shown = world.role("app").await.unwrap();
    assert_eq!(shown["connection"], "default");
}
