//! Clocks that jump: set manually, corrected after a wrong start, or on a machine that was suspended. Nothing
//! happens twice, nothing dies early, and nothing is left undone.

use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::{role_made_at, rotations, times};
use crate::harness::{ROLE, ROTATE, World};

const HOUR: i64 = 60 * 60;

/// Creation times and schedules of roles that are due at three in the morning of 21 November.
fn due_at_three() -> [(&'static str, Value); 3] {
    let window = json!({"rotation_schedule": "0 3 * * *", "rotation_window": "1h"});
    let time_of_day = json!({"rotation_period": "1d", "rotate_at": "03:00"});
    [
        ("2026-11-20T12:00:00Z", json!({"rotation_period": "15h"})),
        ("2026-11-20T03:00:00Z", time_of_day),
        ("2026-11-20T12:00:00Z", window),
    ]
}

#[tokio::test]
async fn a_clock_that_is_set_back_rotates_nothing_twice_and_kills_nothing_early() {
    for (made, schedule) in due_at_three() {
        let world = role_made_at(made, schedule.clone()).await;
        world.pass_until("2026-11-21T03:00:00Z").await;
        assert_eq!(world.version().await, 2, "{schedule}");
        let first = world.openrouter.account().keys().remove(0).hash;
        // It is three in the morning again, twice, and the role is checked each time.
        for round in 0..2 {
            world.time.set(world.after(-5 * HOUR));
            let change = json!({"description": format!("round {round}")});
            world.write(ROLE, change).await.unwrap();
            world.restart().await;
            world.pass(5 * HOUR).await;
        }
        assert_eq!(world.orders(), 2, "{schedule}");
        // A day after the rotation, by the clock, the previous key dies, and not earlier.
        world.pass_until("2026-11-22T02:59:59Z").await;
        assert!(world.lives(&first), "{schedule}");
        world.pass(1).await;
        assert!(!world.lives(&first), "{schedule}");
        assert_eq!(world.broken_promises(), [""; 0], "{schedule}");
        assert_eq!(world.violations().await, [""; 0], "{schedule}");
        assert_eq!(world.complaints().await, [""; 0], "{schedule}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_before_a_rotation_delays_it_by_no_more_than_the_jump() {
    for (made, schedule) in due_at_three() {
        let world = role_made_at(made, schedule.clone()).await;
        world.pass_until("2026-11-21T02:59:59Z").await;
        world.time.set(world.after(-9 * HOUR));
        world.restart().await;
        world.pass(9 * HOUR + 1).await;
        assert_eq!(
            rotations(&world),
            times(&["2026-11-21T03:00:00Z"]),
            "{schedule}"
        );
        assert_eq!(world.violations().await, [""; 0], "{schedule}");
    }
}

#[tokio::test]
async fn what_waits_for_its_next_try_is_done_after_a_clock_was_set_back() {
    let world = World::with_role().await;
    world.write("roles/other", json!({})).await.unwrap();
    for (method, path) in [
        ("POST", "/keys"),
        ("PATCH", "/keys/*"),
        ("DELETE", "/keys/*"),
    ] {
        let down = Fault::status(503).on(method, path).forever();
        world.openrouter.faults().add(down);
    }
    // A rotation with its recovery, a limit change, and a deletion.
    world.write(ROTATE, Value::Null).await.unwrap_err();
    world.write(ROLE, json!({"limit": 9})).await.unwrap();
    world.delete("roles/other", json!({})).await.unwrap_err();
    world.pass(2 * HOUR).await;
    world.time.set(world.after(-5 * HOUR));
    world.openrouter.faults().clear();
    world.pass(7 * HOUR).await;
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
    assert!(world.version().await >= 2);
    assert!(world.role("other").await.is_none());
}

#[tokio::test]
async fn after_a_long_sleep_everything_overdue_is_done_at_once_and_once() {
    for days in [1, 3, 40] {
        for (made, schedule) in due_at_three() {
            let world = role_made_at(made, schedule.clone()).await;
            let windowed = schedule.get("rotation_window").is_some();
            world.time.set(world.after(days * 24 * HOUR));
            world.quiet().await;
            // Noon is outside the window. Only a key that would expire does not wait for the next window.
            let rotated = usize::from(!windowed || days > 2);
            assert_eq!(world.orders(), 1 + rotated, "{days} days, {schedule}");
            world.pass(2 * HOUR).await;
            assert_eq!(world.orders(), 1 + rotated, "{days} days, {schedule}");
            assert_eq!(world.violations().await, [""; 0], "{days} days, {schedule}");
        }
    }
}

#[tokio::test]
async fn after_a_long_sleep_a_superseded_key_dies_at_once() {
    let world = World::with_role().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.time.set(world.after(601));
    world.quiet().await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.version().await, 2);
    assert_eq!(world.orders(), 2);
}

#[tokio::test]
async fn what_became_due_while_the_mount_was_sealed_is_done_at_once() {
    let world = World::with_role().await;
    world.node().life.end();
    world.time.set(world.after(5_000));
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.version().await, 2);
}

#[tokio::test]
async fn a_process_that_slept_makes_up_for_two_hundred_rotations_eight_requests_at_a_time() {
    let world = World::with_role().await;
    world.copy_role(200).await;
    world.restart().await;
    world.quiet().await;
    world.openrouter.set_latency(Duration::from_millis(2));
    world.time.set(world.after(48 * HOUR));
    world.quiet().await;
    assert_eq!(world.orders(), 1 + 201);
    assert_eq!(world.most_under_way(), 8);
    for number in 1..=200 {
        let key = world.key(&format!("copy-{number}")).await.unwrap();
        assert_eq!(key["key_version"], 2);
    }
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_clock_that_jumps_while_a_key_is_ordered_leads_to_one_key_that_works() {
    for jump in [-5 * HOUR, -1, 1, 5 * HOUR, 48 * HOUR] {
        let world = World::with_role().await;
        let slow = Fault::Slow {
            milliseconds: 30,
            after_effect: true,
        };
        world.openrouter.faults().add(slow.on("POST", "/keys"));
        world.time.set(world.after(HOUR));
        while world.orders() < 2 {
            tokio::task::yield_now().await;
        }
        world.time.set(world.after(jump));
        world.quiet().await;
        world.pass(600).await;
        assert_eq!(world.violations().await, [""; 0], "{jump} s");
        assert_eq!(world.version().await, 2, "{jump} s");
        assert_eq!(world.complaints().await, [""; 0], "{jump} s");
        // A day is longer than the key's intended lifetime: the key is rejected, and another one is created.
        let orders = if jump > 2 * HOUR { 3 } else { 2 };
        assert_eq!(world.orders(), orders, "{jump} s");
    }
}

/// The last search seems to have begun an hour from now.
#[tokio::test]
async fn a_lost_key_is_looked_for_at_once_although_the_clock_was_set_back_since_the_last_search() {
    let world = World::with_role().await;
    let (node, faults) = (world.node(), world.openrouter.faults());
    for back in [0, HOUR] {
        world.time.set(world.after(-back));
        faults.add(Fault::LostReply.on("POST", "/keys"));
        node.write(ROTATE, Value::Null).await.unwrap_err();
        assert_eq!(world.openrouter.account().keys().len(), 2);
        world.quiet().await;
        world.pass(30).await;
        assert_eq!(world.openrouter.account().keys().len(), 1, "{back}");
    }
    assert_eq!(world.violations().await, [""; 0]);
}
