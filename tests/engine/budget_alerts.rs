//! Alerts of budgets: each is raised once per window, from readings that are taken for another reason.

use std::collections::BTreeMap;

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Event, FixedSystemView, Storage};

use crate::budget::{role, spend, with_budget};
use crate::custody::status::metric;
use crate::harness::{CI, ROLE, ROTATE, World};

/// An hour. A comparison may come earlier than that by a random part.
const COMPARED: i64 = 3_660;

/// The alerts that were sent since the last call.
fn alerts(world: &World) -> Vec<(String, String)> {
    let events: Vec<Event> = world.node().events.take();
    let alerts = events.into_iter();
    let alerts = alerts.filter(|event| event.kind == "openrouter/budget-alert");
    alerts
        .map(|event| {
            let field = |name| event.metadata[name].clone();
            (field("level"), field("spent"))
        })
        .collect()
}

fn one(level: &str, spent: &str) -> [(String, String); 1] {
    [(level.to_owned(), spent.to_owned())]
}

async fn attention(world: &World) -> Value {
    let status = world.read("status").await.unwrap().unwrap().data;
    status["attention"].clone()
}

async fn warnings(world: &World, path: &str) -> Vec<String> {
    world.read(path).await.unwrap().unwrap().warnings
}

/// The value of the gauge for this level.
async fn gauge(world: &World, level: &str) -> f64 {
    let sample = format!("vault_openrouter_budget_alerts{{level=\"{level}\"}}");
    metric(world, &sample).await.unwrap()
}

#[tokio::test]
async fn a_comparison_that_sees_a_large_part_of_the_budget_spent_reports_it_once() {
    let world = with_budget().await;
    spend(&world, &world.current().await, 79.0);
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), []);
    assert_eq!(attention(&world).await["count"], json!(0));
    spend(&world, &world.current().await, 2.0);
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), one("nearly_spent", "81"));
    let told = "the role's budget is nearly spent: 81 of 100 US dollars";
    let shown = &attention(&world).await["roles"]["app"][0];
    assert!(shown.as_str().unwrap().starts_with(told), "{shown}");
    let warned = warnings(&world, ROLE).await;
    assert!(warned[0].contains(told), "{warned:?}");
    assert_eq!(gauge(&world, "nearly_spent").await, 1.0);
    assert_eq!(gauge(&world, "spent").await, 0.0);
    world.pass(2 * COMPARED).await;
    assert_eq!(alerts(&world), []);
    spend(&world, &world.current().await, 500.0);
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), one("spent", "100"));
    assert_eq!(gauge(&world, "nearly_spent").await, 0.0);
    assert_eq!(gauge(&world, "spent").await, 1.0);
    // The next day is another window.
    world.pass_until("2026-11-21T06:00:00Z").await;
    assert_eq!(attention(&world).await["count"], json!(0));
    assert_eq!(gauge(&world, "spent").await, 0.0);
    assert_eq!(warnings(&world, ROLE).await, [""; 0]);
    assert_eq!(alerts(&world), []);
    spend(&world, &world.current().await, 90.0);
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), one("nearly_spent", "90"));
}

#[tokio::test]
async fn another_node_does_not_repeat_it_and_shows_it() {
    let world = with_budget().await;
    spend(&world, &world.current().await, 85.0);
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), one("nearly_spent", "85"));
    world.fail_over(FixedSystemView::default()).await;
    world.take_over().await;
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), []);
    assert_eq!(attention(&world).await["count"], json!(1));
    assert_eq!(gauge(&world, "nearly_spent").await, 1.0);
}

#[tokio::test]
async fn an_alert_costs_no_request_and_one_write() {
    let mut costs = Vec::new();
    for spent in [70.0, 85.0] {
        let world = with_budget().await;
        spend(&world, &world.current().await, spent);
        world.openrouter.requests().reset();
        let before = world.node().storage.calls();
        world.pass(COMPARED).await;
        let requests: BTreeMap<String, usize> = world.openrouter.requests().counts();
        costs.push((requests, world.node().storage.calls() - before));
        assert_eq!(alerts(&world).len(), usize::from(spent > 80.0));
    }
    assert_eq!(costs[0].0, costs[1].0);
    // The keeper reads the role before it writes it.
    assert_eq!(costs[1].1 - costs[0].1, 2);
}

#[tokio::test]
async fn a_rotation_and_a_read_of_the_usage_report_what_they_read() {
    let world = with_budget().await;
    spend(&world, &world.current().await, 80.0);
    world.write(ROTATE, json!({})).await.unwrap();
    world.quiet().await;
    assert_eq!(alerts(&world), one("nearly_spent", "80"));

    let world = with_budget().await;
    spend(&world, &world.current().await, 30.0);
    world.write(ROTATE, json!({})).await.unwrap();
    spend(&world, &world.current().await, 55.0);
    assert_eq!(alerts(&world), []);
    world.read("usage/app").await.unwrap();
    world.quiet().await;
    assert_eq!(alerts(&world), one("nearly_spent", "85"));
}

/// The spending of ended keys counts, and is not counted twice.
#[tokio::test]
async fn what_ended_keys_have_spent_counts() {
    let world = with_budget().await;
    spend(&world, &world.current().await, 50.0);
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(2 * 3_600).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    spend(&world, &world.current().await, 29.0);
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), []);
    spend(&world, &world.current().await, 1.0);
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), one("nearly_spent", "80"));
}

/// Around midnight a report may still be about the day before.
#[tokio::test]
async fn a_report_that_lags_is_not_taken_for_the_next_window() {
    let world = with_budget().await;
    world
        .openrouter
        .billing()
        .change(|rules| rules.reporting_lag_seconds = 300);
    world.pass_until("2026-11-20T23:58:00Z").await;
    spend(&world, &world.current().await, 95.0);
    drop(alerts(&world));
    world.pass_until("2026-11-21T00:02:00Z").await;
    world.read("usage/app").await.unwrap();
    world.pass_until("2026-11-21T00:12:00Z").await;
    world.read("usage/app").await.unwrap();
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), []);
}

#[tokio::test]
async fn a_change_of_the_budget_or_of_the_percentage_starts_over() {
    let world = with_budget().await;
    spend(&world, &world.current().await, 85.0);
    world.read("usage/app").await.unwrap();
    world.quiet().await;
    assert_eq!(alerts(&world), one("nearly_spent", "85"));
    world.write(ROLE, json!({"budget": 200})).await.unwrap();
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), []);
    assert_eq!(attention(&world).await["count"], json!(0));
    let body = json!({"budget_alert_percent": 40});
    world.write(ROLE, body).await.unwrap();
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), one("nearly_spent", "85"));
    let stored = world.storage.get(ROLE).await.unwrap().unwrap();
    let mut stored: Value = serde_json::from_slice(&stored).unwrap();
    let role = &mut stored["entry"]["rotating"];
    let at = role["alert"]["at"].take();
    assert!(at.is_string(), "{role}");
    let window = json!({"reset": "daily", "start": "2026-11-20T00:00:00Z"});
    let introduced =
        json!({"window": window, "level": "nearly_spent", "spent": 85_000_000, "at": null});
    assert_eq!(role["alert"], introduced);
    let percent = &role["definition"]["terms"]["budget_alert_percent"];
    assert_eq!(*percent, json!(40));
    // Without a budget, nothing is left of the alert.
    world.write(ROLE, json!({"budget": null})).await.unwrap();
    world.pass(COMPARED).await;
    let stored = world.storage.get(ROLE).await.unwrap().unwrap();
    let stored = String::from_utf8(stored).unwrap();
    assert!(!stored.contains("alert"), "{stored}");
    assert_eq!(attention(&world).await["count"], json!(0));
}

#[tokio::test]
async fn the_leases_of_a_dynamic_role_are_added_up() {
    let world = World::with_dynamic_role().await;
    let body = json!({
        "ttl": "5h", "max_ttl": "5h", "limit": 5, "budget": 10, "budget_reset": "daily",
    });
    world.write(CI, body).await.unwrap();
    let account = world.openrouter.account();
    let first = world.lease_hash().await;
    account.set_usage(&first, 4.5).unwrap();
    let second = world.lease_hash().await;
    account.set_usage(&second, 3.0).unwrap();
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), []);
    // The final reading of an ended lease is taken.
    account.set_usage(&first, 5.0).unwrap();
    world.revoke().await.unwrap();
    world.pass(601).await;
    assert_eq!(alerts(&world), one("nearly_spent", "8"));
    let told = "the role's budget is nearly spent: 8 of 10 US dollars";
    let warned = warnings(&world, CI).await;
    assert!(warned[0].contains(told), "{warned:?}");
    account.set_usage(&second, 5.0).unwrap();
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), one("spent", "10"));
    // Nothing else happens to the role at the end of the window.
    world.pass_until("2026-11-21T00:00:01Z").await;
    assert_eq!(gauge(&world, "spent").await, 0.0);
    assert_eq!(attention(&world).await["count"], json!(0));
    assert_eq!(warnings(&world, CI).await, [""; 0]);
}

#[tokio::test]
async fn a_read_of_what_leases_have_spent_reports_what_it_read() {
    let world = World::with_dynamic_role().await;
    let body = json!({"limit": 5, "budget": 5, "budget_reset": "daily"});
    world.write(CI, body).await.unwrap();
    let hash = world.lease_hash().await;
    let account = world.openrouter.account();
    account.set_usage(&hash, 4.5).unwrap();
    world.read("usage/ci").await.unwrap();
    world.quiet().await;
    assert_eq!(alerts(&world), one("nearly_spent", "4.5"));
}

#[tokio::test]
async fn a_deposed_node_reports_nothing() {
    let world = World::connected().await;
    world.write(ROLE, role()).await.unwrap();
    world.quiet().await;
    spend(&world, &world.current().await, 85.0);
    drop(alerts(&world));
    world.node().storage.deposed_when_putting(ROLE);
    world.read("usage/app").await.unwrap();
    world.quiet().await;
    assert_eq!(alerts(&world), []);
}

#[tokio::test]
async fn a_write_that_is_refused_does_not_repeat_it() {
    let world = with_budget().await;
    spend(&world, &world.current().await, 85.0);
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), one("nearly_spent", "85"));
    let limited = Fault::rate_limited(600).on("PATCH", "/keys/*").times(4);
    world.openrouter.faults().add(limited);
    let refused = world.node().write(ROLE, json!({"limit": 25})).await;
    refused.unwrap_err();
    world.openrouter.faults().clear();
    world.pass(COMPARED).await;
    assert_eq!(alerts(&world), []);
    assert_eq!(attention(&world).await["count"], json!(1));
}
