//! With a budget, a role is without money no longer than counting requires, whatever fails.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::budget::{limits, spend, with_budget};
use crate::harness::{ROLE, ROTATE, World};

/// The key is not known everywhere yet. The engine waits for that when it verifies the key, but not when it
/// raises the limit.
#[tokio::test]
async fn a_new_key_that_is_not_found_when_it_is_raised_does_not_take_over() {
    let world = with_budget().await;
    let unknown = Fault::status(404).on("PATCH", "/keys/*").nth(2);
    world.openrouter.faults().add(unknown);
    drop(world.write(ROTATE, json!({})).await);
    world.pass(2 * 86_400).await;
    assert_eq!(limits(&world), [(100.0, false)]);
}

#[tokio::test]
async fn a_superseded_key_that_is_gone_when_a_budget_is_written_costs_the_role_nothing() {
    let world = World::connected().await;
    let body = json!({"rotation_period": "30d", "rotation_grace_period": 3_600, "ttl": 300});
    world.write(ROLE, body).await.unwrap();
    let old = world.current().await;
    world.write(ROTATE, json!({})).await.unwrap();
    world.openrouter.account().delete_key(&old).unwrap();
    world.write(ROLE, json!({"budget": 50})).await.unwrap();
    world.pass(3 * 86_400).await;
    assert_ne!(limits(&world).last().unwrap().0, 0.0);
}

#[tokio::test]
async fn a_budget_for_a_role_without_a_limit_does_not_stop_its_current_key() {
    let world = World::connected().await;
    let body = json!({"rotation_period": "30d", "rotation_grace_period": 3_600, "ttl": 300});
    world.write(ROLE, body).await.unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    world.write(ROLE, json!({"budget": 50})).await.unwrap();
    assert!(limits(&world)[1].0 > 0.0, "{:?}", limits(&world));
}

#[tokio::test]
async fn an_emergency_under_a_budget_waits_behind_no_hanging_requests() {
    let world = std::sync::Arc::new(with_budget().await);
    let body = json!({"credential_type": "dynamic"});
    world.write("roles/ci", body).await.unwrap();
    let held = Fault::held().on("POST", "/keys").times(8);
    world.openrouter.faults().add(held);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let node = world.node();
        readers.spawn(async move { drop(node.read("creds/ci").await) });
    }
    world.holding(8).await;
    let node = world.node();
    let body = json!({"rotation_grace_period": 0});
    let emergency = node.write(ROTATE, body);
    let patience = std::time::Duration::from_secs(20);
    let came = tokio::time::timeout(patience, emergency).await;
    came.expect("it waits for nothing").unwrap();
}

/// The same amount could be requested again at once: it is already counted.
#[tokio::test]
async fn an_unclear_raise_in_an_emergency_is_sent_again_at_once() {
    let world = with_budget().await;
    let bad = Fault::status(502).on("PATCH", "/keys/*").nth(2);
    world.openrouter.faults().add(bad);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(120).await;
    assert_eq!(limits(&world).last().unwrap(), &(100.0, false));
}

/// A key whose connection no longer works does not delay the steps of the other keys.
#[tokio::test]
async fn a_key_that_cannot_be_read_does_not_keep_the_money_of_another_locked() {
    let world = with_budget().await;
    let first = world.current().await;
    spend(&world, &first, 10.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let second = world.current().await;
    world.pass(60).await;
    world.write(ROTATE, json!({})).await.unwrap();
    // Both are disabled eventually. The first cannot be read.
    let unreadable = Fault::status(403).on("GET", &format!("/keys/{first}"));
    world.openrouter.faults().add(unreadable.forever());
    world.pass(3 * 3_600).await;
    assert_ne!(second, first);
    // 100 less the 10 that the first has spent and its share of 9.
    assert_eq!(limits(&world).last().unwrap(), &(81.0, false));
}

/// No reading can settle what the key may spend, so only its successor ends the doubt.
#[tokio::test]
async fn a_key_that_is_gone_while_its_raise_is_unclear_is_replaced() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    let unclear = Fault::LostReply.on("PATCH", "/keys/*").forever();
    world.openrouter.faults().add(unclear);
    drop(world.write(ROLE, json!({"budget": 200})).await);
    world.openrouter.account().delete_key(&old).unwrap();
    world.openrouter.faults().clear();
    world.restart().await;
    world.pass(4_300).await;
    assert_ne!(world.current().await, old, "it was replaced");
    // Until the window ends, the key counts for all that it may have been granted.
    assert_eq!(limits(&world), [(0.0, false)]);
    world.pass_until("2026-11-21T00:02:00Z").await;
    assert_eq!(limits(&world), [(200.0, false)]);
}

/// Its role has given it up, and takes no step of the budget.
#[tokio::test]
async fn a_key_that_a_cancelled_teardown_left_alive_is_replaced_when_its_raise_is_settled() {
    let world = with_budget().await;
    let old = world.current().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("PATCH", "/keys/*").forever());
    drop(world.write(ROLE, json!({"budget": 200})).await);
    faults.add(Fault::status(500).on("DELETE", "/keys/*").forever());
    world.write("teardown", json!({})).await.unwrap();
    assert_eq!(world.openrouter.account().keys().len(), 1);
    world.delete("teardown", json!({})).await.unwrap();
    faults.clear();
    world.restart().await;
    world.pass(2 * 3_600).await;
    assert_ne!(world.current().await, old, "it was replaced");
    assert_eq!(limits(&world), [(200.0, false)]);
}

/// Nobody compares, so nobody finds that it is gone.
#[tokio::test]
async fn a_key_whose_raise_is_unclear_and_of_which_nobody_knows_that_it_is_gone_is_replaced() {
    let world = with_budget().await;
    let never = json!({"reconcile_interval": 0});
    world.write("config", never).await.unwrap();
    let old = world.current().await;
    let unclear = Fault::LostReply.on("PATCH", "/keys/*").forever();
    world.openrouter.faults().add(unclear);
    drop(world.write(ROLE, json!({"budget": 200})).await);
    world.openrouter.account().delete_key(&old).unwrap();
    world.openrouter.faults().clear();
    world.pass(1_300).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(0.0, false)]);
    world.pass_until("2026-11-21T00:02:00Z").await;
    assert_eq!(limits(&world), [(200.0, false)]);
}
