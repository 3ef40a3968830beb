//! Comparisons of guardrail assignments: what they do not repair, and whose keys they repair.

use std::collections::BTreeMap;

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::leases::with_guarded_leases;
use super::{ASSIGN, all_held_to, assignments, guardrail, hashes, held_to, with_guarded_role};
use crate::harness::{CI, ROLE, ROTATE, World};

/// The messages in the role's status about guardrails that were changed, by the hashes of the keys.
async fn repaired(world: &World, role: &str) -> BTreeMap<String, String> {
    let role = world.role(role).await.unwrap();
    let drift = role["drift"].as_array().unwrap().iter();
    let drift = drift.filter(|noted| noted["drift"] == "guardrail_changed");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    drift
        .map(|noted| (text(&noted["key_hash"]), text(&noted["message"])))
        .collect()
}

/// It has lost its guardrail with its life.
#[tokio::test]
async fn a_key_that_is_gone_is_not_taken_for_one_that_was_removed_from_its_guardrail() {
    let (world, _) = with_guarded_role().await;
    let body = json!({"disable_automated_rotation": true, "rotation_grace_period": "10d"});
    world.write(ROLE, body).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    let current = world.key_hash("app").await;
    world.openrouter.account().delete_key(&current).unwrap();
    world.pass(3_600).await;
    let role = world.role("app").await.unwrap();
    assert!(role["drift"].to_string().contains("current_key_gone"));
    world.openrouter.requests().reset();
    world.restart().await;
    world.pass(3 * 3_600).await;
    assert_eq!(repaired(&world, "app").await, BTreeMap::new());
    assert_eq!(assignments(&world), 0);
}

#[tokio::test]
async fn keys_of_a_role_that_is_being_deleted_are_not_assigned_again() {
    let (world, _) = with_guarded_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("DELETE", "/keys/*").forever());
    world.node().delete(ROLE, Value::Null).await.unwrap_err();
    for hash in hashes(&world) {
        world.openrouter.account().unassign_guardrail(&hash);
    }
    world.openrouter.requests().reset();
    world.restart().await;
    world.pass(3_700).await;
    assert_eq!(assignments(&world), 0);
    assert_eq!(all_held_to(&world), [None]);
}

#[tokio::test]
async fn each_role_is_told_of_its_own_leases_only() {
    let world = World::connected().await;
    let strict = guardrail(&world, "strict");
    let body = json!({"credential_type": "dynamic", "guardrail": "strict", "ttl": "5h"});
    for path in [CI, "roles/other"] {
        world.write(path, body.clone()).await.unwrap();
    }
    world.lease().await.unwrap();
    let other = world.read("creds/other").await.unwrap().unwrap();
    let other = other.data["key_hash"].as_str().unwrap().to_owned();
    for hash in hashes(&world) {
        world.openrouter.account().unassign_guardrail(&hash);
    }
    world.restart().await;
    world.quiet().await;
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
    let own = world.server_leases().remove(0).key_hash;
    let told = async |role| repaired(&world, role).await.into_keys().collect::<Vec<_>>();
    assert_eq!(told("ci").await, [own]);
    assert_eq!(told("other").await, [other]);
}

/// The role has no guardrail any more, so that it cannot show what is left to do.
#[tokio::test]
async fn of_two_leases_only_the_one_whose_key_is_refused_is_said_to_be_without_guardrail() {
    let (world, strict) = with_guarded_leases().await;
    world.write(CI, json!({"guardrail": null})).await.unwrap();
    for hash in hashes(&world) {
        world.openrouter.account().unassign_guardrail(&hash);
    }
    // The two together, and then one of them.
    let refused = Fault::status(400).on("POST", ASSIGN).times(2);
    world.openrouter.faults().add(refused);
    world.restart().await;
    world.quiet().await;
    let told = repaired(&world, "ci").await;
    let is_held = |hash: &String| held_to(&world, hash).as_ref() == Some(&strict);
    let (held, refused): (Vec<_>, Vec<_>) = hashes(&world).into_iter().partition(is_held);
    let ([held], [refused]) = (&held[..], &refused[..]) else {
        panic!("one of each: {told:?}")
    };
    assert!(told[held].ends_with("it is assigned again"), "{told:?}");
    assert!(told[refused].contains("cannot be assigned"), "{told:?}");
}
