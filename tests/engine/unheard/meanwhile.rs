//! What waits until the outcome of a rotation's store is certain, and for how long.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::OUTLIVED;
use crate::harness::{ROLE, ROTATE, World, role};

/// The key cannot be searched for, and an emergency waits for no search.
#[tokio::test]
async fn an_emergency_is_possible_from_the_moment_when_an_earlier_switch_is_certain() {
    let world = World::with_role().await;
    let node = world.node();
    node.storage.late_when_putting(ROLE);
    node.write(ROTATE, Value::Null).await.unwrap_err();
    let certain_at = world.after(OUTLIVED).to_string();
    let away = Fault::status(503).on("GET", "/keys").forever();
    world.openrouter.faults().add(away);
    for (seconds, is_possible) in [(OUTLIVED - 1, false), (1, true)] {
        world.time.set(world.after(seconds));
        let at_once = json!({"rotation_grace_period": 0});
        let rotated = node.write(ROTATE, at_once).await;
        assert_eq!(rotated.is_ok(), is_possible, "{seconds}: {rotated:?}");
        if let Err(refusal) = rotated {
            let refusal = refusal.to_string();
            assert!(refusal.contains(&certain_at), "{refusal}");
        }
    }
    world.openrouter.faults().clear();
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0]);
}

/// Its grace period is over long before. The searches for the key of another role come across it.
#[tokio::test]
async fn a_key_that_may_still_become_current_is_not_deleted() {
    let world = World::with_role().await;
    let short = json!({"rotation_grace_period": 20, "ttl": 10});
    world.write(ROLE, short).await.unwrap();
    world.write("roles/other", role()).await.unwrap();
    let (node, account) = (world.node(), world.openrouter.account());
    let before = account.keys();
    node.storage.late_when_putting(ROLE);
    node.write(ROTATE, Value::Null).await.unwrap_err();
    let mut made = account.keys();
    made.retain(|key| before.iter().all(|old| old.hash != key.hash));
    let fault = Fault::ResetBeforeEffect.on("POST", "/keys");
    world.openrouter.faults().add(fault);
    let other = node.write("rotate-role/other", Value::Null).await;
    other.unwrap_err();
    world.pass(OUTLIVED - 1).await;
    assert!(world.lives(&made[0].hash));
    node.storage.commit_what_is_late().await;
    world.pass(1_000).await;
    assert_eq!(world.key_hash("app").await, made[0].hash);
    assert_eq!(world.violations().await, [""; 0]);
}

/// That key is this node's own, so it says nothing about who disabled the current one.
#[tokio::test]
async fn a_disabled_key_waits_for_a_person_although_the_key_of_a_failed_switch_is_found() {
    let world = World::with_role().await;
    let body = json!({"rotation_period": "30d", "rotation_grace_period": 3_600});
    world.write(ROLE, body).await.unwrap();
    let disabled = world.current().await;
    let account = world.openrouter.account();
    account.set_disabled(&disabled, true).unwrap();
    world.restart().await;
    world.quiet().await;
    world.node().storage.late_when_putting(ROLE);
    world.write(ROTATE, Value::Null).await.unwrap_err();
    let made = account.keys().last().unwrap().hash.clone();
    world.pass(OUTLIVED + 60).await;
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("by somebody"), "{refusal}");
    assert!(world.lives(&made), "it may have been read");
    assert_eq!(world.orders(), 2);
}
