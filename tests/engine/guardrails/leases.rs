//! Keys under leases have the guardrail of their role, whatever happens to the role.

use std::collections::BTreeSet;

use openrouter_simulator::{Fault, NewGuardrail};
use serde_json::{Value, json};

use super::{ASSIGN, all_held_to, assignments, guardrail, held_to};
use crate::harness::{CI, World};

/// A world with the role `ci`, which has the guardrail `strict`, and two of its leases.
pub(super) async fn with_guarded_leases() -> (World, String) {
    let world = World::connected().await;
    let strict = guardrail(&world, "strict");
    let ci = json!({"credential_type": "dynamic", "guardrail": "strict", "ttl": 3_000});
    world.write(CI, ci).await.unwrap();
    world.lease().await.unwrap();
    world.lease().await.unwrap();
    (world, strict)
}

#[tokio::test]
async fn another_guardrail_reaches_every_key_under_a_lease_at_once() {
    let (world, strict) = with_guarded_leases().await;
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
    let other = guardrail(&world, "other");
    let answer = world
        .write(CI, json!({"guardrail": "other"}))
        .await
        .unwrap();
    assert!(answer.is_none(), "there is nothing to warn of");
    assert_eq!(all_held_to(&world), vec![Some(other.clone()); 2]);
    world.lease().await.unwrap();
    assert_eq!(all_held_to(&world), vec![Some(other); 3]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_change_that_is_unclear_is_carried_out_for_leases_too_whoever_leads() {
    for fails_over in [false, true] {
        let (world, _) = with_guarded_leases().await;
        let other = guardrail(&world, "other");
        let rule = Fault::status(500).on("POST", ASSIGN).times(2);
        world.openrouter.faults().add(rule);
        let answer = world.node().write(CI, json!({"guardrail": "other"})).await;
        let warnings = answer.unwrap().unwrap().warnings;
        assert!(warnings[0].contains("the engine retries"), "{warnings:?}");
        let shown = world.read(CI).await.unwrap().unwrap();
        assert!(
            shown.warnings[0].contains("guardrail yet"),
            "{:?}",
            shown.warnings
        );
        if fails_over {
            world.restart().await;
        }
        world.pass(60).await;
        assert_eq!(all_held_to(&world), vec![Some(other); 2]);
        let shown = world.read(CI).await.unwrap().unwrap();
        assert_eq!(shown.warnings, [""; 0]);
    }
}

#[tokio::test]
async fn a_change_of_leases_that_is_refused_is_taken_back() {
    let (world, strict) = with_guarded_leases().await;
    guardrail(&world, "other");
    let rule = Fault::status(400).on("POST", ASSIGN);
    world.openrouter.faults().add(rule.times(3));
    world
        .write(CI, json!({"guardrail": "other"}))
        .await
        .unwrap_err();
    let role = world.role("ci").await.unwrap();
    assert_eq!(role["guardrail_id"], strict);
    world.pass(60).await;
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
}

#[tokio::test]
async fn a_key_that_was_ordered_before_its_role_was_given_another_guardrail_is_not_handed_out() {
    for first in [None, Some("strict")] {
        let world = World::connected().await;
        guardrail(&world, "strict");
        let other = guardrail(&world, "other");
        let ci = json!({"credential_type": "dynamic", "guardrail": first, "ttl": 3_000});
        world.write(CI, ci).await.unwrap();
        world
            .openrouter
            .faults()
            .add(Fault::held().on("POST", "/keys"));
        let (node, changed) = (world.node(), world.node());
        let read = node.read("creds/ci");
        let change = async {
            world.holding(1).await;
            let answer = changed.write(CI, json!({"guardrail": "other"})).await;
            world.openrouter.faults().clear();
            answer
        };
        let (read, change) = tokio::join!(read, change);
        change.unwrap();
        let refusal = read.unwrap_err().to_string();
        assert!(refusal.contains("read again"), "{refusal}");
        world.quiet().await;
        assert_eq!(world.openrouter.account().count(), 0);
        assert!(world.intents().is_empty());
        let lease = world.lease().await.unwrap();
        assert_eq!(
            held_to(&world, lease["key_hash"].as_str().unwrap()),
            Some(other)
        );
    }
}

#[tokio::test]
async fn a_guardrail_that_was_taken_off_a_leases_key_is_put_back() {
    let (world, strict) = with_guarded_leases().await;
    for key in world.openrouter.account().keys() {
        world.openrouter.account().unassign_guardrail(&key.hash);
    }
    world.restart().await;
    world.quiet().await;
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
}

/// What happens to the role of two leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Deleted,
    Cleared,
    Moved,
}

/// A world with two leases on keys with the guardrail `strict`, whose role has changed in this way.
async fn with_leases_left_behind(role: Role) -> (World, String) {
    let (world, strict) = with_guarded_leases().await;
    if role == Role::Moved {
        let account = world.openrouter.account();
        let team = account.add_named_workspace("Team", "team").unwrap();
        account.add_guardrail(NewGuardrail {
            workspace_id: Some(team),
            ..NewGuardrail::named("strict")
        });
    }
    match role {
        Role::Deleted => drop(world.delete(CI, Value::Null).await.unwrap()),
        Role::Cleared => drop(world.write(CI, json!({"guardrail": null})).await.unwrap()),
        Role::Moved => drop(world.write(CI, json!({"workspace": "team"})).await.unwrap()),
    }
    (world, strict)
}

#[tokio::test]
async fn keys_under_leases_are_put_back_whatever_became_of_their_role() {
    for role in [Role::Deleted, Role::Cleared, Role::Moved] {
        let (world, strict) = with_leases_left_behind(role).await;
        for key in world.openrouter.account().keys() {
            world.openrouter.account().unassign_guardrail(&key.hash);
        }
        world.restart().await;
        world.quiet().await;
        assert_eq!(all_held_to(&world), vec![Some(strict); 2], "{role:?}");
    }
}

/// If the role has a guardrail, the failure is stored, shown and retried. Otherwise it is reported.
#[tokio::test]
async fn keys_under_leases_that_cannot_be_put_back_are_shown() {
    for role in [Role::Cleared, Role::Moved] {
        let (world, strict) = with_leases_left_behind(role).await;
        let account = world.openrouter.account();
        let hashes: Vec<String> = account.keys().into_iter().map(|key| key.hash).collect();
        account.delete_guardrail(&strict).unwrap();
        world.restart().await;
        world.pass(8_000).await;
        let shown = world.read(CI).await.unwrap().unwrap();
        let drift = shown.data["drift"].as_array().unwrap();
        let notes = drift
            .iter()
            .filter(|note| note["drift"] == "guardrail_changed");
        // Once for each key, however often it was compared.
        let mut noted: Vec<_> = notes.map(|note| note["key_hash"].clone()).collect();
        noted.sort_by_key(ToString::to_string);
        let mut expected: Vec<Value> = hashes.iter().map(|hash| json!(hash)).collect();
        expected.sort_by_key(ToString::to_string);
        assert_eq!(noted, expected, "{role:?}");
        if role == Role::Cleared {
            let message = drift[0]["message"].as_str().unwrap();
            assert!(message.contains("cannot be assigned"), "{message}");
        } else {
            let warnings = &shown.warnings;
            assert!(warnings[0].contains("guardrail yet"), "{warnings:?}");
            assert!(assignments(&world) > 4, "it is tried again");
        }
    }
}

/// No read can show it, so it is reported once for each key, and retried with each comparison.
#[tokio::test]
async fn a_failure_to_reassign_keys_of_a_deleted_role_is_reported_and_retried() {
    let (world, strict) = with_leases_left_behind(Role::Deleted).await;
    let often = json!({"reconcile_interval": 600});
    world.write("config/default", often).await.unwrap();
    let account = world.openrouter.account();
    let hashes: BTreeSet<String> = account.keys().into_iter().map(|key| key.hash).collect();
    for hash in &hashes {
        account.unassign_guardrail(hash);
    }
    let rule = Fault::status(400).on("POST", ASSIGN).times(100);
    world.openrouter.faults().add(rule);
    world.restart().await;
    world.quiet().await;
    let tries = || assignments(&world);
    let news = || -> Vec<String> {
        let events = world.node().events.take().into_iter();
        let events = events.filter(|event| event.metadata.get("drift") == Some(&CHANGED.into()));
        events
            .map(|mut event| event.metadata.remove("key_hash").unwrap())
            .collect()
    };
    let at_first = news();
    assert_eq!(at_first.len(), 2, "once for each: {at_first:?}");
    assert_eq!(BTreeSet::from_iter(at_first), hashes);
    let tried = tries();
    world.pass(1_250).await;
    assert_eq!(news(), [""; 0]);
    assert_eq!(
        tries(),
        tried + 6,
        "two keys, together and one by one, compared twice"
    );
    assert_eq!(all_held_to(&world), [None, None]);
    world.openrouter.faults().clear();
    world.pass(600).await;
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
    assert_eq!(BTreeSet::from_iter(news()), hashes, "it is over");
}

const CHANGED: &str = "guardrail_changed";

/// Reads that went on failing would make and delete a key each.
#[tokio::test]
async fn a_guardrail_that_was_not_stored_is_not_expected_of_leases_after_a_teardown() {
    let (world, strict) = with_guarded_leases().await;
    guardrail(&world, "other");
    world.write("teardown", json!({})).await.unwrap();
    world.effects.fail_at("before put roles/ci");
    let other = json!({"guardrail": "other"});
    world.node().write(CI, other).await.unwrap_err();
    // A write that is refused resolves what became of that one: soon, and for good.
    for _ in 0..2 {
        let nowhere = json!({"guardrail": "nowhere"});
        world.node().write(CI, nowhere).await.unwrap_err();
        world.pass(200).await;
    }
    world.delete("teardown", Value::Null).await.unwrap();
    let hash = world.lease_hash().await;
    assert_eq!(held_to(&world, &hash), Some(strict));
}
