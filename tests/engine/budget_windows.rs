//! The windows of a budget: resets that are noticed late, wrong clocks, and changed windows.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::budget::{limits, spend, with_budget};
use crate::harness::{ROLE, ROTATE};

/// The reset is noticed late, because the current key could not be read. Meanwhile an older key ends that has
/// spent in the new window.
#[tokio::test]
async fn what_a_key_spent_that_ended_before_the_reset_was_noticed_is_not_spent_again() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 90.0);
    world.pass_until("2026-11-20T23:01:00Z").await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(91.0, false), (9.0, false)]);
    let away = Fault::status(500).on("GET", "/key").forever();
    world.openrouter.faults().add(away);
    world.pass_until("2026-11-21T00:00:30Z").await;
    let first = spend(&world, &old, 500.0);
    assert!(first > 90.0);
    world.pass_until("2026-11-21T00:15:00Z").await;
    world.openrouter.faults().clear();
    world.pass_until("2026-11-21T02:00:00Z").await;
    let both = first + spend(&world, &world.current().await, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_moment_does_not_put_the_reset_off() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 60.0);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(601).await;
    assert_eq!(limits(&world), [(40.0, false)]);
    let (now, ahead) = (world.time.now(), world.after(10 * 86_400));
    world.time.set(ahead);
    world.openrouter.clock().set(now);
    world.node().tick().await.unwrap();
    world.quiet().await;
    world.time.set(now);
    world.openrouter.clock().set(now);
    world.restart().await;
    world.pass(3 * 86_400).await;
    assert_eq!(limits(&world), [(100.0, false)]);
}

/// What is unclear is settled ten minutes later, not ten days later.
#[tokio::test]
async fn a_clock_that_was_ahead_when_the_work_began_leaves_nothing_unclear() {
    let world = with_budget().await;
    let (now, ahead) = (world.time.now(), world.after(10 * 86_400));
    world.time.set(ahead);
    world.openrouter.clock().set(now);
    world.restart().await;
    world.quiet().await;
    world.time.set(now);
    world.openrouter.clock().set(now);
    let lost = Fault::LostReply.on("PATCH", "/keys/*");
    world.openrouter.faults().add(lost);
    drop(world.write(ROLE, json!({"budget": 200})).await);
    world.pass(1_300).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(20.0, false), (180.0, false)]);
}

#[tokio::test]
async fn a_longer_window_counts_what_ended_keys_have_spent_in_it() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 80.0);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(86_400).await;
    let body = json!({"budget_reset": "monthly"});
    world.write(ROLE, body).await.unwrap();
    world.pass(1_300).await;
    let usage = world.read("usage/app").await.unwrap().unwrap().data;
    assert_eq!(usage["spent_month"], json!(80.0));
    assert_eq!(
        (limits(&world), &usage["remaining"]),
        (vec![(20.0, false)], &json!(20.0))
    );
}

#[tokio::test]
async fn a_longer_window_counts_what_a_held_key_has_spent_in_it() {
    let world = with_budget().await;
    let body = json!({"revocation_hold": "20d"});
    world.write(ROLE, body).await.unwrap();
    let old = world.current().await;
    spend(&world, &old, 80.0);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(2 * 3_600).await;
    world.pass_until("2026-11-21T12:00:00Z").await;
    let body = json!({"budget_reset": "monthly"});
    world.write(ROLE, body).await.unwrap();
    world.pass(1_300).await;
    assert_eq!(limits(&world)[1], (20.0, false));
}

/// Most of what the superseded key has spent this month it has spent on other days.
#[tokio::test]
async fn a_shorter_window_leaves_an_older_key_no_more_than_its_share_of_it() {
    let world = with_budget().await;
    let monthly = json!({"budget_reset": "monthly"});
    world.write(ROLE, monthly).await.unwrap();
    let old = world.current().await;
    spend(&world, &old, 40.0);
    world.pass(86_400).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(46.0, false), (54.0, false)]);
    let daily = json!({"budget": 10, "budget_reset": "daily"});
    world.write(ROLE, daily).await.unwrap();
    let first = spend(&world, &old, 500.0);
    world.pass(1_300).await;
    let both = first + spend(&world, &old, 500.0);
    let all = both + spend(&world, &world.current().await, 500.0);
    assert!(all <= 11.0, "{all} of 10");
    assert_eq!(limits(&world), [(1.0, false), (9.0, false)]);
}

/// The answer to the second change shows what the key has spent this month.
#[tokio::test]
async fn after_a_change_to_a_shorter_window_a_new_key_gets_what_is_left_of_that() {
    let world = with_budget().await;
    let monthly = json!({"budget_reset": "monthly"});
    world.write(ROLE, monthly).await.unwrap();
    spend(&world, &world.current().await, 40.0);
    world.write(ROLE, json!({"budget": 150})).await.unwrap();
    world.pass(86_400).await;
    let daily = json!({"budget": 10, "budget_reset": "daily"});
    world.write(ROLE, daily).await.unwrap();
    world.pass(1_300).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(1.0, false), (9.0, false)]);
}

/// It was known before the reset that the key is gone. The key counts in full in the window after it.
#[tokio::test]
async fn a_key_that_was_gone_before_the_reset_costs_the_window_after_it_nothing() {
    let world = with_budget().await;
    let old = world.current().await;
    world.pass_until("2026-11-20T23:30:00Z").await;
    world.openrouter.account().delete_key(&old).unwrap();
    world.restart().await;
    world.quiet().await;
    assert_ne!(
        world.current().await,
        old,
        "it was replaced before the reset"
    );
    world.pass_until("2026-11-21T12:00:00Z").await;
    assert_eq!(limits(&world), [(100.0, false)]);
}

/// A report from just after the reset still shows what was spent before it.
#[tokio::test]
async fn one_report_that_is_late_over_the_reset_costs_the_window_after_it_nothing() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 60.0);
    world.pass_until("2026-11-20T23:30:00Z").await;
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass_until("2026-11-21T00:00:30Z").await;
    let late = Fault::edited_reply(json!({"usage_daily": 60.0})).on("PATCH", "/keys/*");
    world.openrouter.faults().add(late.nth(1));
    world.pass_until("2026-11-21T12:00:00Z").await;
    assert_eq!(limits(&world), [(100.0, false)]);
}

/// Around the reset it is unknown in which window a call is counted.
#[tokio::test]
async fn a_scheduled_rotation_waits_until_the_reset_is_over_and_one_by_hand_does_not() {
    let world = with_budget().await;
    // Noon to two minutes before midnight.
    let body = json!({"rotation_period": 43_080});
    world.write(ROLE, body).await.unwrap();
    spend(&world, &world.current().await, 40.0);
    world.pass_until("2026-11-21T00:00:59Z").await;
    assert_eq!(world.version().await, 1);
    assert_eq!(limits(&world), [(100.0, false)]);
    // OpenRouter has reset the counter.
    world.pass_until("2026-11-21T00:11:00Z").await;
    assert_eq!(world.version().await, 2);
    assert_eq!(limits(&world), [(10.0, false), (90.0, false)]);
    assert_eq!(world.violations().await, [""; 0]);

    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    world.pass_until("2026-11-20T23:59:30Z").await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(46.0, false), (54.0, false)]);
    world.pass_until("2026-11-21T00:15:00Z").await;
    let both = spend(&world, &old, 500.0) + spend(&world, &world.current().await, 500.0);
    assert!((100.0..=101.0).contains(&both), "{both} of 100");
    assert_eq!(world.violations().await, [""; 0]);
}
