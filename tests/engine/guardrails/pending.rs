//! A role's guardrail that is still to be applied: what is shown of it, and which writes of the role try it
//! again.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::{ASSIGN, all_held_to, assignments, guarded, guardrail, with_guarded_role};
use crate::harness::{ROLE, ROTATE, World};

/// The current key was made through the default connection, and the superseded one through this one. Both are
/// removed from their guardrail, and cannot be assigned again.
async fn with_two_failures(former: &str) -> World {
    let world = World::connected().await;
    guardrail(&world, "strict");
    let management_key = world.openrouter.account().add_management_key();
    let connection = json!({"management_key": management_key, "api_url": world.gate_url()});
    let path = format!("config/{former}");
    world.write(&path, connection).await.unwrap();
    let mut body = guarded("strict");
    body["connection"] = json!(former);
    body["rotation_period"] = json!("30d");
    body["rotation_grace_period"] = json!("1d");
    world.write(ROLE, body).await.unwrap();
    let moved = json!({"connection": "default"});
    world.write(ROLE, moved).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    for key in world.openrouter.account().keys() {
        assert!(world.openrouter.account().unassign_guardrail(&key.hash));
    }
    let away = Fault::status(503).on("POST", ASSIGN).forever();
    world.openrouter.faults().add(away);
    world.restart().await;
    world.pass(60).await;
    world
}

/// The connections are asked in the order of their names.
#[tokio::test]
async fn of_several_failures_that_of_the_roles_own_guardrail_is_shown() {
    for former in ["before", "elsewhere"] {
        let world = with_two_failures(former).await;
        let shown = world.read(ROLE).await.unwrap().unwrap();
        let current = shown.data["current_key"]["hash"].as_str().unwrap();
        let expected = format!("key {current} cannot be assigned");
        let both = |one: &&String| one.starts_with("2 keys do not have the role's guardrail yet");
        let warning = shown.warnings.iter().find(both).unwrap();
        assert!(warning.contains(&expected), "{former}: {warning}");
    }
}

/// The role is to get the guardrail `other`, and the first request to assign its key does not arrive.
async fn with_pending_guardrail() -> (World, String) {
    let (world, _) = with_guarded_role().await;
    let other = guardrail(&world, "other");
    let lost = Fault::ResetBeforeEffect.on("POST", ASSIGN);
    world.openrouter.faults().add(lost);
    let written = world
        .node()
        .write(ROLE, json!({"guardrail": "other"}))
        .await;
    let warnings = written.unwrap().unwrap().warnings;
    assert!(warnings[0].contains("the engine retries"), "{warnings:?}");
    (world, other)
}

#[tokio::test]
async fn a_description_is_changed_although_the_guardrail_is_refused_meanwhile() {
    let (world, other) = with_pending_guardrail().await;
    let refused = Fault::status(400).on("POST", ASSIGN).times(3);
    world.openrouter.faults().add(refused);
    let written = world
        .node()
        .write(ROLE, json!({"description": "new"}))
        .await;
    assert!(written.unwrap().is_none(), "it is no fault of this change");
    let role = world.role("app").await.unwrap();
    assert_eq!(role["description"], "new");
    assert_eq!(role["guardrail"], "other", "the wish stays");
    world.pass(60).await;
    assert_eq!(all_held_to(&world), [Some(other)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn an_unchanged_write_tries_it_again_at_once_only_if_it_names_the_guardrail() {
    let (world, _) = with_pending_guardrail().await;
    for (body, tries) in [(json!({"limit": 5}), 0), (json!({"guardrail": "other"}), 1)] {
        let before = assignments(&world);
        world.node().write(ROLE, body.clone()).await.unwrap();
        assert_eq!(assignments(&world) - before, tries, "{body}");
    }
    world.key("app").await.unwrap();
}
