//! Whose limit it is when an application's calls are rejected: `usage` shows it in one line.

use openrouter_simulator::{LimitReset, NewGuardrail, WorkspaceBudget};
use serde_json::{Value, json};

use crate::budget::{spend, with_budget};
use crate::harness::{ROLE, ROTATE, World};

async fn limited_by(world: &World) -> Value {
    let usage = world.read("usage/app").await.unwrap().unwrap();
    usage.data["limited_by"].clone()
}

/// Spends until the calls are rejected. Returns how much that was.
async fn exhaust(world: &World) -> f64 {
    assert_eq!(limited_by(world).await, Value::Null);
    spend(world, &world.current().await, 500.0)
}

#[tokio::test]
async fn the_budget_is_named_as_the_current_keys_limit() {
    let world = with_budget().await;
    assert_eq!(exhaust(&world).await, 100.0);
    let told = "the limit of the current key is spent: 100 US dollars, until 2026-11-21T00:00:00Z";
    assert_eq!(limited_by(&world).await, told);
    world.write(ROLE, json!({"budget": 120})).await.unwrap();
    assert_eq!(exhaust(&world).await, 20.0);
}

#[tokio::test]
async fn a_guardrail_whose_budget_is_spent_is_named() {
    let world = with_budget().await;
    world.openrouter.account().add_guardrail(NewGuardrail {
        limit_usd: Some(30.0),
        reset_interval: Some(LimitReset::Weekly),
        ..NewGuardrail::named("strict")
    });
    world
        .write(ROLE, json!({"guardrail": "strict"}))
        .await
        .unwrap();
    assert_eq!(exhaust(&world).await, 30.0);
    let told = "the budget of the key's guardrail is spent: 30 US dollars, until \
                2026-11-23T00:00:00Z";
    assert_eq!(limited_by(&world).await, told);
}

#[tokio::test]
async fn a_workspace_whose_budget_is_spent_is_named() {
    let world = with_budget().await;
    let account = world.openrouter.account();
    let budget = WorkspaceBudget {
        id: String::new(),
        limit_usd: 10.0,
        interval: None,
    };
    let workspace = account.default_workspace();
    account
        .set_workspace_budgets(&workspace, vec![budget], false)
        .unwrap();
    assert_eq!(exhaust(&world).await, 10.0);
    let told = "the workspace's budget is spent: 10 US dollars";
    assert_eq!(limited_by(&world).await, told);
}

/// The same without a budget: it is the key's own limit.
#[tokio::test]
async fn the_limit_of_a_key_is_named_and_is_not_that_of_the_next_one() {
    let world = World::with_role().await;
    assert_eq!(exhaust(&world).await, 5.0);
    let told = "the limit of the current key is spent: 5 US dollars";
    assert_eq!(limited_by(&world).await, told);
    world.write("rotate-role/app", json!({})).await.unwrap();
    assert_eq!(limited_by(&world).await, Value::Null);
}

/// Somebody pulled the plug, and wants to know what the key has spent.
#[tokio::test]
async fn what_a_disabled_or_deleted_current_key_leaves_of_the_figures_can_be_read() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let new = world.current().await;
    spend(&world, &new, 5.0);
    let account = world.openrouter.account();
    account.set_disabled(&new, true).unwrap();
    let usage = || async { world.read("usage/app").await.unwrap().unwrap().data };
    let told = usage().await;
    assert_eq!(
        (&told["spent_day"], &told["complete"]),
        (&json!(45.0), &json!(true))
    );
    account.delete_key(&new).unwrap();
    let told = usage().await;
    assert_eq!(
        (&told["spent_day"], &told["complete"]),
        (&json!(40.0), &json!(false))
    );
    assert_eq!(told["keys"].as_array().unwrap().len(), 1);
}
