//! `rotation_schedule`: dates that not every month has, and windows that were missed.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::{role_made_at, rotations, times};
use crate::harness::{ROLE, World};

/// In most tests it is Friday noon; the window is open from 3 to 4 in the morning.
const MADE: &str = "2026-11-20T12:00:00Z";

fn nightly() -> Value {
    json!({"rotation_schedule": "0 3 * * *", "rotation_window": "1h"})
}

/// The server is down from now until then.
async fn down_until(world: &World, end: &str) {
    world.node().life.end();
    world.time.set(end.parse().unwrap());
    world.restart().await;
}

#[tokio::test]
async fn the_31st_comes_in_the_months_that_have_one() {
    let world = role_made_at(MADE, json!({"rotation_schedule": "0 0 31 * *"})).await;
    world.pass_until("2027-12-31T00:00:00Z").await;
    let expected = [
        "2026-12-31T00:00:00Z",
        "2027-01-31T00:00:00Z",
        "2027-03-31T00:00:00Z",
        "2027-05-31T00:00:00Z",
        "2027-07-31T00:00:00Z",
        "2027-08-31T00:00:00Z",
        "2027-10-31T00:00:00Z",
        "2027-12-31T00:00:00Z",
    ];
    assert_eq!(rotations(&world), times(&expected));
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn the_29th_of_february_comes_in_leap_years_and_the_key_lives_until_then() {
    let world = role_made_at(MADE, json!({"rotation_schedule": "0 0 29 2 *"})).await;
    for year in [2028, 2032, 2036] {
        let next = format!("{year}-02-29T00:00:00Z");
        let role = world.role("app").await.unwrap();
        assert_eq!(role["next_vault_rotation"], next);
        world.pass_until(&next).await;
        assert_eq!(world.violations().await, [""; 0], "{year}");
        assert_eq!(world.complaints().await, [""; 0], "{year}");
    }
    assert_eq!(world.orders(), 4);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn where_a_day_of_the_month_and_one_of_the_week_are_given_either_is_enough() {
    // 2027-02-28 is a Sunday.
    let body = json!({"rotation_schedule": "30 6 1 * sun"});
    let world = role_made_at("2027-02-27T00:00:00Z", body).await;
    world.pass_until("2027-03-07T06:30:00Z").await;
    let expected = [
        "2027-02-28T06:30:00Z",
        "2027-03-01T06:30:00Z",
        "2027-03-07T06:30:00Z",
    ];
    assert_eq!(rotations(&world), times(&expected));
}

#[tokio::test]
async fn a_window_that_was_missed_is_shown_and_skipped() {
    let world = role_made_at(MADE, nightly()).await;
    down_until(&world, "2026-11-21T05:00:00Z").await;
    world.pass(600).await;
    assert_eq!(world.version().await, 1);
    let complaints = world.complaints().await;
    assert!(
        complaints[0].contains("2026-11-21T03:00:00Z was missed"),
        "{complaints:?}"
    );
    let role = world.role("app").await.unwrap();
    assert_eq!(role["rotation_status"], "failed");
    assert_eq!(role["next_vault_rotation"], "2026-11-22T03:00:00Z");
    world.pass_until("2026-11-22T05:00:00Z").await;
    assert_eq!(rotations(&world), times(&["2026-11-22T03:00:00Z"]));
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn of_several_windows_that_were_missed_the_first_is_shown_and_none_made_up_for() {
    let monthly = json!({
        "rotation_schedule": "0 0 31 * *",
        "rotation_window": "2h",
        "key_max_lifetime": 0,
    });
    let world = role_made_at(MADE, monthly).await;
    // December's and January's; February has no 31st.
    down_until(&world, "2027-02-02T00:00:00Z").await;
    world.pass(24 * 60 * 60).await;
    let complaints = world.complaints().await;
    assert_eq!(
        complaints,
        [
            "app: \"the window that opened at 2026-12-31T00:00:00Z was missed, the next rotation is at \
          2027-03-31T00:00:00Z\""
        ]
    );
    assert_eq!(world.orders(), 1);
    world.pass_until("2027-03-31T00:00:00Z").await;
    assert_eq!(world.version().await, 2);
}

#[tokio::test]
async fn a_window_that_is_still_open_when_the_server_comes_back_is_used_at_once() {
    for back in [
        "2026-11-21T03:00:01Z",
        "2026-11-21T03:59:59.9Z",
        "2026-11-21T04:00:00Z",
    ] {
        let world = role_made_at(MADE, nightly()).await;
        down_until(&world, back).await;
        world.quiet().await;
        assert_eq!(rotations(&world), times(&[back]));
        assert_eq!(world.complaints().await, [""; 0], "{back}");
        // Once, and then in the window of the next night.
        world.pass_until("2026-11-22T03:00:00Z").await;
        assert_eq!(rotations(&world), times(&[back, "2026-11-22T03:00:00Z"]));
    }
}

#[tokio::test]
async fn a_window_that_openrouter_spent_in_an_outage_is_not_made_up_for_at_another_time() {
    let world = role_made_at(MADE, nightly()).await;
    world.pass_until("2026-11-21T02:59:00Z").await;
    let down = Fault::status(503).on("POST", "/keys").forever();
    world.openrouter.faults().add(down);
    world.pass_until("2026-11-21T04:30:00Z").await;
    let tries = world.openrouter.requests().to("POST", "/keys");
    let window = times(&["2026-11-21T03:00:00Z", "2026-11-21T04:00:00Z"]);
    assert!(tries.len() > 8, "{tries:?}");
    assert!(
        tries[1..]
            .iter()
            .all(|t| window[0] <= t.at && t.at <= window[1]),
        "{tries:?}"
    );
    let complaints = world.complaints().await;
    assert!(complaints[0].contains("503"), "{complaints:?}");
    world.openrouter.faults().clear();
    world.pass_until("2026-11-22T03:30:00Z").await;
    assert_eq!(rotations(&world), times(&["2026-11-22T03:00:00Z"]));
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_key_does_not_expire_however_many_windows_are_missed() {
    let mut body = nightly();
    body["rotation_grace_period"] = "10h".into();
    let world = role_made_at(MADE, body).await;
    let key = world.openrouter.account().keys().remove(0);
    // Running by day, down by night.
    for night in ["2026-11-21", "2026-11-22"] {
        world.pass_until(&format!("{night}T02:59:59Z")).await;
        down_until(&world, &format!("{night}T05:00:00Z")).await;
    }
    // Two intervals with their windows after its creation, which is its grace period before it expires.
    let latest = "2026-11-22T14:00:00Z";
    let role = world.role("app").await.unwrap();
    assert_eq!(role["next_vault_rotation"], latest);
    let complaints = world.complaints().await;
    assert!(
        complaints[0].contains("2026-11-21T03:00:00Z was missed"),
        "{complaints:?}"
    );
    world.pass_until("2026-11-23T02:59:00Z").await;
    assert_eq!(rotations(&world), times(&[latest]));
    assert_eq!(
        key.expires_at,
        Some("2026-11-23T00:00:00Z".parse().unwrap())
    );
    assert_eq!(world.broken_promises(), [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_window_that_opened_before_anybody_asked_for_it_was_not_missed() {
    let by_hand = json!({"disable_automated_rotation": true, "rotation_schedule": "0 3 * * *", "rotation_window": "1h"});
    for (before, written) in [
        (json!({}), nightly()),
        (by_hand, json!({"disable_automated_rotation": false})),
    ] {
        let world = role_made_at(MADE, before).await;
        world.pass_until("2026-11-25T12:00:00Z").await;
        world.write(ROLE, written.clone()).await.unwrap();
        assert_eq!(world.complaints().await, [""; 0], "{written}");
        world.pass_until("2026-11-26T03:00:00Z").await;
        assert_eq!(rotations(&world), times(&["2026-11-26T03:00:00Z"]));
        // A window that opens later can be missed, whatever else is changed about the role.
        down_until(&world, "2026-11-27T04:30:00Z").await;
        world
            .write(ROLE, json!({"description": "changed"}))
            .await
            .unwrap();
        let complaints = world.complaints().await;
        assert!(
            complaints[0].contains("2026-11-27T03:00:00Z was missed"),
            "{complaints:?}"
        );
    }
}
