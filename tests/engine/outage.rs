//! OpenRouter is down, for minutes or for a day.

use jiff::Timestamp;
use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::{ROLE, ROTATE, World};

const DAY: i64 = 24 * 60 * 60;

/// A role whose key outlives an outage of a day.
async fn long_lived() -> World {
    let world = World::connected().await;
    // Its requests do not count here.
    let body = json!({"reconcile_interval": 0});
    world.write("config", body).await.unwrap();
    world
        .write(ROLE, json!({"rotation_period": "2d"}))
        .await
        .unwrap();
    world.quiet().await;
    world
}

fn seconds_between(times: &[Timestamp]) -> Vec<f64> {
    let pairs = times.windows(2);
    pairs
        .map(|pair| pair[1].duration_since(pair[0]).as_secs_f64())
        .collect()
}

fn times_of_orders(world: &World) -> Vec<Timestamp> {
    let orders = world.openrouter.requests().to("POST", "/keys");
    orders.iter().map(|order| order.at).collect()
}

#[tokio::test]
async fn in_an_outage_of_a_day_the_key_is_served_and_at_most_one_order_is_unresolved() {
    let world = long_lived().await;
    world.openrouter.requests().reset();
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on_anything().forever());
    world.pass(3 * DAY).await;
    let first = world.key("app").await.unwrap();
    assert_eq!(first["key_version"], 1);

    // The outcome of the first order cannot be found out, so there is no second one.
    assert_eq!(world.orders(), 1);
    assert_eq!(world.intents().len(), 1);
    let listings = world.openrouter.requests().to("GET", "/keys");
    let listings: Vec<_> = listings.iter().map(|listing| listing.at).collect();
    // The role's attempts and those of the recovery each come at least once an hour, and at most twice.
    let last_hours = world.after(-10 * 60 * 60);
    let late = listings.iter().filter(|at| **at > last_hours).count();
    assert!((15..=40).contains(&late), "{late} listings in ten hours");
    assert!(listings.len() < 150, "{} listings in a day", listings.len());

    let role = world.role("app").await.unwrap();
    assert_eq!(role["rotation_status"], "failed");
    let message = role["last_rotation_message"].as_str().unwrap();
    assert!(message.contains("503"), "{message}");
    assert!(world.broken_promises().is_empty());
}

#[tokio::test]
async fn a_first_key_that_is_asked_for_again_and_again_in_an_outage_is_ordered_once() {
    let world = World::connected().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on_anything().forever());
    for _ in 0..10 {
        world.write(ROLE, json!({})).await.unwrap_err();
        world.pass(60).await;
    }
    assert_eq!(world.orders(), 1);
    assert_eq!(world.intents().len(), 1);
    world.openrouter.faults().clear();
    world.write(ROLE, json!({})).await.unwrap();
    assert_eq!(world.version().await, 1);
}

#[tokio::test]
async fn a_rejected_rotation_is_retried_at_growing_intervals() {
    let world = long_lived().await;
    world.openrouter.requests().reset();
    world
        .openrouter
        .faults()
        .add(Fault::status(429).on("POST", "/keys").forever());
    world.pass(3 * DAY).await;
    assert_eq!(world.version().await, 1);

    let waits = seconds_between(&times_of_orders(&world));
    for (attempt, wait) in waits.iter().enumerate() {
        let longest = 2_f64.powi(i32::try_from(attempt).unwrap()).min(3_600.0);
        // An attempt takes no time on this clock.
        assert!(
            (longest / 2.0..=longest).contains(wait),
            "try {attempt}: {wait}"
        );
    }
    assert!(
        waits.len() > 30,
        "an hour at most between two tries: {waits:?}"
    );
    let jittered = waits.iter().filter(|wait| wait.fract() != 0.0).count();
    assert!(jittered > waits.len() / 2, "{waits:?}");
    assert!(world.intents().is_empty());
    assert!(world.openrouter.requests().to("GET", "/keys").is_empty());
}

#[tokio::test]
async fn orders_that_leave_no_trace_are_bounded_and_the_next_waits_until_one_has_settled() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("POST", "/keys").forever());
    for _ in 0..30 {
        world.write(ROTATE, json!({})).await.unwrap_err();
    }
    assert_eq!(world.intents().len(), 8);
    assert_eq!(world.orders(), 1 + 8);
    faults.clear();
    let refusal = world.write(ROTATE, json!({})).await.unwrap_err();
    let refusal = refusal.to_string();
    assert!(refusal.contains("they may still take effect"), "{refusal}");
    world.pass(600).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn the_schedules_own_tries_leave_few_intents_where_only_creations_fail() {
    let world = long_lived().await;
    let fault = Fault::status(503).on("POST", "/keys").forever();
    world.openrouter.faults().add(fault);
    world.pass(2 * DAY).await;
    let mut most = 0;
    for minute in 0..90 {
        world.pass(60).await;
        let now = world.intents().len();
        most = most.max(now);
        if minute > 30 {
            assert!(now <= 2, "{now} intents at minute {minute}");
        }
    }
    assert!((2..=8).contains(&most), "{most}");
    world.openrouter.faults().clear();
    world.pass(3_700).await;
    assert_eq!(world.version().await, 2);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn the_first_success_after_an_outage_clears_the_status_and_leaves_nothing_behind() {
    let world = long_lived().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on_anything().forever());
    world.pass(2 * DAY + 600).await;
    assert_eq!(world.complaints().await.len(), 1);
    world.openrouter.faults().clear();
    world.pass(3_600).await;
    assert_eq!(world.version().await, 2);
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_pause_that_openrouter_asks_for_is_honoured() {
    let world = long_lived().await;
    world.pass(2 * DAY - 1).await;
    world.openrouter.requests().reset();
    world
        .openrouter
        .faults()
        .add(Fault::rate_limited(120).on("POST", "/keys").times(2));
    world.pass(600).await;
    let waits = seconds_between(&times_of_orders(&world));
    assert_eq!(waits, [120.0, 120.0]);
    assert_eq!(world.version().await, 2);
}

#[tokio::test]
async fn a_revocation_that_fails_is_shown_until_it_succeeds_and_holds_nothing_up() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(500).on("DELETE", "/keys/*").forever());
    world.pass(3_600 + 600 + 30).await;
    let complaints = world.complaints().await;
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("may still work"), "{complaints:?}");
    let role = world.role("app").await.unwrap();
    let attempts = role["superseded_keys"][0]["revocation_attempts"]
        .as_u64()
        .unwrap();
    assert!((3..=8).contains(&attempts), "{attempts} in half a minute");
    world.pass(3_600).await;
    assert_eq!(world.version().await, 3, "the next rotation came on time");
    world.openrouter.faults().clear();
    world.pass(3_000).await;
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_limit_change_that_is_unclear_is_repeated_until_it_is_clear() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::LostReply.on("PATCH", "/keys/*"));
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on("PATCH", "/keys/*").times(3));
    let answer = world
        .write(ROLE, json!({"limit": 9}))
        .await
        .unwrap()
        .unwrap();
    let warnings = answer.warnings.join("; ");
    assert!(warnings.contains("the engine retries"), "{warnings}");
    world.pass(60).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn a_limit_change_that_is_refused_changes_nothing() {
    let world = World::with_role().await;
    let before = world.role("app").await;
    world
        .openrouter
        .faults()
        .add(Fault::status(400).on("PATCH", "/keys/*"));
    world
        .write(ROLE, json!({"limit": 9, "description": "new"}))
        .await
        .unwrap_err();
    assert_eq!(world.role("app").await, before);
}

#[tokio::test]
async fn a_role_whose_connection_is_forgotten_says_so() {
    let world = World::with_role().await;
    world
        .write("forget-connection/default", json!({}))
        .await
        .unwrap();
    world.pass(3_600).await;
    let complaints = world.complaints().await;
    assert!(
        complaints[0].contains("there is no connection"),
        "{complaints:?}"
    );
    let key = json!({
        "management_key": world.openrouter.management_key(),
        "api_url": world.gate_url(),
    });
    world.write("config", key).await.unwrap();
    world.pass(3_600).await;
    assert_eq!(world.complaints().await, [""; 0]);
    assert!(world.version().await >= 2);
}
