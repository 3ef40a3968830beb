//! OpenRouter contradicts itself: its answers about a key are inconsistent. Relevant contradictions are
//! rejected, others are ignored, and no other key is affected.

use openrouter_simulator::{CallerKind, Fault};
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World};

/// Rotates. The rotation must be rejected for this reason, without other effects.
async fn is_refused(world: &World, reason: &str) {
    let version = world.version().await;
    let refusal = world.write(ROTATE, Value::Null).await.unwrap_err();
    assert!(refusal.to_string().contains(reason), "{reason}: {refusal}");
    assert_eq!(world.version().await, version, "{reason}");
    world.pass(5).await;
    assert_eq!(world.violations().await, [""; 0], "{reason}");
    world.openrouter.faults().clear();
}

#[tokio::test]
async fn an_order_whose_answer_is_about_another_key_is_refused_and_the_other_key_lives() {
    let world = World::with_role().await;
    let current = world.key_hash("app").await;
    let answer = Fault::edited_reply(json!({ "hash": current }));
    world.openrouter.faults().add(answer.on("POST", "/keys"));
    is_refused(&world, "a hash that is not that of the key").await;
    let keys = world.openrouter.account().keys();
    let hashes: Vec<&str> = keys.iter().map(|key| key.hash.as_str()).collect();
    assert_eq!(hashes, [current]);
}

#[tokio::test]
async fn an_order_that_is_answered_with_something_else_than_the_key_is_refused() {
    let world = World::with_role().await;
    for (field, value, reason) in [
        ("label", json!("sk-or-v1-abc...wxyz"), "another label"),
        (
            "expires_at",
            json!("2001-01-01T00:00:00Z"),
            "another expiry",
        ),
        (
            "expires_at",
            json!("9999-01-01T00:00:00Z"),
            "another expiry",
        ),
        ("limit", json!(0), "other limits"),
        ("limit_reset", json!("hourly"), "other limits"),
        ("disabled", json!(true), "disabled"),
    ] {
        let answer = Fault::edited_reply(json!({ field: value }));
        world.openrouter.faults().add(answer.on("POST", "/keys"));
        is_refused(&world, reason).await;
    }
}

#[tokio::test]
async fn a_key_that_says_something_else_of_itself_is_refused() {
    let world = World::with_role().await;
    for (field, value, reason) in [
        ("label", json!("sk-or-v1-abc...wxyz"), "another label"),
        (
            "expires_at",
            json!("2001-01-01T00:00:00Z"),
            "another expiry",
        ),
        ("limit", json!(1_000_000), "other limits"),
        ("include_byok_in_limit", json!(true), "other limits"),
        ("is_management_key", json!(true), "a management key"),
    ] {
        let answer = Fault::edited_reply(json!({ field: value }));
        let answer = answer.on("GET", "/key").by(CallerKind::Key);
        world.openrouter.faults().add(answer.forever());
        is_refused(&world, reason).await;
    }
}

#[tokio::test]
async fn nonsense_that_nothing_depends_on_is_passed_over() {
    let world = World::with_role().await;
    let nonsense = Fault::edited_reply(json!({
        "limit_remaining": 1_000_000, "usage": -5, "usage_daily": "much", "updated_at": 7,
        "created_at": "2999-01-01T00:00:00Z", "creator_user_id": [], "last_used_at": {},
    }));
    let faults = world.openrouter.faults();
    faults.add(nonsense.clone().on("POST", "/keys").forever());
    faults.add(nonsense.on("GET", "/key").forever());
    world.write(ROLE, json!({ "limit": 7 })).await.unwrap();
    for version in 2..5 {
        world.write(ROTATE, Value::Null).await.unwrap();
        assert_eq!(world.version().await, version);
    }
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_list_that_gives_a_key_in_service_the_name_of_a_lost_one_costs_no_key() {
    let world = World::with_role().await;
    let current = world.key_hash("app").await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("POST", "/keys"));
    world.write(ROTATE, Value::Null).await.unwrap_err();
    let mixed_up = Fault::edited_reply(json!({ "hash": current }));
    faults.add(mixed_up.on("GET", "/keys").forever());
    world.pass(120).await;
    assert!(world.openrouter.requests().to("GET", "/keys").len() > 1);
    let deletions = world.openrouter.requests().to("DELETE", "/keys/*");
    assert_eq!(deletions, []);
    assert_eq!(world.intents().len(), 1, "it is looked for again");

    faults.clear();
    world.pass(600).await;
    assert!(world.intents().is_empty());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_management_key_that_is_shown_other_keys_than_it_asks_for_does_not_see_them() {
    let world = World::with_role().await;
    let other = world.openrouter.account().add_management_key();
    let elsewhere = Fault::edited_reply(json!({ "hash": "0".repeat(64) }));
    let faults = world.openrouter.faults();
    faults.add(elsewhere.on("GET", "/keys/*").forever());
    let replacement = json!({ "management_key": other });
    let refusal = world.write("config", replacement).await.unwrap_err();
    assert!(refusal.to_string().contains("another key"), "{refusal}");
}

#[tokio::test]
async fn a_change_of_limits_that_is_answered_with_another_key_is_not_taken_for_done() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    let elsewhere = Fault::edited_reply(json!({ "hash": "0".repeat(64) }));
    faults.add(elsewhere.on("PATCH", "/keys/*"));
    world.write(ROLE, json!({ "limit": 7 })).await.unwrap();
    assert_eq!(world.openrouter.requests().to("PATCH", "/keys/*").len(), 1);
    world.pass(60).await;
    assert_eq!(world.openrouter.requests().to("PATCH", "/keys/*").len(), 2);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_change_of_limits_that_is_answered_with_other_limits_is_not_taken_for_done() {
    for change in [json!({ "limit": 7 }), json!({ "budget": 7 })] {
        let world = World::with_role().await;
        let otherwise = Fault::edited_reply(json!({ "limit": 1_000 }));
        let faults = world.openrouter.faults();
        faults.add(otherwise.on("PATCH", "/keys/*"));
        let answer = world.write(ROLE, change).await.unwrap();
        let warnings = answer.unwrap().warnings;
        let is_said = |one: &String| one.contains("other limits than were asked for");
        assert!(warnings.iter().any(is_said), "{warnings:?}");
        world.pass(60).await;
        assert_eq!(world.openrouter.requests().to("PATCH", "/keys/*").len(), 2);
        assert_eq!(world.violations().await, [""; 0]);
        assert_eq!(world.complaints().await, [""; 0]);
    }
}
