//! Budgets of rotating roles: what the keys may spend at OpenRouter, and how many requests that costs.

use openrouter_simulator::{Fault, NewGuardrail, Price};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Storage;

use crate::harness::{ROLE, ROTATE, World};

/// A world with a role that has a budget of 100 a day, at noon.
pub(crate) async fn with_budget() -> World {
    let world = World::connected().await;
    world.write(ROLE, role()).await.unwrap();
    world.quiet().await;
    world
}

pub(crate) fn role() -> Value {
    json!({
        "rotation_period": "30d",
        "rotation_grace_period": 3_600,
        "ttl": 300,
        "budget": 100,
        "budget_reset": "daily",
    })
}

/// Spends with a key until it has spent this much, or is refused. Returns what it has spent.
pub(crate) fn spend(world: &World, hash: &str, usd: f64) -> f64 {
    let account = world.openrouter.account();
    let mut spent = 0.0;
    while spent < usd {
        let Ok(call) = account.begin_call(hash, "some/model") else {
            break;
        };
        spent += call.at_price(Price::usd(1.0)).complete();
    }
    spent
}

/// The sum of what the living keys may spend, and what the dead keys have spent.
pub(crate) fn limits(world: &World) -> Vec<(f64, bool)> {
    let keys = world.openrouter.account().keys();
    keys.iter()
        .map(|key| (key.limit.unwrap(), key.disabled))
        .collect()
}

/// Spends 40 of 100, and rotates. The previous key has 6 more.
pub(crate) async fn superseded(world: &World) -> String {
    let old = world.current().await;
    spend(world, &old, 40.0);
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(world), [(46.0, false), (54.0, false)]);
    old
}

/// The same, and the previous key spends 2 of them.
pub(crate) async fn superseded_and_used(world: &World) -> String {
    let old = superseded(world).await;
    spend(world, &old, 2.0);
    old
}

#[tokio::test]
async fn the_first_key_has_the_whole_budget() {
    let world = with_budget().await;
    let key = world.openrouter.account().keys().remove(0);
    assert_eq!(key.limit, Some(100.0));
    assert_eq!(key.limit_reset.map(|reset| reset.as_str()), Some("daily"));
    let role = world.role("app").await.unwrap();
    assert_eq!(
        (&role["budget"], &role["budget_reset"]),
        (&json!(100.0), &json!("daily"))
    );
    assert_eq!(role["limit"], Value::Null);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_rotation_divides_what_is_left() {
    let world = with_budget().await;
    let old = world.current().await;
    assert_eq!(spend(&world, &old, 40.0), 40.0);
    world.write(ROTATE, json!({})).await.unwrap();
    // 60 are left, of which the old key gets a tenth for the grace period.
    assert_eq!(limits(&world), [(46.0, false), (54.0, false)]);
    assert_eq!(spend(&world, &old, 50.0), 6.0);
    let new = world.current().await;
    assert_eq!(spend(&world, &new, 500.0), 54.0);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn what_a_superseded_key_leaves_over_goes_to_the_current_one() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    world.write(ROTATE, json!({})).await.unwrap();
    spend(&world, &old, 2.0);
    world.pass(3_600).await;
    // The key is now disabled, and its requests in flight get time to end.
    assert_eq!(limits(&world), [(46.0, true), (54.0, false)]);
    world.pass(601).await;
    assert_eq!(limits(&world), [(58.0, false)]);
    assert_eq!(spend(&world, &world.current().await, 500.0), 58.0);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn what_is_reported_late_is_not_spent_twice() {
    let world = with_budget().await;
    world
        .openrouter
        .billing()
        .change(|rules| rules.reporting_lag_seconds = 300);
    let old = world.current().await;
    spend(&world, &old, 90.0);
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(91.0, false), (9.0, false)]);
    spend(&world, &old, 500.0);
    world.pass(3_600 + 601).await;
    assert_eq!(limits(&world), [(9.0, false)]);
}

#[tokio::test]
async fn calls_in_flight_at_the_end_of_a_key_are_counted() {
    let world = with_budget().await;
    let old = world.current().await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(10.0, false), (90.0, false)]);
    let call = world.openrouter.account().begin_call(&old, "some/model");
    let call = call.unwrap().at_price(Price::usd(7.0));
    world.pass(3_600).await;
    call.complete();
    world.pass(601).await;
    assert_eq!(limits(&world), [(93.0, false)]);
}

#[tokio::test]
async fn an_emergency_leaves_the_old_key_nothing() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    assert_eq!(limits(&world), [(40.0, true), (60.0, false)]);
    assert_eq!(spend(&world, &old, 1.0), 0.0);
    world.pass(601).await;
    assert_eq!(limits(&world), [(60.0, false)]);
}

#[tokio::test]
async fn at_the_reset_the_full_amount_comes_back() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 60.0);
    world.pass_until("2026-11-20T23:30:00Z").await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(64.0, false), (36.0, false)]);
    // A minute after midnight the old key is lowered to its share of the new day. Until a reading has shown
    // what it spent before that, it counts as before.
    world.pass_until("2026-11-21T00:01:30Z").await;
    assert_eq!(limits(&world), [(10.0, false), (36.0, false)]);
    world.pass_until("2026-11-21T00:15:00Z").await;
    assert_eq!(limits(&world), [(10.0, false), (90.0, false)]);
    world.pass_until("2026-11-21T02:00:00Z").await;
    assert_eq!(limits(&world), [(100.0, false)]);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn a_reset_that_openrouter_has_not_made_yet_is_waited_for() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 60.0);
    world
        .write(ROTATE, json!({"rotation_grace_period": 0}))
        .await
        .unwrap();
    world.pass(601).await;
    let before = limits(&world);
    assert_eq!(before, [(40.0, false)]);
    // The engine's clock is a day ahead of OpenRouter's.
    let ahead = world.after(86_400);
    let openrouter = world.time.now();
    world.time.set(ahead);
    world.openrouter.clock().set(openrouter);
    world.node().tick().await.unwrap();
    world.quiet().await;
    assert_eq!(limits(&world), before);
}

#[tokio::test]
async fn a_budget_that_changes_takes_effect_at_once() {
    let world = with_budget().await;
    let hash = world.current().await;
    spend(&world, &hash, 40.0);
    world.write(ROLE, json!({"budget": 50})).await.unwrap();
    assert_eq!(limits(&world), [(50.0, false)]);
    world
        .write(ROLE, json!({"budget": 200, "budget_reset": "monthly"}))
        .await
        .unwrap();
    assert_eq!(limits(&world), [(200.0, false)]);
    let key = world.openrouter.account().keys().remove(0);
    assert_eq!(key.limit_reset.map(|reset| reset.as_str()), Some("monthly"));
    let answer = world
        .write(ROLE, json!({"limit": 5}))
        .await
        .unwrap()
        .unwrap();
    let warnings = answer.warnings.join(" ");
    assert!(
        warnings.contains("budget and budget_reset are cleared"),
        "{warnings}"
    );
    assert_eq!(limits(&world), [(5.0, false)]);
}

#[tokio::test]
async fn a_role_without_a_budget_gets_one() {
    let world = World::with_role().await;
    let old = world.current().await;
    spend(&world, &old, 2.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let body = json!({"budget": 20, "budget_reset": "daily"});
    let answer = world.write(ROLE, body).await.unwrap().unwrap();
    let warnings = answer.warnings.join(" ");
    assert!(
        warnings.contains("limit and limit_reset are cleared"),
        "{warnings}"
    );
    // It has spent 2, and gets its share of the rest.
    assert_eq!(limits(&world)[0], (3.8, false));
    world.pass(1_300).await;
    assert_eq!(limits(&world), [(18.0, false)]);
}

#[tokio::test]
async fn a_raise_whose_answer_is_lost_counts_as_granted_for_ten_minutes() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    // The second change is the raise of the new key.
    let lost = Fault::LostReply.on("PATCH", "/keys/*").nth(2);
    world.openrouter.faults().add(lost);
    world.write(ROTATE, json!({})).await.unwrap_err();
    assert_eq!(world.current().await, old, "it stays in service");
    world.quiet().await;
    let living: f64 = limits(&world).iter().map(|(limit, _)| limit).sum();
    assert!(living <= 100.0, "{:?}", limits(&world));
    world.pass(1_300).await;
    assert_eq!(limits(&world), [(100.0, false)]);
}

#[tokio::test]
async fn a_key_that_was_deleted_outside_counts_in_full_until_the_window_ends() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    world.openrouter.account().delete_key(&old).unwrap();
    world.restart().await;
    world.pass(4_300).await;
    assert_ne!(world.current().await, old, "it was replaced");
    assert_eq!(limits(&world), [(0.0, false)]);
    world.pass_until("2026-11-21T00:02:00Z").await;
    assert_eq!(limits(&world), [(100.0, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn the_bounds_of_the_connection_bind_the_budget() {
    let world = World::connected().await;
    let bounds = |max: i64| json!({ "max_limit": max });
    world.write("config", bounds(100)).await.unwrap();
    let mut beyond = role();
    beyond["budget"] = json!(101);
    let refusal = world.write(ROLE, beyond).await.unwrap_err().to_string();
    assert!(refusal.contains("at most 100 US dollars"), "{refusal}");
    world.write(ROLE, role()).await.unwrap();
    // The next key is created without money, and may be given all of it.
    world.write(ROTATE, json!({})).await.unwrap();
    let refusal = world.write("config", bounds(99)).await.unwrap_err();
    assert!(refusal.to_string().contains("app"), "{refusal}");
    world.write(ROLE, json!({"budget": 99})).await.unwrap();
    world.write("config", bounds(99)).await.unwrap();
    let refusal = world.write(ROLE, json!({"budget": null})).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(refusal.contains("has no limit"), "{refusal}");
}

/// What a role refers to at OpenRouter is looked up whether its bound is a limit or a budget.
#[tokio::test]
async fn a_budget_within_the_bounds_goes_with_what_a_role_calls_by_name() {
    for field in ["guardrail", "workspace", "creator_user_id"] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        account.add_guardrail(NewGuardrail::named("strict"));
        account.add_named_workspace("Team", "team").unwrap();
        let name = match field {
            "guardrail" => "strict",
            "workspace" => "team",
            _ => "user_one",
        };
        let bounds = json!({"max_limit": 100});
        world.write("config", bounds).await.unwrap();
        let mut body = role();
        body[field] = json!(name);
        body["budget"] = json!(101);
        let refusal = world.write(ROLE, body.clone()).await.unwrap_err();
        let refusal = refusal.to_string();
        assert!(refusal.contains("at most 100 US dollars"), "{refusal}");
        assert!(account.all_keys().is_empty());
        body["budget"] = json!(100);
        // As Terraform does: it writes the same again.
        for _ in 0..2 {
            world.write(ROLE, body.clone()).await.unwrap();
        }
        assert_eq!(world.role("app").await.unwrap()[field], name);
        assert_eq!(limits(&world), [(100.0, false)]);
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_key_is_held_to_the_guardrail_and_the_budget() {
    let world = with_budget().await;
    let account = world.openrouter.account();
    account.add_guardrail(NewGuardrail::named("strict"));
    let body = json!({"guardrail": "strict", "budget": 80});
    world.write(ROLE, body).await.unwrap();
    assert_eq!(limits(&world), [(80.0, false)]);
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(8.0, false), (72.0, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_write_that_is_refused_leaves_the_budget_as_it_was() {
    let world = with_budget().await;
    let hash = world.current().await;
    spend(&world, &hash, 40.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let account = world.openrouter.account();
    account.add_guardrail(NewGuardrail::named("strict"));
    let before = (limits(&world), stored(&world).await);
    let refused = Fault::status(403).on("POST", "/guardrails/*/assignments/keys");
    world.openrouter.faults().add(refused);
    let body = json!({"guardrail": "strict", "budget": null, "limit": 7});
    world.write(ROLE, body).await.unwrap_err();
    assert_eq!((limits(&world), stored(&world).await), before);
}

/// The stored fields of the role's budget.
async fn stored(world: &World) -> Value {
    let stored = world.storage.get(ROLE).await.unwrap().unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let role = &stored["entry"]["rotating"];
    json!([role["ledger"], role["tally"]])
}

#[tokio::test]
async fn a_superseded_key_that_is_revoked_early_is_disabled_at_once_and_read_later() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let path = format!("revoke-key/default/{old}");
    for _ in 0..2 {
        world.write(&path, json!({"force": true})).await.unwrap();
        assert_eq!(limits(&world), [(46.0, true), (54.0, false)]);
    }
    let status = world.read("status").await.unwrap().unwrap().data;
    assert_eq!(status["overdue"]["revocations"]["count"], json!(0));
    world.pass(601).await;
    assert_eq!(limits(&world), [(60.0, false)]);
}

#[tokio::test]
async fn a_rotation_costs_six_requests_more_than_one_without_a_budget() {
    let without = {
        let world = World::connected().await;
        let mut role = role();
        let fields = role.as_object_mut().unwrap();
        fields.retain(|field, _| !field.starts_with("budget"));
        world.write(ROLE, role).await.unwrap();
        world.quiet().await;
        rotation_and_end(&world).await
    };
    let world = with_budget().await;
    spend(&world, &world.current().await, 40.0);
    let with = rotation_and_end(&world).await;
    assert_eq!(
        with - without,
        6,
        "{:?}",
        world.openrouter.requests().counts()
    );
}

async fn rotation_and_end(world: &World) -> usize {
    world.openrouter.requests().reset();
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass_without_calls(3_600).await;
    world.pass_without_calls(700).await;
    world.openrouter.requests().all().len()
}

#[tokio::test]
async fn roles_without_a_budget_store_no_byte_more() {
    let world = World::with_role().await;
    world.write(ROTATE, json!({})).await.unwrap();
    for entry in world.snapshot() {
        let text = String::from_utf8(entry.value).unwrap();
        for word in ["budget", "ledger", "grant"] {
            assert!(!text.contains(word), "{}: {text}", entry.key);
        }
    }
}
