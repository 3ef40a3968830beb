//! Budgets of dynamic roles: what leases may spend together, and what their ends return.

use futures::future::join_all;
use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Error, FixedSystemView, Operation};

use crate::harness::{CI, Harm, World};

/// A world with a dynamic role at noon. Its budget is 10 a day, and each lease takes 1 of it.
pub(crate) async fn with_budget() -> World {
    let world = World::with_dynamic_role().await;
    let body = json!({"limit": 1, "budget": 10, "budget_reset": "daily", "max_ttl": "5h"});
    world.write(CI, body).await.unwrap();
    world
}

/// Makes this many reads at once. Returns how many got a key, and the errors of the others.
async fn reads(world: &World, number: usize) -> (usize, Vec<String>) {
    let node = world.node();
    let answers = join_all((0..number).map(|_| node.read("creds/ci"))).await;
    let refusals = answers.into_iter().filter_map(|answer| answer.err());
    let refusals: Vec<String> = refusals.map(|reason| reason.to_string()).collect();
    (number - refusals.len(), refusals)
}

/// The limits of the living keys.
fn granted(world: &World) -> f64 {
    let keys = world.openrouter.account().keys();
    keys.iter().map(|key| key.limit.unwrap()).sum()
}

#[tokio::test]
async fn a_hundred_readers_at_once_get_what_there_is_and_no_more() {
    let world = with_budget().await;
    let (served, refusals) = reads(&world, 100).await;
    assert_eq!(served, 10);
    assert_eq!(granted(&world), 10.0);
    let told = "a lease takes 1; a lease has to end first";
    assert!(refusals[0].contains(told), "{}", refusals[0]);
    // The leases end five minutes from now, and each is settled ten minutes later.
    let refusal = reads(&world, 1).await.1.remove(0);
    let told = "there will be room at 2026-11-20T12:15:00Z at the earliest";
    assert!(refusal.contains(told), "{refusal}");
    // The same as a header for programs, rounded up.
    let refusal = world.node().read("creds/ci").await.unwrap_err();
    assert!(
        matches!(
            refusal,
            Error::Status {
                code: 429,
                retry_after: Some(901),
                ..
            }
        ),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn a_lease_that_ends_gives_back_what_it_did_not_spend_when_it_was_read() {
    let world = with_budget().await;
    let key = world.lease_hash().await;
    let account = world.openrouter.account();
    account.set_usage(&key, 0.25).unwrap();
    assert_eq!(reads(&world, 10).await.0, 9);
    world.effects.record(Harm::Crash, None);
    world.revoke().await.unwrap();
    let effects = world.effects.stop();
    let effects: Vec<_> = effects.iter().map(ToString::to_string).collect();
    assert!(
        effects.iter().all(|effect| !effect.contains("DELETE")),
        "{effects:?}"
    );
    let key = account.key(&key).unwrap();
    assert!(key.disabled);
    assert_eq!(reads(&world, 1).await.0, 0, "it may have calls in flight");
    world.pass(601).await;
    let is_alive = |hash: &str| account.keys().iter().any(|key| key.hash == hash);
    assert!(!is_alive(&key.hash));
    let node = world.node();
    let more = |limit: f64| node.call(Operation::Update, "creds/ci", json!({"limit": limit}));
    more(0.76).await.unwrap_err();
    more(0.75).await.unwrap();
    more(0.01).await.unwrap_err();
}

#[tokio::test]
async fn the_end_of_a_lease_continues_after_a_restart() {
    let world = with_budget().await;
    world.lease().await.unwrap();
    world.revoke().await.unwrap();
    world.restart().await;
    world.pass(601).await;
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.intents().is_empty());
    assert_eq!(reads(&world, 11).await.0, 10);
}

#[tokio::test]
async fn what_was_spent_counts_until_the_window_ends() {
    let world = with_budget().await;
    let key = world.lease_hash().await;
    let account = world.openrouter.account();
    account.set_usage(&key, 1.0).unwrap();
    world.revoke().await.unwrap();
    world.pass(601).await;
    world.restart().await;
    assert_eq!(reads(&world, 10).await.0, 9);
    world.pass_until("2026-11-21T00:01:01Z").await;
    world.pass(1).await;
    assert_eq!(reads(&world, 11).await.0, 10);
}

#[tokio::test]
async fn an_order_whose_outcome_is_unknown_counts_until_it_is_cleaned_up() {
    let world = with_budget().await;
    let lost = Fault::LostReply.on("POST", "/keys").nth(1);
    world.openrouter.faults().add(lost);
    let away = Fault::ResetBeforeEffect.on("GET", "/keys").forever();
    world.openrouter.faults().add(away);
    world.lease().await.unwrap_err();
    assert_eq!(reads(&world, 11).await.0, 9);
    assert_eq!(granted(&world), 10.0);
    world.openrouter.faults().clear();
    world.pass(1_900).await;
    assert_eq!(reads(&world, 11).await.0, 10);
}

#[tokio::test]
async fn on_a_mount_that_is_being_disabled_a_key_is_deleted_at_once() {
    let world = with_budget().await;
    world.lease().await.unwrap();
    let tainted = FixedSystemView {
        tainted: true,
        ..FixedSystemView::default()
    };
    world.fail_over(tainted).await;
    world.revoke().await.unwrap();
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn leases_that_were_made_without_a_budget_leave_no_room() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    let body = json!({"limit": 1, "budget": 10});
    let answer = world.write(CI, body).await.unwrap().unwrap();
    let warnings = answer.warnings.join(" ");
    assert!(
        warnings.contains("1 leases were made without a budget"),
        "{warnings}"
    );
    assert_eq!(reads(&world, 1).await.0, 0);
    world.revoke().await.unwrap();
    assert_eq!(reads(&world, 11).await.0, 10);
}

#[tokio::test]
async fn less_than_the_role_allows_can_be_asked_for_and_more_cannot() {
    let world = with_budget().await;
    let node = world.node();
    let read = |path, body: Value| node.call(Operation::Update, path, body);
    let answer = read("creds/ci", json!({"limit": 0.5, "ttl": "2m"})).await;
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer.data["limit"], json!(0.5));
    assert_eq!(answer.secret.unwrap().lease.ttl.as_secs(), 120);
    for (body, reason) in [
        (json!({"limit": 1.01}), "at most 1, the role's limit"),
        (json!({"limit": 0}), "limit must be more than 0"),
        (json!({"ttl": "1h"}), "the role's ttl"),
        (json!({"ttl": 0}), "ttl must be at least 1 second"),
    ] {
        let refusal = read("creds/ci", body).await.unwrap_err().to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }
    let rotating = World::with_role().await;
    let node = rotating.node();
    let refused = node.call(Operation::Update, "creds/app", json!({"ttl": 60}));
    let refused = refused.await.unwrap_err().to_string();
    assert!(
        refused.contains("only be requested from a dynamic role"),
        "{refused}"
    );
}

/// Each role has its own room: a new role with the same name starts from zero.
#[tokio::test]
async fn a_role_that_is_written_anew_has_all_of_its_budget() {
    for path in ["forget-role/ci", CI] {
        let world = World::with_dynamic_role().await;
        let body = json!({"credential_type": "dynamic", "limit": 1, "budget": 1});
        world.write(CI, body.clone()).await.unwrap();
        let key = world.lease_hash().await;
        let account = world.openrouter.account();
        account.set_usage(&key, 1.0).unwrap();
        world.revoke().await.unwrap();
        world.pass(601).await;
        let spent = reads(&world, 1).await.1.remove(0);
        let told = "the budget has to be raised first";
        assert!(spent.contains(told), "{spent}");
        match path {
            CI => world.delete(CI, json!({})).await.unwrap(),
            forget => world.write(forget, json!({})).await.unwrap(),
        };
        world.write(CI, body).await.unwrap();
        assert_eq!(reads(&world, 2).await.0, 1, "{path}");
    }
}

/// When the other lease ends, the remaining budget is exactly what one more lease takes.
#[tokio::test]
async fn the_first_lease_that_leaves_just_enough_makes_room() {
    let world = with_budget().await;
    world.write(CI, json!({"budget": 2})).await.unwrap();
    let key = world.lease_hash().await;
    let account = world.openrouter.account();
    account.set_usage(&key, 1.0).unwrap();
    world.revoke().await.unwrap();
    world.pass(601).await;
    assert_eq!(reads(&world, 1).await.0, 1);
    // It ends in five minutes, and is settled ten minutes later.
    let told = format!("there will be room at {} at the earliest", world.after(900));
    let refusal = reads(&world, 1).await.1.remove(0);
    assert!(refusal.contains(&told), "{refusal}");
}

/// A window that begins returns only what ended leases have spent.
#[tokio::test]
async fn the_next_window_makes_room_only_if_ended_leases_have_spent_something() {
    let until_tomorrow = "there will be room at 2026-11-21T00:01:00Z at the earliest";
    for (spent, served, told) in [
        (0.0, 1, "a lease has to end first"),
        (1.0, 0, until_tomorrow),
    ] {
        let world = with_budget().await;
        world.write(CI, json!({"budget": 1})).await.unwrap();
        let key = world.lease_hash().await;
        let account = world.openrouter.account();
        account.set_usage(&key, spent).unwrap();
        world.revoke().await.unwrap();
        world.pass(601).await;
        let (got, refusals) = reads(&world, 2).await;
        assert_eq!(got, served);
        assert!(refusals[0].contains(told), "{}", refusals[0]);
    }
}
