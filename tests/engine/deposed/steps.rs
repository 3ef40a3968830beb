//! What a deposed leader still has to do according to its old state, step by step. Every step that changes a
//! living key waits for the fence.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::{GRACE, depose};
use crate::harness::{Node, ROLE, ROTATE, World};

/// The old leader has a minute for its remaining steps, and a periodic call of its server. It changes no key.
async fn changes_nothing(world: &World, old: &Node) {
    world.quiet().await;
    world.openrouter.requests().reset();
    for seconds in [20, 40] {
        let _ = old.tick().await;
        old.life.quiet().await;
        world.time.set(world.after(seconds));
        old.life.quiet().await;
        world.quiet().await;
    }
    for order in ["PATCH", "DELETE"] {
        assert_eq!(world.openrouter.requests().to(order, "/keys/*"), []);
    }
}

/// Its machine was paused while its successor enabled the key, and then ended it in an emergency.
#[tokio::test]
async fn a_deposed_leader_does_not_enable_a_key_that_an_emergency_has_ended_since() {
    let world = World::with_role().await;
    let hold = json!({"revocation_hold": 3_600, "rotation_period": "30d"});
    world.write(ROLE, hold).await.unwrap();
    let first = world.key_hash("app").await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(GRACE).await;
    assert!(world.seen(&first).disabled);
    let old = world.node();
    let unclear = Fault::status(500).on("PATCH", "/keys/*");
    world.openrouter.faults().add(unclear);
    let wanted = json!({"key_version": 1, "duration": 3_000});
    old.write("restore-key/app", wanted).await.unwrap();
    depose(&old).await;
    old.clock.wake_nobody();
    world.take_over().await;
    world.pass(2).await;
    assert!(!world.seen(&first).disabled, "the successor goes on");
    let emergency = json!({"rotation_grace_period": 0});
    world.write(ROTATE, emergency).await.unwrap();
    assert!(world.seen(&first).disabled);
    changes_nothing(&world, &old).await;
    assert!(world.seen(&first).disabled, "it may be in the wrong hands");
}

/// Its successor was told to keep it for longer.
#[tokio::test]
async fn a_deposed_leader_does_not_disable_a_key_that_is_wanted_longer() {
    let world = World::with_role().await;
    let hold = json!({"revocation_hold": 3_600});
    world.write(ROLE, hold).await.unwrap();
    let first = world.key_hash("app").await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(GRACE - 10).await;
    let old = world.node();
    depose(&old).await;
    world.take_over().await;
    let wanted = json!({"key_version": 1, "duration": 3_000});
    world.write("restore-key/app", wanted).await.unwrap();
    changes_nothing(&world, &old).await;
    assert!(!world.seen(&first).disabled);
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// Its own change was unclear when it was deposed, and its successor was given another one.
#[tokio::test]
async fn a_deposed_leader_does_not_apply_limits_that_were_changed_since() {
    let world = World::with_role().await;
    let current = world.key_hash("app").await;
    let old = world.node();
    let unclear = Fault::status(500).on("PATCH", "/keys/*");
    world.openrouter.faults().add(unclear);
    old.write(ROLE, json!({"limit": 9})).await.unwrap();
    depose(&old).await;
    world.take_over().await;
    world.write(ROLE, json!({"limit": 3})).await.unwrap();
    assert_eq!(world.seen(&current).limit, Some(3.0));
    changes_nothing(&world, &old).await;
    assert_eq!(world.seen(&current).limit, Some(3.0));
}
