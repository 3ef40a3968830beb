//! The end of keys under a budget, and their restoration: the hold, the final reading, adoption, the
//! comparison with OpenRouter, and the runs that end all keys.

use openrouter_simulator::{Fault, KeyChanges, LimitReset, NewKey};
use serde_json::{Value, json};

use crate::budget::{limits, role, spend, superseded_and_used, with_budget};
use crate::harness::{ROLE, ROTATE, World};

const RESTORE: &str = "restore-key/app";

/// 42 of a budget of 100 were spent by a key that has just been held, for two hours. Its limit is 46, that of
/// the current key 54.
async fn held() -> (World, String) {
    let world = with_budget().await;
    let body = json!({"revocation_hold": 7_200});
    world.write(ROLE, body).await.unwrap();
    let old = superseded_and_used(&world).await;
    world.pass(3_600).await;
    assert_eq!(limits(&world), [(46.0, true), (54.0, false)]);
    (world, old)
}

async fn restore(world: &World) -> Result<Vec<String>, String> {
    let body = json!({"key_version": 1, "duration": 3_600});
    let restored = world.write(RESTORE, body).await;
    let answer = restored.map_err(|reason| reason.to_string())?;
    Ok(answer.unwrap().warnings)
}

async fn held_keys(world: &World) -> usize {
    let role = world.role("app").await.unwrap();
    role["held_keys"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_held_key_is_disabled_once_read_while_it_is_held_and_deleted_later() {
    let (world, _) = held().await;
    world.openrouter.requests().reset();
    world.pass(601).await;
    // Its unspent amount is available, and the key still exists.
    assert_eq!(limits(&world), [(46.0, true), (58.0, false)]);
    assert_eq!(held_keys(&world).await, 1);
    let usage = world.read("usage/app").await.unwrap().unwrap().data;
    assert_eq!(
        (&usage["spent_day"], &usage["remaining"]),
        (&json!(42.0), &json!(58.0))
    );
    assert_eq!(usage["keys"][0]["state"], "held");
    world.pass(6_599).await;
    assert_eq!(limits(&world), [(58.0, false)]);
    assert_eq!(held_keys(&world).await, 0);
    let changes = world.openrouter.requests().counts();
    assert_eq!(changes.get("PATCH /keys/{hash}"), Some(&1), "{changes:?}");
    let usage = world.read("usage/app").await.unwrap().unwrap().data;
    assert_eq!(
        (&usage["spent_day"], &usage["complete"]),
        (&json!(42.0), &json!(true))
    );
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_held_key_works_again_with_a_share_for_which_the_current_one_is_lowered_first() {
    let (world, old) = held().await;
    world.pass(601).await;
    world.openrouter.requests().reset();
    let warnings = restore(&world).await.unwrap().join(" ");
    assert!(warnings.contains("47.8 US dollars"), "{warnings}");
    // A tenth of the 58 that were left, in addition to what it had spent.
    assert_eq!(limits(&world), [(47.8, false), (52.2, false)]);
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(spend(&world, &old, 100.0), 6.0, "a call of 1 may exceed it");
    world.pass(3_600).await;
    assert_eq!(limits(&world), [(47.8, true), (52.2, false)]);
    world.pass(601).await;
    assert_eq!(limits(&world), [(47.8, true), (52.0, false)]);
    world.pass(7_200).await;
    assert_eq!(limits(&world), [(52.0, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_key_that_waits_for_its_final_reading_can_be_restored_too() {
    let world = with_budget().await;
    superseded_and_used(&world).await;
    world.pass(3_600).await;
    assert_eq!(held_keys(&world).await, 1);
    restore(&world).await.unwrap();
    assert_eq!(limits(&world), [(47.4, false), (52.6, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_key_is_not_restored_unless_the_current_one_could_be_lowered() {
    for status in [403, 503] {
        let (world, old) = held().await;
        world.pass(601).await;
        let fault = Fault::status(status).on("PATCH", "/keys/*").nth(1);
        world.openrouter.faults().add(fault);
        restore(&world).await.unwrap_err();
        assert!(world.openrouter.account().key(&old).unwrap().disabled);
        assert_eq!(limits(&world), [(46.0, true), (58.0, false)]);
        // The change of the current key may arrive late.
        world.pass(1_300).await;
        assert_eq!(limits(&world), [(46.0, true), (58.0, false)], "{status}");
        restore(&world).await.unwrap();
        assert_eq!(limits(&world), [(47.8, false), (52.2, false)]);
    }
}

#[tokio::test]
async fn a_key_whose_raise_is_unclear_is_not_enabled_and_the_money_comes_back() {
    let (world, _) = held().await;
    world.pass(601).await;
    let lost = Fault::LostReply.on("PATCH", "/keys/*").nth(2);
    world.openrouter.faults().add(lost);
    restore(&world).await.unwrap_err();
    assert_eq!(limits(&world), [(47.8, true), (52.2, false)]);
    let refusal = restore(&world).await.unwrap_err();
    assert!(refusal.contains("not certain yet"), "{refusal}");
    world.pass(1_300).await;
    assert_eq!(limits(&world), [(47.8, true), (58.0, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_key_that_cannot_be_enabled_gives_its_share_back() {
    let (world, _) = held().await;
    world.pass(601).await;
    // After the two changes of limits.
    let refused = Fault::status(403).on("PATCH", "/keys/*").nth(3);
    world.openrouter.faults().add(refused);
    restore(&world).await.unwrap_err();
    world.pass(700).await;
    assert_eq!(limits(&world), [(47.8, true), (58.0, false)]);
    assert_eq!(held_keys(&world).await, 1);
}

#[tokio::test]
async fn a_key_is_not_restored_when_nothing_is_left_of_the_budget() {
    let (world, _) = held().await;
    world.pass(601).await;
    spend(&world, &world.current().await, 100.0);
    let refusal = restore(&world).await.unwrap_err();
    assert!(refusal.contains("has nothing left"), "{refusal}");
    assert_eq!(limits(&world), [(46.0, true), (58.0, false)]);
}

#[tokio::test]
async fn a_held_key_that_somebody_enables_counts_until_it_is_read_again() {
    let (world, old) = held().await;
    world.pass(601).await;
    let account = world.openrouter.account();
    account.set_disabled(&old, false).unwrap();
    spend(&world, &old, 2.0);
    world.restart().await;
    world.quiet().await;
    assert_eq!(limits(&world), [(46.0, true), (54.0, false)]);
    world.pass(601).await;
    assert_eq!(limits(&world), [(46.0, true), (56.0, false)]);
}

#[tokio::test]
async fn a_budget_that_is_written_while_a_key_is_held_counts_what_it_has_spent() {
    let world = World::with_role().await;
    let body = json!({"revocation_hold": 7_200});
    world.write(ROLE, body).await.unwrap();
    let old = world.current().await;
    spend(&world, &old, 2.0);
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(1_300).await;
    let body = json!({"budget": 20, "budget_reset": "daily"});
    world.write(ROLE, body).await.unwrap();
    assert_eq!(limits(&world)[1], (18.0, false));
    assert_eq!(world.complaints().await, [""; 0]);
    // Its limit was never part of the budget.
    restore(&world).await.unwrap();
    assert_eq!(limits(&world), [(3.8, false), (16.2, false)]);
}

#[tokio::test]
async fn an_adopted_key_has_what_it_has_not_spent_yet_in_the_window() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let key = account.create_key(NewKey {
        limit: Some(20.0),
        limit_reset: Some(LimitReset::Weekly),
        ..NewKey::named("chatbot")
    });
    spend(&world, &key.hash, 5.0);
    let mut body = role();
    body["api_key"] = key.secret().into();
    world.write(ROLE, body).await.unwrap();
    let adopted = account.key(&key.hash).unwrap();
    assert_eq!(
        (adopted.limit, adopted.limit_reset),
        (Some(100.0), Some(LimitReset::Daily))
    );
    let shown = world.role("app").await.unwrap();
    assert_eq!(
        (&shown["limit"], &shown["budget"]),
        (&Value::Null, &json!(100.0))
    );
    let usage = world.read("usage/app").await.unwrap().unwrap().data;
    assert_eq!(usage["remaining"], json!(95.0));
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(14.5, false), (85.5, false)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_key_that_cannot_be_held_to_the_budget_is_not_adopted() {
    let world = World::connected().await;
    let key = world
        .openrouter
        .account()
        .create_key(NewKey::named("chatbot"));
    let refused = Fault::status(403).on("PATCH", "/keys/*");
    world.openrouter.faults().add(refused);
    let mut body = role();
    body["api_key"] = key.secret().into();
    world.write(ROLE, body).await.unwrap_err();
    assert!(world.role("app").await.is_none());
    let left = world.openrouter.account().key(&key.hash).unwrap();
    assert_eq!(
        (left.limit, left.disabled, left.deleted_at),
        (None, false, None)
    );
}

#[tokio::test]
async fn the_comparison_knows_what_a_key_was_granted_and_applies_it_again() {
    let world = with_budget().await;
    superseded_and_used(&world).await;
    world.restart().await;
    world.quiet().await;
    let shown = world.role("app").await.unwrap();
    assert_eq!(
        shown["drift"],
        json!([]),
        "a share is no change of somebody's"
    );
    assert_eq!(limits(&world), [(46.0, false), (54.0, false)]);
    let changes = KeyChanges {
        limit: Some(Some(99.0)),
        ..KeyChanges::default()
    };
    let hash = world.current().await;
    world
        .openrouter
        .account()
        .change_key(&hash, &changes)
        .unwrap();
    world.restart().await;
    world.quiet().await;
    assert_eq!(limits(&world), [(46.0, false), (54.0, false)]);
    let shown = world.role("app").await.unwrap();
    assert!(
        shown["drift"].to_string().contains("limits_changed"),
        "{shown:?}"
    );
}

#[tokio::test]
async fn what_was_spent_before_a_teardown_counts_after_it() {
    let world = with_budget().await;
    superseded_and_used(&world).await;
    spend(&world, &world.current().await, 8.0);
    world.write("teardown", json!({})).await.unwrap();
    world.quiet().await;
    assert!(world.openrouter.account().keys().is_empty());
    world.delete("teardown", json!({})).await.unwrap();
    world.pass(60).await;
    assert_eq!(limits(&world), [(50.0, false)]);
    world.pass(4_300).await;
    assert_eq!(limits(&world), [(50.0, false)]);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn an_emergency_for_all_roles_takes_a_disabled_key_for_ended() {
    let world = with_budget().await;
    superseded_and_used(&world).await;
    world.pass(60).await;
    let body = json!({"rotation_grace_period": 0});
    let run = world
        .write("rotate-all/default", body)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(run.data["state"], "finished", "{run:?}");
    assert_eq!(
        limits(&world)
            .iter()
            .filter(|(_, disabled)| !disabled)
            .count(),
        1
    );
    world.pass(601).await;
    assert_eq!(limits(&world), [(58.0, false)]);
}
