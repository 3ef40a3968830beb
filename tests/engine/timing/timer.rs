//! The engine's own timer, alone and exact; and the server's periodic call, which is the safety net.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{role_made_at, rotations, times};
use crate::harness::{Harm, ROLE, ROTATE, World, role};

/// Just before this time.
fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_nanos(1)).unwrap()
}

#[tokio::test]
async fn without_any_call_a_rotation_comes_at_the_moment_that_it_is_due() {
    let table = [
        (json!({"rotation_period": 3_601}), "2026-11-20T13:00:01.25Z"),
        (
            json!({"rotation_period": "1d", "rotate_at": "12:01"}),
            "2026-11-21T12:01:00Z",
        ),
        (
            json!({"rotation_schedule": "*/7 * * * *"}),
            "2026-11-20T12:07:00Z",
        ),
    ];
    for (schedule, due) in table {
        let world = role_made_at("2026-11-20T12:00:00.25Z", schedule.clone()).await;
        let due: Timestamp = due.parse().unwrap();
        world.time.set(just_before(due));
        world.quiet().await;
        assert_eq!(world.orders(), 1, "{schedule}");
        world.time.set(due);
        world.quiet().await;
        assert_eq!(rotations(&world), [due], "{schedule}");
    }
}

#[tokio::test]
async fn without_any_call_a_superseded_key_dies_at_the_moment_that_its_grace_ends() {
    let world = World::with_role().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let end = world.after(600);
    let living = || world.openrouter.account().keys().len();
    world.time.set(just_before(end));
    world.quiet().await;
    assert_eq!(living(), 2);
    world.time.set(end);
    world.quiet().await;
    assert_eq!(living(), 1);
}

#[tokio::test]
async fn without_any_call_a_day_of_rotations_and_revocations_is_on_time() {
    let world = World::with_role().await;
    world.pass_without_calls(24 * 60 * 60).await;
    let on_the_hour = |hour| world.made_at()[0] + SignedDuration::from_hours(hour);
    assert_eq!(
        rotations(&world),
        (1..=24).map(on_the_hour).collect::<Vec<_>>()
    );
    let grace = SignedDuration::from_mins(10);
    let keys = world.openrouter.account().all_keys();
    let died: Vec<_> = keys.iter().filter_map(|key| key.deleted_at).collect();
    let due: Vec<_> = (1..24).map(|hour| on_the_hour(hour) + grace).collect();
    assert_eq!(died, due);
    assert_eq!(world.broken_promises(), [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_timer_that_wakes_nobody_costs_no_more_than_the_time_to_the_servers_next_call() {
    let world = World::with_role().await;
    world.node().clock.wake_nobody();
    world.time.set(world.after(3_630));
    world.quiet().await;
    assert_eq!(world.orders(), 1, "the timer is lost");
    world.node().tick().await.unwrap();
    world.quiet().await;
    assert_eq!(world.version().await, 2);
    world.time.set(world.after(600));
    world.node().tick().await.unwrap();
    world.quiet().await;
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_keeper_that_a_bug_has_ended_starts_again_at_the_servers_next_call() {
    let world = World::connected().await;
    world.write(ROLE, role()).await.unwrap();
    world.quiet().await;
    // The key was not read, so only the keeper sleeps: the task that empties the cache does not run either.
    world.node().clock.panic_at_next_wake();
    world.time.set(world.after(3_600));
    world.quiet().await;
    assert_eq!(world.orders(), 1, "the keeper is dead");
    world.node().tick().await.unwrap();
    world.quiet().await;
    assert_eq!(world.version().await, 2);
    // From then on its timer works again.
    world.pass_without_calls(3_600).await;
    assert_eq!(world.version().await, 3);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_keeper_that_cannot_read_its_roles_when_it_begins_tries_again_at_the_servers_next_call() {
    let world = role_made_at(
        "2026-11-20T12:00:00Z",
        json!({"rotation_period": 60, "rotation_grace_period": 60, "ttl": 30}),
    )
    .await;
    world.node().life.end();
    world.time.set(world.after(60));
    // The first storage call of the next node.
    world.effects.record(Harm::Fault, Some(0));
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.effects.stop().len(), 1);
    assert_eq!(world.orders(), 1);
    world.node().tick().await.unwrap();
    world.quiet().await;
    assert_eq!(rotations(&world), times(&["2026-11-20T12:01:00Z"]));
}
