//! `rotate_at`: the rotation runs at that time of day, the first time after the period has elapsed.

use serde_json::{Value, json};

use super::{role_made_at, rotations, times};
use crate::harness::ROTATE;

fn days_at(days: u32, time: &str) -> Value {
    json!({"rotation_period": format!("{days}d"), "rotate_at": time})
}

#[tokio::test]
async fn a_rotation_comes_at_its_time_of_day_whatever_month_or_year_ends() {
    type Row<'a> = (u32, &'a str, &'a str, [&'a str; 3]);
    let table: [Row; 8] = [
        // The end of February, in a common year and in a leap year.
        (
            1,
            "03:00",
            "2027-02-26T12:00:00Z",
            [
                "2027-02-28T03:00:00Z",
                "2027-03-01T03:00:00Z",
                "2027-03-02T03:00:00Z",
            ],
        ),
        (
            1,
            "03:00",
            "2028-02-27T02:59:59Z",
            [
                "2028-02-28T03:00:00Z",
                "2028-02-29T03:00:00Z",
                "2028-03-01T03:00:00Z",
            ],
        ),
        (
            30,
            "03:00",
            "2028-01-30T03:00:00Z",
            [
                "2028-02-29T03:00:00Z",
                "2028-03-30T03:00:00Z",
                "2028-04-29T03:00:00Z",
            ],
        ),
        (
            365,
            "00:00",
            "2027-02-28T00:00:00Z",
            [
                "2028-02-28T00:00:00Z",
                "2029-02-27T00:00:00Z",
                "2030-02-27T00:00:00Z",
            ],
        ),
        // The end of a month, and of a year.
        (
            1,
            "23:59",
            "2027-04-29T00:00:00Z",
            [
                "2027-04-30T23:59:00Z",
                "2027-05-01T23:59:00Z",
                "2027-05-02T23:59:00Z",
            ],
        ),
        (
            7,
            "00:00",
            "2026-12-24T23:59:59.5Z",
            [
                "2027-01-01T00:00:00Z",
                "2027-01-08T00:00:00Z",
                "2027-01-15T00:00:00Z",
            ],
        ),
        // The period ends exactly at the time of day, and just after it.
        (
            30,
            "12:30",
            "2026-12-02T12:30:00Z",
            [
                "2027-01-01T12:30:00Z",
                "2027-01-31T12:30:00Z",
                "2027-03-02T12:30:00Z",
            ],
        ),
        (
            30,
            "12:30",
            "2026-12-02T12:30:00.001Z",
            [
                "2027-01-02T12:30:00Z",
                "2027-02-01T12:30:00Z",
                "2027-03-03T12:30:00Z",
            ],
        ),
    ];
    for (days, time, made, expected) in table {
        let world = role_made_at(made, days_at(days, time)).await;
        for next in expected {
            let role = world.role("app").await.unwrap();
            assert_eq!(role["next_vault_rotation"], next, "{days} days at {time}");
            world.pass_until(next).await;
        }
        assert_eq!(rotations(&world), times(&expected), "{days} days at {time}");
        assert_eq!(world.violations().await, [""; 0]);
        assert_eq!(world.complaints().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_rotation_that_comes_hours_late_is_followed_by_one_on_time() {
    let world = role_made_at("2027-02-26T03:00:00Z", days_at(1, "03:00")).await;
    world.node().life.end();
    world.time.set("2027-02-27T22:15:30Z".parse().unwrap());
    world.restart().await;
    world.pass_until("2027-03-01T03:00:00Z").await;
    let expected = [
        "2027-02-27T22:15:30Z",
        "2027-02-28T03:00:00Z",
        "2027-03-01T03:00:00Z",
    ];
    assert_eq!(rotations(&world), times(&expected));
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn after_a_rotation_by_hand_the_whole_period_elapses_before_the_time_of_day_counts() {
    let world = role_made_at("2028-02-27T03:00:00Z", days_at(1, "03:00")).await;
    world.pass_until("2028-02-27T15:00:00Z").await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass_until("2028-03-01T03:00:00Z").await;
    let expected = [
        "2028-02-27T15:00:00Z",
        "2028-02-29T03:00:00Z",
        "2028-03-01T03:00:00Z",
    ];
    assert_eq!(rotations(&world), times(&expected));
}
