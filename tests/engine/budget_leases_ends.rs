//! The end of leases under a budget, and its cost: final readings; keys that are lost, gone, or enabled by
//! someone; mounts that are torn down or disabled.

use std::collections::BTreeMap;

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{FixedSystemView, Operation, Storage};

use crate::budget_leases::with_budget;
use crate::harness::{CI, World};

/// Leases a key that spends this much, and revokes the lease. Returns the key's hash.
async fn ended(world: &World, spent: f64) -> String {
    let hash = world.lease_hash().await;
    world.openrouter.account().set_usage(&hash, spent).unwrap();
    world.revoke().await.unwrap();
    hash
}

/// What new leases may take.
pub(crate) async fn available(world: &World) -> f64 {
    let usage = world.read("usage/ci").await.unwrap().unwrap();
    usage.data["available"].as_f64().unwrap()
}

fn alive(world: &World) -> usize {
    world.openrouter.account().keys().len()
}

#[tokio::test]
async fn a_lease_under_a_budget_costs_nothing_more_at_its_creation_and_two_requests_at_its_end() {
    let mut costs = Vec::new();
    for body in [json!({"limit": 1}), json!({"limit": 1, "budget": 10})] {
        let world = World::with_dynamic_role().await;
        world.write(CI, body).await.unwrap();
        world.quiet().await;
        let cost = |world: &World, before: (usize, usize)| {
            let node = world.node();
            let requests: BTreeMap<String, usize> = world.openrouter.requests().counts();
            world.openrouter.requests().reset();
            let calls = (
                node.storage.calls() - before.0,
                node.system.calls() - before.1,
            );
            (requests.values().sum::<usize>(), calls)
        };
        let before = |world: &World| (world.node().storage.calls(), world.node().system.calls());
        world.openrouter.requests().reset();
        let begun = before(&world);
        world.lease().await.unwrap();
        let creation = cost(&world, begun);
        let begun = before(&world);
        world.revoke().await.unwrap();
        world.pass(601).await;
        let (end, _) = cost(&world, begun);
        assert_eq!(alive(&world), 0);
        costs.push((creation, end));
    }
    let [(creation, end), (with_budget, end_with_budget)] = costs[..] else {
        unreachable!()
    };
    assert_eq!(with_budget, creation);
    assert_eq!(end_with_budget, end + 2);
}

#[tokio::test]
async fn a_role_without_a_budget_stores_nothing_about_budgets() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    for entry in world.snapshot() {
        let text = String::from_utf8(entry.value).unwrap();
        for word in ["pool", "\"grant\"", "ended", "budget"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[tokio::test]
async fn what_leases_have_spent_can_be_read() {
    let world = with_budget().await;
    ended(&world, 0.25).await;
    let living = world.lease_hash().await;
    let account = world.openrouter.account();
    account.set_usage(&living, 0.5).unwrap();
    let usage = || async { world.read("usage/ci").await.unwrap().unwrap().data };
    let before = usage().await;
    let states = |data: &Value| -> Vec<(String, f64)> {
        let keys = data.as_array().unwrap().iter();
        let shown = |key: &Value| {
            let state = key["state"].as_str().unwrap().to_owned();
            (state, key["spent"].as_f64().unwrap())
        };
        let mut shown: Vec<_> = keys.map(shown).collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        shown
    };
    let both = [("ended".to_owned(), 0.25), ("leased".to_owned(), 0.5)];
    assert_eq!(states(&before["keys"]), both);
    assert_eq!(before["spent_day"], 0.75);
    assert_eq!(before["remaining"], 9.25);
    assert_eq!(before["available"], 8.0);
    assert_eq!(before["since"], Value::Null);
    assert_eq!(before["resets_at"], "2026-11-21T00:00:00Z");
    // By then the second lease has ended too, and waits.
    world.pass(601).await;
    let after = usage().await;
    assert_eq!(after["spent_day"], 0.75);
    assert_eq!(after["spent_ever"], 0.75);
    assert_eq!(after["remaining"], 9.25);
    assert_eq!(after["available"], 8.75);
    assert_eq!(after["complete"], true);
}

#[tokio::test]
async fn a_lost_key_that_may_have_been_used_counts_for_what_it_spent() {
    let world = with_budget().await;
    world.die_during("after POST /keys", world.lease()).await;
    // The key was handed out, and the storage that shows this is lost.
    let lost = world.openrouter.account().keys().remove(0);
    world
        .openrouter
        .account()
        .set_usage(&lost.hash, 0.4)
        .unwrap();
    world.restart().await;
    world.quiet().await;
    assert_eq!(available(&world).await, 9.0);
    // It may be in use for the duration of a lease. Then it is disabled.
    world.pass(299).await;
    assert!(!world.seen(&lost.hash).disabled);
    world.pass(10).await;
    assert!(world.seen(&lost.hash).disabled);
    assert_eq!(available(&world).await, 9.0);
    world.pass(601).await;
    assert_eq!(alive(&world), 0);
    assert!(world.intents().is_empty());
    assert_eq!(available(&world).await, 9.6);
}

#[tokio::test]
async fn a_key_without_a_final_reading_counts_for_its_whole_limit() {
    let world = with_budget().await;
    let hash = ended(&world, 0.25).await;
    world.openrouter.account().delete_key(&hash).unwrap();
    world.pass(601).await;
    assert!(world.intents().is_empty());
    assert_eq!(available(&world).await, 9.0);
    let usage = world.read("usage/ci").await.unwrap().unwrap();
    assert_eq!(usage.data["complete"], false);
}

/// An expired key, for example, if OpenRouter does not let those be changed.
#[tokio::test]
async fn a_key_that_openrouter_refuses_to_disable_is_deleted_and_counts_for_its_whole_limit() {
    let world = with_budget().await;
    let hash = world.lease_hash().await;
    let refused = Fault::status(400).on("PATCH", "/keys/*").forever();
    world.openrouter.faults().add(refused);
    world.revoke().await.unwrap();
    assert!(world.seen(&hash).deleted_at.is_some());
    assert_eq!(available(&world).await, 9.0);
    world.pass(601).await;
    assert!(world.intents().is_empty());
    assert_eq!(available(&world).await, 9.0);
    let usage = world.read("usage/ci").await.unwrap().unwrap();
    assert_eq!(usage.data["complete"], false);
}

#[tokio::test]
async fn a_key_that_somebody_deletes_under_a_lease_counts_for_its_whole_limit() {
    let world = with_budget().await;
    let hash = world.lease_hash().await;
    // So that the comparison can see the account.
    world.lease().await.unwrap();
    let account = world.openrouter.account();
    account.delete_key(&hash).unwrap();
    world.restart().await;
    world.pass(650).await;
    assert!(!world.records().await.iter().any(|(_, key)| *key == hash));
    assert_eq!(available(&world).await, 8.0);
}

#[tokio::test]
async fn a_key_that_somebody_enables_before_its_final_reading_is_disabled_again() {
    let world = with_budget().await;
    let hash = ended(&world, 0.25).await;
    let account = world.openrouter.account();
    world.pass(300).await;
    account.set_disabled(&hash, false).unwrap();
    account.set_usage(&hash, 0.75).unwrap();
    // By the comparison at a start.
    world.restart().await;
    world.pass(10).await;
    assert!(world.seen(&hash).disabled);
    world.pass(585).await;
    assert_eq!(alive(&world), 1, "it may have had requests in flight");
    world.pass(20).await;
    assert_eq!(alive(&world), 0);
    assert_eq!(available(&world).await, 9.25);
    // And by the final reading.
    let hash = ended(&world, 0.25).await;
    account.set_disabled(&hash, false).unwrap();
    world.pass(601).await;
    assert!(world.seen(&hash).disabled);
    world.pass(601).await;
    assert_eq!(alive(&world), 0);
    assert_eq!(available(&world).await, 9.0);
}

#[tokio::test]
async fn keys_that_wait_for_their_final_readings_die_with_the_mount() {
    let world = with_budget().await;
    ended(&world, 0.25).await;
    ended(&world, 0.25).await;
    world.node().tick().await.unwrap();
    assert_eq!(alive(&world), 2);
    let tainted = FixedSystemView {
        tainted: true,
        ..FixedSystemView::default()
    };
    world.fail_over(tainted).await;
    world.quiet().await;
    world.node().tick().await.unwrap();
    assert_eq!(alive(&world), 0);
}

#[tokio::test]
async fn what_leases_spent_before_a_teardown_counts_after_it() {
    let world = with_budget().await;
    ended(&world, 0.25).await;
    let living = world.lease_hash().await;
    let account = world.openrouter.account();
    account.set_usage(&living, 0.5).unwrap();
    world.write("teardown", json!({})).await.unwrap();
    world.quiet().await;
    assert_eq!(alive(&world), 0);
    world.delete("teardown", json!({})).await.unwrap();
    world.quiet().await;
    assert_eq!(available(&world).await, 9.25);
}

#[tokio::test]
async fn a_clock_that_is_ahead_opens_no_window() {
    let world = with_budget().await;
    world.pass_until("2026-11-20T23:40:00Z").await;
    ended(&world, 0.25).await;
    world.pass(601).await;
    // Two minutes after midnight here, and before midnight there.
    world.time.set("2026-11-21T00:02:00Z".parse().unwrap());
    let openrouter = world.openrouter.clock();
    openrouter.set("2026-11-20T23:58:00Z".parse().unwrap());
    let node = world.node();
    let refusal = node.call(Operation::Read, "creds/ci", Value::Null).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(refusal.contains("has not begun at OpenRouter"), "{refusal}");
    assert_eq!(alive(&world), 0);
    openrouter.set("2026-11-21T00:02:00Z".parse().unwrap());
    node.call(Operation::Read, "creds/ci", Value::Null)
        .await
        .unwrap();
}

/// A final reading falls into that moment.
#[tokio::test]
async fn a_clock_that_was_ahead_for_a_moment_gives_nothing_back() {
    let world = with_budget().await;
    ended(&world, 0.75).await;
    world.pass(601).await;
    ended(&world, 0.25).await;
    let (now, ahead) = (world.time.now(), world.after(2 * 86_400));
    world.time.set(ahead);
    world.openrouter.clock().set(now);
    world.node().tick().await.unwrap();
    world.quiet().await;
    assert_eq!(alive(&world), 0);
    world.time.set(now);
    world.openrouter.clock().set(now);
    world.restart().await;
    world.quiet().await;
    assert_eq!(available(&world).await, 9.0);
    world.pass(601).await;
    ended(&world, 0.5).await;
    world.pass(601).await;
    assert_eq!(available(&world).await, 8.5);
    world.pass_until("2026-11-21T00:01:00Z").await;
    assert_eq!(available(&world).await, 10.0);
}

/// Otherwise its entry would grow with every lease.
#[tokio::test]
async fn a_role_does_not_remember_leases_that_are_gone() {
    let world = with_budget().await;
    for _ in 0..4 {
        ended(&world, 0.25).await;
        world.pass(601).await;
    }
    assert_eq!(available(&world).await, 9.0);
    let stored = world.storage.get(CI).await.unwrap().unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let counted = stored["entry"]["dynamic"]["pool"]["counted"].as_array();
    // The last lease had its record when the role was stored.
    assert_eq!(counted.unwrap().len(), 1, "{stored}");
}
