//! Keys have their role's guardrail before anybody gets them, and keep it.

mod changes;
mod compared;
mod doubt;
mod leases;
mod moved;
mod other_account;
mod pending;
mod proof;
mod retried;
mod several;
mod written;

use openrouter_simulator::{Fault, KeyChanges, NewGuardrail, Rule};
use serde_json::{Value, json};

use crate::harness::{CI, Harm, ROLE, ROTATE, World, role};

const ASSIGN: &str = "/guardrails/*/assignments/keys";

/// Creates a guardrail in the default workspace, and returns its id.
fn guardrail(world: &World, name: &str) -> String {
    let account = world.openrouter.account();
    account.add_guardrail(NewGuardrail::named(name))
}

fn move_to(world: &World, hash: &str, workspace: &str) {
    let changes = KeyChanges {
        workspace_id: Some(workspace.to_owned()),
        ..KeyChanges::default()
    };
    let account = world.openrouter.account();
    account.change_key(hash, &changes).unwrap();
}

/// Creates a guardrail in this workspace, and returns its id.
fn guardrail_of(world: &World, name: &str, workspace: &str) -> String {
    let account = world.openrouter.account();
    account.add_guardrail(NewGuardrail {
        workspace_id: Some(workspace.to_owned()),
        ..NewGuardrail::named(name)
    })
}

/// How many requests to assign keys OpenRouter got.
fn assignments(world: &World) -> usize {
    world.openrouter.requests().to("POST", ASSIGN).len()
}

/// The hashes of all living keys, oldest first.
fn hashes(world: &World) -> Vec<String> {
    let keys = world.openrouter.account().keys().into_iter();
    keys.map(|key| key.hash).collect()
}

fn guarded(name: &str) -> Value {
    let mut role = role();
    role["guardrail"] = json!(name);
    role
}

/// A world with the role `app`, which has the guardrail `strict`, and the id of that guardrail.
async fn with_guarded_role() -> (World, String) {
    let world = World::connected().await;
    let strict = guardrail(&world, "strict");
    world.write(ROLE, guarded("strict")).await.unwrap();
    world.key("app").await.unwrap();
    world.quiet().await;
    (world, strict)
}

fn held_to(world: &World, hash: &str) -> Option<String> {
    world.openrouter.account().guardrail_of(hash)
}

/// The guardrail of each living key, oldest key first.
fn all_held_to(world: &World) -> Vec<Option<String>> {
    let keys = world.openrouter.account().keys();
    keys.iter().map(|key| held_to(world, &key.hash)).collect()
}

/// Everything that can go wrong with an assignment.
fn faults() -> Vec<Rule> {
    let post = |fault: Fault| fault.on("POST", ASSIGN);
    let list = |fault: Fault| fault.on("GET", ASSIGN);
    vec![
        post(Fault::status(400)),
        post(Fault::status(403)),
        post(Fault::status(404)),
        post(Fault::rate_limited(1)),
        post(Fault::status(500)),
        post(Fault::LostReply),
        post(Fault::ResetBeforeEffect),
        post(Fault::NonsenseJson),
        post(Fault::edited_reply(json!({"assigned_count": 0}))),
        post(Fault::edited_reply(json!({"assigned_count": 2}))),
        list(Fault::status(500)),
        list(Fault::NonsenseJson),
        list(Fault::edited_reply(json!({"key_hash": "0".repeat(64)}))),
        list(Fault::edited_reply(
            json!({"guardrail_id": "0f8fad5b-d9cb-469f-a165-70867728950e"}),
        )),
    ]
}

#[tokio::test]
async fn a_key_that_cannot_be_held_to_its_guardrail_is_handed_out_to_nobody() {
    for fault in faults() {
        let world = World::connected().await;
        guardrail(&world, "strict");
        let shown = format!("{fault:?}");
        world.openrouter.faults().add(fault.forever());
        let refusal = world.write(ROLE, guarded("strict")).await;
        refusal.expect_err(&shown);
        assert!(world.role("app").await.is_none(), "{shown}");
        let ci = json!({"credential_type": "dynamic", "guardrail": "strict", "ttl": 300});
        world.write(CI, ci).await.unwrap();
        world.lease().await.expect_err(&shown);
        world.openrouter.faults().clear();
        world.pass(700).await;
        assert_eq!(world.openrouter.account().count(), 0, "{shown}");
        assert!(world.intents().is_empty(), "{shown}");
        world.write(ROLE, guarded("strict")).await.unwrap();
        world.key("app").await.unwrap();
        world.lease().await.unwrap();
        assert_eq!(world.violations().await, [""; 0], "{shown}");
    }
}

#[tokio::test]
async fn a_rotation_whose_key_cannot_be_held_leaves_the_guarded_one_in_service() {
    for fault in faults() {
        let (world, strict) = with_guarded_role().await;
        let before = world.version().await;
        let shown = format!("{fault:?}");
        world.openrouter.faults().add(fault.forever());
        world.write(ROTATE, Value::Null).await.expect_err(&shown);
        assert_eq!(world.version().await, before, "{shown}");
        world.openrouter.faults().clear();
        world.pass(700).await;
        world.write(ROTATE, Value::Null).await.unwrap();
        assert_eq!(world.version().await, before + 1, "{shown}");
        assert_eq!(all_held_to(&world), vec![Some(strict.clone()); 2]);
        assert_eq!(world.violations().await, [""; 0], "{shown}");
    }
}

#[tokio::test]
async fn a_key_that_says_it_is_held_to_another_guardrail_is_not_taken() {
    let world = World::connected().await;
    guardrail(&world, "strict");
    let other = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let budgets = json!({"budgets": [{"scope": "api_key", "guardrail_id": other}]});
    let lie = Fault::edited_reply(budgets).on("GET", "/key").forever();
    world.openrouter.faults().add(lie);
    let refusal = world.write(ROLE, guarded("strict")).await.unwrap_err();
    assert!(
        refusal.to_string().contains("another guardrail"),
        "{refusal}"
    );
    assert_eq!(world.openrouter.account().count(), 0);
}

#[tokio::test]
async fn a_new_key_that_is_not_known_everywhere_at_once_gets_a_few_tries() {
    for (times, is_taken) in [(2, true), (3, false)] {
        let world = World::connected().await;
        guardrail(&world, "strict");
        let faults = world.openrouter.faults();
        let nothing = Fault::edited_reply(json!({"assigned_count": 0}));
        faults.add(nothing.on("POST", ASSIGN).times(times));
        faults.add(Fault::status(404).on("GET", "/keys/*").times(times));
        let written = world.write(ROLE, guarded("strict")).await;
        assert_eq!(written.is_ok(), is_taken, "{times}: {written:?}");
        if let Err(refusal) = written {
            let refusal = refusal.to_string();
            assert!(refusal.contains("does not know it yet"), "{refusal}");
        }
        assert_eq!(world.key("app").await.is_ok(), is_taken);
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn what_guards_a_key_costs_two_requests_and_nothing_where_there_is_no_guardrail() {
    let requests = |effects: Vec<String>| -> Vec<String> {
        let requests = effects
            .iter()
            .filter_map(|point| point.strip_prefix("before "));
        let requests = requests.filter(|request| request.contains(" /"));
        requests.map(str::to_owned).collect()
    };
    let ordinary = ["POST /keys", "GET /key"];
    let assigned = [
        "POST /keys",
        "POST /guardrails/*/assignments/keys",
        "GET /guardrails/*/assignments/keys",
        "GET /key",
    ];
    for (name, expected) in [(None, &ordinary[..]), (Some("strict"), &assigned[..])] {
        let world = World::connected().await;
        guardrail(&world, "strict");
        world.write(ROLE, json!({"guardrail": name})).await.unwrap();
        let ci = json!({"credential_type": "dynamic", "guardrail": name});
        world.write(CI, ci).await.unwrap();
        world.quiet().await;
        world.effects.record(Harm::Crash, None);
        world.write(ROTATE, Value::Null).await.unwrap();
        world.quiet().await;
        let made = requests(world.effects.stop());
        assert_eq!(made, expected, "a rotation");
        world.effects.record(Harm::Crash, None);
        world.lease().await.unwrap();
        world.quiet().await;
        let made = requests(world.effects.stop());
        assert_eq!(made, expected[..expected.len() - 1], "a lease");
    }
}

#[tokio::test]
async fn roles_without_these_fields_ask_openrouter_for_nothing_more() {
    let world = World::connected().await;
    world.openrouter.requests().reset();
    world.write(ROLE, role()).await.unwrap();
    world
        .write(ROLE, json!({"limit": 6, "description": "x"}))
        .await
        .unwrap();
    world
        .write(CI, json!({"credential_type": "dynamic"}))
        .await
        .unwrap();
    world.write(CI, json!({"ttl": 60})).await.unwrap();
    world.lease().await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    world.restart().await;
    world.quiet().await;
    let counts = world.openrouter.requests().counts();
    let counts: Vec<_> = counts.iter().map(|(what, n)| (what.as_str(), *n)).collect();
    let expected = [
        ("GET /key", 2),
        ("GET /keys", 1),
        ("PATCH /keys/{hash}", 1),
        ("POST /keys", 3),
    ];
    assert_eq!(counts, expected);
}
