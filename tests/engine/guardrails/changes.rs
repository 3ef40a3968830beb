//! A changed guardrail reaches every living key at once. A guardrail that was removed is assigned again.

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Error, Operation};

use super::leases::with_guarded_leases;
use super::{ASSIGN, all_held_to, guardrail, held_to, with_guarded_role};
use crate::harness::{CI, ROLE, ROTATE, World};

#[tokio::test]
async fn another_guardrail_reaches_the_current_key_and_the_superseded_ones_at_once() {
    let (world, strict) = with_guarded_role().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
    let other = guardrail(&world, "other");
    let secret = world.key("app").await.unwrap()["api_key"].clone();
    world
        .write(ROLE, json!({"guardrail": "other"}))
        .await
        .unwrap();
    assert_eq!(all_held_to(&world), vec![Some(other.clone()); 2]);
    assert_eq!(world.key("app").await.unwrap()["api_key"], secret);
    let role = world.role("app").await.unwrap();
    let shown = (&role["guardrail"], &role["guardrail_id"]);
    assert_eq!(shown, (&json!("other"), &json!(other)));
    assert_eq!(role["current_key"]["guardrail_id"], other);
    assert_eq!(role["superseded_keys"][0]["guardrail_id"], other);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_role_is_given_its_first_guardrail_while_its_keys_live() {
    let world = World::with_role().await;
    let strict = guardrail(&world, "strict");
    world
        .write(ROLE, json!({"guardrail": "strict"}))
        .await
        .unwrap();
    assert_eq!(all_held_to(&world), [Some(strict)]);
    world.key("app").await.unwrap();
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn while_it_is_unclear_whether_a_change_took_effect_the_key_is_not_handed_out() {
    for fault in [
        Fault::LostReply,
        Fault::ResetBeforeEffect,
        Fault::status(500),
    ] {
        let (world, _) = with_guarded_role().await;
        let other = guardrail(&world, "other");
        let rule = fault.on("POST", ASSIGN).times(3);
        world.openrouter.faults().add(rule);
        let (node, begun) = (world.node(), world.time.now());
        let answer = node.write(ROLE, json!({"guardrail": "other"})).await;
        let warnings = answer.unwrap().unwrap().warnings;
        assert!(
            warnings
                .iter()
                .any(|one| one.contains("the engine retries")),
            "{warnings:?}"
        );
        for path in ["creds/app", "static-creds/app"] {
            // At once, with a status that Vault's clients retry.
            match world.node().read(path).await.unwrap_err() {
                Error::Status {
                    code: 503, message, ..
                } => {
                    assert!(message.contains("not handed out until"), "{message}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.time.now(), begun, "no reader waits");
        let shown = world.read(ROLE).await.unwrap().unwrap();
        let pending = |one: &String| one.contains("do not have the role's guardrail yet");
        assert!(shown.warnings.iter().any(pending), "{:?}", shown.warnings);
        world.pass(60).await;
        assert_eq!(all_held_to(&world), [Some(other)]);
        world.key("app").await.unwrap();
        assert_eq!(world.complaints().await, [""; 0]);
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_change_that_is_refused_is_taken_back() {
    let (world, strict) = with_guarded_role().await;
    guardrail(&world, "other");
    let rule = Fault::status(400).on("POST", ASSIGN);
    world.openrouter.faults().add(rule);
    let body = json!({"guardrail": "other", "description": "new"});
    world.write(ROLE, body).await.unwrap_err();
    let role = world.role("app").await.unwrap();
    assert_eq!(
        (&role["guardrail"], &role["description"]),
        (&json!("strict"), &json!(""))
    );
    world.key("app").await.unwrap();
    assert_eq!(all_held_to(&world), [Some(strict)]);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn a_guardrail_that_is_cleared_stays_on_living_keys_and_the_next_has_none() {
    for cleared in [json!(null), json!("")] {
        let (world, strict) = with_guarded_role().await;
        let answer = world
            .write(ROLE, json!({"guardrail": cleared}))
            .await
            .unwrap();
        let warnings = answer.unwrap().warnings;
        assert!(
            warnings[0].contains("living keys keep their guardrail"),
            "{warnings:?}"
        );
        assert_eq!(all_held_to(&world), [Some(strict.clone())]);
        let role = world.role("app").await.unwrap();
        assert_eq!(
            (&role["guardrail"], &role["guardrail_id"]),
            (&json!(null), &json!(null))
        );
        world.write(ROTATE, Value::Null).await.unwrap();
        assert_eq!(all_held_to(&world), [Some(strict), None]);
        world.key("app").await.unwrap();
    }
}

#[tokio::test]
async fn together_with_another_workspace_it_applies_from_the_next_key() {
    let (world, strict) = with_guarded_role().await;
    let account = world.openrouter.account();
    let elsewhere = account.add_named_workspace("Team", "team").unwrap();
    let there = account.add_guardrail(openrouter_simulator::NewGuardrail {
        workspace_id: Some(elsewhere),
        ..openrouter_simulator::NewGuardrail::named("there")
    });
    let refused = world.write(ROLE, json!({"workspace": "team"})).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("no guardrail named \"strict\""),
        "{refused}"
    );
    let body = json!({"workspace": "team", "guardrail": "there"});
    let warnings = world.write(ROLE, body).await.unwrap().unwrap().warnings;
    assert!(
        warnings[0].contains("workspace, guardrail cannot"),
        "{warnings:?}"
    );
    assert_eq!(all_held_to(&world), [Some(strict.clone())]);
    world.key("app").await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(all_held_to(&world), [Some(strict), Some(there)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_guardrail_that_was_taken_off_is_put_back_and_the_key_withheld_while_that_fails() {
    for another in [false, true] {
        let (world, strict) = with_guarded_role().await;
        world.write(ROTATE, Value::Null).await.unwrap();
        let account = world.openrouter.account();
        let other = guardrail(&world, "other");
        for key in account.keys() {
            if another {
                account.assign_guardrail(&key.hash, &other).unwrap();
            } else {
                account.unassign_guardrail(&key.hash);
            }
        }
        let fails = Fault::status(500).on("POST", ASSIGN).times(4);
        world.openrouter.faults().add(fails);
        world.restart().await;
        world.quiet().await;
        world.forgive_unguarded();
        let refusal = world.key("app").await.unwrap_err();
        assert!(refusal.contains("not handed out until"), "{refusal}");
        world.pass(60).await;
        assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
        world.key("app").await.unwrap();
        assert_eq!(world.complaints().await, [""; 0]);
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_guardrail_that_is_gone_withholds_the_key_until_the_role_has_another_or_none() {
    for next in [json!("other"), json!(null)] {
        let (world, strict) = with_guarded_role().await;
        world
            .openrouter
            .account()
            .delete_guardrail(&strict)
            .unwrap();
        world.restart().await;
        world.quiet().await;
        let refusal = world.key("app").await.unwrap_err();
        assert!(
            refusal.contains("did not find what the request names"),
            "{refusal}"
        );
        guardrail(&world, "other");
        world.write(ROLE, json!({"guardrail": next})).await.unwrap();
        world.key("app").await.unwrap();
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_role_whose_guardrail_and_current_key_are_gone_is_mended_by_another_guardrail() {
    let (world, strict) = with_guarded_role().await;
    let account = world.openrouter.account();
    account.delete_guardrail(&strict).unwrap();
    let gone = world.key("app").await.unwrap()["key_hash"].clone();
    account.delete_key(gone.as_str().unwrap()).unwrap();
    let other = guardrail(&world, "other");
    world
        .write(ROLE, json!({"guardrail": "other"}))
        .await
        .unwrap();
    world.quiet().await;
    assert_eq!(world.role("app").await.unwrap()["guardrail_id"], other);
    assert_ne!(world.key("app").await.unwrap()["key_hash"], gone);
    assert_eq!(all_held_to(&world), [Some(other)]);
}

#[tokio::test]
async fn a_comparison_costs_a_request_for_a_hundred_assignments_and_none_without_guardrails() {
    let (world, _) = with_guarded_role().await;
    world.openrouter.requests().reset();
    world.restart().await;
    world.quiet().await;
    let lists = world.openrouter.requests().to("GET", ASSIGN);
    assert_eq!(lists.len(), 1);
    world.write(ROLE, json!({"guardrail": null})).await.unwrap();
    world.openrouter.requests().reset();
    world.restart().await;
    world.quiet().await;
    let counts = world.openrouter.requests().counts();
    assert_eq!(counts, [("GET /keys".to_owned(), 1)].into());
}

#[tokio::test]
async fn a_key_that_storage_had_forgotten_is_held_to_the_guardrail_when_it_is_taken_in() {
    let (world, strict) = with_guarded_role().await;
    let snapshot = world.snapshot();
    world.write(ROTATE, Value::Null).await.unwrap();
    let newest = world.openrouter.account().keys().pop().unwrap();
    world.openrouter.account().unassign_guardrail(&newest.hash);
    world.restore(snapshot).await;
    world.restart().await;
    world.pass(60).await;
    assert_eq!(held_to(&world, &newest.hash), Some(strict));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_deposed_leader_does_not_undo_the_guardrail_that_its_successor_has_assigned() {
    for path in [ROLE, CI] {
        let (world, strict) = match path {
            ROLE => with_guarded_role().await,
            _ => with_guarded_leases().await,
        };
        guardrail(&world, "other");
        let faults = world.openrouter.faults();
        faults.add(Fault::status(500).on("POST", ASSIGN).times(9));
        let old = world.node();
        let pending = old.write(path, json!({"guardrail": "other"})).await;
        assert!(pending.unwrap().unwrap().warnings[0].contains("the engine retries"));
        old.storage.deposed_when_putting("config/default");
        let last = json!({"description": "its last write"});
        let written = old.call(Operation::Patch, "config/default", last);
        written.await.unwrap_err();
        faults.clear();
        world.take_over().await;
        world.quiet().await;
        world
            .write(path, json!({"guardrail": "strict"}))
            .await
            .unwrap();
        let held = all_held_to(&world);
        assert!(held.iter().all(|held| *held == Some(strict.clone())));
        // While the failure lasts, and afterwards.
        for seconds in [10, 60, 300] {
            world.time.set(world.after(seconds));
            old.life.quiet().await;
            assert_eq!(all_held_to(&world), held, "{path}, {seconds} s later");
        }
    }
}
