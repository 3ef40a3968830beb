//! Concurrency: readers while the key is replaced or revoked, and several callers that change a role.

// All of this is test code; declaring it as such makes clippy allow what it allows in tests.
#[cfg(test)]
mod endings;
#[cfg(test)]
mod failing_changes;
#[cfg(test)]
mod readers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Error;

use crate::harness::{ROLE, ROTATE, World};
use readers::Readers;

const AN_HOUR: i64 = 3_600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_keys_while_people_rotate_and_change_the_role() {
    let world = Arc::new(World::with_role().await);
    let readers = Readers::of(&world);
    let node = world.node();
    for round in 0..10 {
        world.time.set(world.after(1));
        let [limits, words] = changes(round);
        let all = async {
            tokio::join!(
                node.write(ROTATE, Value::Null),
                node.write(ROLE, limits),
                node.write(ROLE, words),
            )
        };
        let (rotated, limited, described) = readers.during(all).await;
        for answer in [rotated, limited, described] {
            answer.unwrap();
        }
    }
    let seen = readers.finish().await;
    assert!(seen.refusals.is_empty(), "{:?}", seen.refusals);
    nothing_was_lost(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_keys_while_the_schedule_rotates_and_people_change_the_role() {
    let world = Arc::new(World::with_role().await);
    let readers = Readers::of(&world);
    let node = world.node();
    for round in 0..10 {
        let [limits, words] = changes(round);
        world.time.set(world.after(AN_HOUR));
        let all = async {
            let rotated = until(async || current_version(&world).await == round + 2);
            tokio::join!(node.write(ROLE, limits), node.write(ROLE, words), rotated)
        };
        let (limited, described, ()) = readers.during(all).await;
        for answer in [limited, described] {
            answer.unwrap();
        }
    }
    let seen = readers.finish().await;
    assert!(seen.refusals.is_empty(), "{:?}", seen.refusals);
    assert_eq!(seen.keys.len(), 11, "every key has had readers");
    nothing_was_lost(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_gets_a_key_that_an_emergency_has_revoked() {
    let world = Arc::new(World::with_role().await);
    let readers = Readers::of(&world);
    let node = world.node();
    for _ in 0..10 {
        let rotated = async {
            let at_once = json!({"rotation_grace_period": 0});
            node.write(ROTATE, at_once).await.unwrap();
            world.openrouter.account().keys().len()
        };
        let living = readers.during(rotated).await;
        assert_eq!(living, 1, "the key before it is dead when the answer comes");
    }
    let seen = readers.finish().await;
    assert!(seen.refusals.is_empty(), "{:?}", seen.refusals);
    assert_eq!(seen.keys.len(), 11, "every key has had readers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_role_that_is_deleted_get_the_key_or_are_told() {
    let world = Arc::new(World::with_role().await);
    let readers = Readers::of(&world);
    let deleted = readers.during(world.node().delete(ROLE, json!({}))).await;
    deleted.unwrap();
    is_told(&readers.finish().await.refusals);
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_role_whose_deletion_is_refused_get_its_key_again() {
    let world = Arc::new(World::with_role().await);
    let refused = Fault::status(403).on("DELETE", "/keys/*").times(5);
    world.openrouter.faults().add(refused);
    let readers = Readers::of(&world);
    for _ in 0..5 {
        let answer = readers.during(world.node().delete(ROLE, json!({}))).await;
        answer.unwrap_err();
        world.key("app").await.unwrap();
    }
    is_told(&readers.finish().await.refusals);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_role_whose_deletion_is_unclear_never_get_its_key_again() {
    let unclear = [
        Fault::LostReply,
        Fault::status(502),
        Fault::status(502).after_the_effect(),
    ];
    for fault in unclear {
        let world = Arc::new(World::with_role().await);
        let rule = fault.clone().on("DELETE", "/keys/*");
        world.openrouter.faults().add(rule);
        let readers = Readers::of(&world);
        let answer = readers.during(world.node().delete(ROLE, json!({}))).await;
        answer.unwrap_err();
        world.key("app").await.unwrap_err();
        world.time.set(world.after(AN_HOUR));
        let gone = until(async || world.role("app").await.is_none());
        readers.during(gone).await;
        is_told(&readers.finish().await.refusals);
        assert!(world.openrouter.account().keys().is_empty(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_do_not_wait_for_each_other() {
    let world = Arc::new(World::connected().await);
    let writers = (0..50).map(|number| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let node = world.node();
            let (role, rotate) = (format!("roles/r{number}"), format!("rotate-role/r{number}"));
            node.write(&role, json!({})).await.unwrap();
            node.write(&rotate, Value::Null).await.unwrap();
            node.delete(&role, json!({})).await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.intents().is_empty());
    assert!(world.openrouter.requests().high_water_mark() <= 8);
}

#[tokio::test]
async fn a_rotation_that_waits_behind_another_is_told_that_it_was_done() {
    let world = World::with_role().await;
    let slow = Fault::Slow {
        milliseconds: 50,
        after_effect: true,
    };
    world.openrouter.faults().add(slow.on("POST", "/keys"));
    let node = world.node();
    let rotate = || node.write(ROTATE, Value::Null);
    let (first, second) = tokio::join!(rotate(), rotate());
    first.unwrap();
    let refusal = second.unwrap_err().to_string();
    assert!(refusal.contains("was rotated at"), "{refusal}");
    assert_eq!(world.orders(), 2);
}

#[tokio::test]
async fn an_emergency_that_waits_behind_a_rotation_is_carried_out_all_the_same() {
    let world = World::with_role().await;
    let slow = Fault::Slow {
        milliseconds: 50,
        after_effect: true,
    };
    world.openrouter.faults().add(slow.on("POST", "/keys"));
    let node = world.node();
    let (first, second) = tokio::join!(
        node.write(ROTATE, Value::Null),
        node.write(ROTATE, json!({"rotation_grace_period": 0})),
    );
    first.unwrap();
    second.unwrap();
    assert_eq!(world.version().await, 3);
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_person_who_rotates_while_the_schedule_does_is_told_that_it_was_done() {
    let world = World::with_role().await;
    rotate_by_schedule(&world).await;
    let refusal = world.node().write(ROTATE, Value::Null).await.unwrap_err();
    let conflict = matches!(refusal, Error::Status { code: 409, .. });
    assert!(conflict, "{refusal:?}");
    assert!(refusal.to_string().contains("was rotated at"), "{refusal}");
    assert_eq!(world.orders(), 2);
    assert_eq!(world.version().await, 2);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_person_who_rotates_while_the_schedule_fails_gets_a_rotation() {
    let world = World::with_role().await;
    let refused = Fault::status(402).on("POST", "/keys");
    world.openrouter.faults().add(refused);
    rotate_by_schedule(&world).await;
    world.node().write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.version().await, 2);
    world.pass(60).await;
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_rotation_by_hand_that_is_under_way_when_the_schedule_comes_due_is_the_only_one() {
    let world = World::with_role().await;
    world.time.set(world.after(AN_HOUR - 1));
    world.openrouter.set_latency(Duration::from_millis(50));
    let node = world.node();
    let due = async {
        until(async || world.orders() == 2).await;
        world.time.set(world.after(1));
    };
    let (rotated, ()) = tokio::join!(node.write(ROTATE, Value::Null), due);
    rotated.unwrap();
    world.pass(AN_HOUR - 1).await;
    assert_eq!(world.orders(), 2);
    world.pass(1).await;
    assert_eq!(world.version().await, 3, "an hour after the one by hand");
    assert_eq!(world.violations().await, [""; 0]);
}

/// Returns when the scheduled rotation waits for OpenRouter's answer.
async fn rotate_by_schedule(world: &World) {
    world.openrouter.set_latency(Duration::from_millis(50));
    world.time.set(world.after(AN_HOUR));
    until(async || world.orders() == 2).await;
}

/// Two changes of the role, one of which also changes the live key.
fn changes(round: u64) -> [Value; 2] {
    [
        json!({"limit": 10 + round, "limit_reset": "daily"}),
        json!({"description": format!("round {round}"), "key_name": format!("app {round}")}),
    ]
}

/// After ten rounds of [`changes`], each with a rotation.
async fn nothing_was_lost(world: &World) {
    let role = world.role("app").await.unwrap();
    assert_eq!(role["limit"], 19);
    assert_eq!(role["limit_reset"], "daily");
    assert_eq!(role["description"], "round 9");
    assert_eq!(role["key_name"], "app 9");
    assert_eq!(role["current_key"]["version"], 11);
    assert_eq!(world.orders(), 11);
    assert_eq!(world.broken_promises(), [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

async fn current_version(world: &World) -> u64 {
    let role = world.role("app").await.unwrap();
    role["current_key"]["version"].as_u64().unwrap()
}

fn is_told(refusals: &BTreeSet<String>) {
    assert!(!refusals.is_empty(), "nobody read during the deletion");
    for reason in refusals {
        let told = reason.contains("is being deleted") || reason.contains("there is no role");
        assert!(told, "{reason}");
    }
}

/// Waits for something to happen.
async fn until(mut happened: impl AsyncFnMut() -> bool) {
    while !happened().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
