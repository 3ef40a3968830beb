//! Changes of the guardrail of keys under leases that fail at first: what is retried, in which order, and what
//! is not undone.

use openrouter_simulator::Fault;
use serde_json::json;

use super::proof::with_lost_reply;
use super::{ASSIGN, all_held_to, assignments, guardrail, guardrail_of};
use crate::harness::{CI, Harm, World};

fn nothing_can_be_assigned(world: &World) {
    let fault = Fault::status(503).on("POST", ASSIGN).forever();
    world.openrouter.faults().add(fault);
}

#[tokio::test]
async fn a_guardrail_that_is_written_back_reaches_every_key_although_the_first_try_fails() {
    let (world, strict) = with_lost_reply().await;
    nothing_can_be_assigned(&world);
    let node = world.node();
    let back = node.write(CI, json!({"guardrail": "strict"})).await;
    let warnings = back.unwrap().unwrap().warnings;
    assert!(warnings[0].contains("the engine retries"), "{warnings:?}");
    let before = assignments(&world);
    let unchanged = json!({"ttl": 3_000});
    node.write(CI, unchanged).await.unwrap();
    assert_eq!(assignments(&world), before, "it asks for no guardrail");
    world.openrouter.faults().clear();
    world.pass(60).await;
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
}

/// The same two keys stay behind in the workspace that the role has left, and have to be assigned to `strict`.
/// In its new one, the role has a third key, and the guardrails `there`, which it has, and `stricter`.
async fn with_keys_left_behind() -> (World, String) {
    let (world, strict) = with_lost_reply().await;
    let account = world.openrouter.account();
    let team = account.add_named_workspace("Team", "team").unwrap();
    for name in ["there", "stricter"] {
        guardrail_of(&world, name, &team);
    }
    nothing_can_be_assigned(&world);
    let elsewhere = json!({"workspace": "team", "guardrail": "there"});
    world.node().write(CI, elsewhere).await.unwrap();
    world.openrouter.faults().clear();
    world.lease().await.unwrap();
    (world, strict)
}

/// Between two requests another leader may have been elected, who may have changed the guardrail.
#[tokio::test]
async fn a_change_proves_again_that_the_node_leads_before_it_assigns_to_another_guardrail() {
    let (world, _) = with_keys_left_behind().await;
    nothing_can_be_assigned(&world);
    world.effects.record(Harm::Crash, None);
    let change = json!({"guardrail": "stricter"});
    world.node().write(CI, change).await.unwrap();
    let effects = world.effects.stop();
    let told = effects.iter().filter_map(|effect| {
        let call = effect.strip_prefix("before ")?;
        let is_told = call == "put roles/ci" || call.starts_with("POST");
        is_told.then(|| call.split(' ').next().unwrap())
    });
    // The change itself, which is the proof for the first request; the proof for the second; the failure.
    let told: Vec<_> = told.collect();
    assert_eq!(told, ["put", "POST", "put", "POST", "put"]);
}

#[tokio::test]
async fn a_refusal_that_concerns_only_keys_left_behind_does_not_undo_the_change() {
    let (world, strict) = with_keys_left_behind().await;
    let path = format!("/guardrails/{strict}/assignments/keys");
    let refused = Fault::status(400).on("POST", &path).forever();
    world.openrouter.faults().add(refused);
    let change = json!({"guardrail": "stricter"});
    world.node().write(CI, change).await.unwrap();
    let role = world.role("ci").await.unwrap();
    assert_eq!(role["guardrail"], "stricter");
}

/// It is known with the role already that the records of its keys are not to be trusted.
#[tokio::test]
async fn a_change_writes_no_record_before_its_request_even_in_doubt() {
    let (world, _) = with_lost_reply().await;
    let third = guardrail(&world, "third");
    world.effects.record(Harm::Crash, None);
    let change = json!({"guardrail": "third"});
    world.node().write(CI, change).await.unwrap();
    let effects = world.effects.stop();
    let assigned = |effect: &&String| effect.starts_with("before POST");
    let until = effects.iter().position(|effect| assigned(&effect)).unwrap();
    let puts = effects[..until].iter();
    let puts: Vec<_> = puts
        .filter(|effect| effect.starts_with("before put"))
        .collect();
    assert_eq!(puts, ["before put roles/ci"]);
    assert_eq!(all_held_to(&world), vec![Some(third); 2]);
}

#[tokio::test]
async fn a_key_that_was_made_with_its_guardrail_is_not_assigned_again() {
    let world = World::connected().await;
    guardrail(&world, "strict");
    let ci = json!({"credential_type": "dynamic", "guardrail": "strict", "ttl": 3_000});
    world.write(CI, ci).await.unwrap();
    world.lease().await.unwrap();
    world.openrouter.requests().reset();
    world.restart().await;
    world.pass(60).await;
    assert_eq!(assignments(&world), 0);
}
