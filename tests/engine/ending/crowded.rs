//! The maximum number of superseded keys in their grace periods, which are all in the role's entry.

use serde_json::{Value, json};

use super::{restore, superseded, versions};
use crate::harness::{ROLE, ROTATE, World};

/// The hundredth key has just been superseded, and another one is held.
async fn crowded() -> World {
    let world = World::connected().await;
    let body = json!({
        "rotation_period": "30d", "rotation_grace_period": 600, "ttl": 300, "revocation_hold": "10d",
    });
    world.write(ROLE, body).await.unwrap();
    superseded(&world).await;
    world.pass(600).await;
    assert_eq!(versions(&world, "held_keys").await, [1]);
    for number in 1..=100 {
        let rotated = world.write(ROTATE, json!({"rotation_grace_period": "1d"}));
        rotated
            .await
            .unwrap_or_else(|reason| panic!("{number}: {reason}"));
    }
    assert_eq!(versions(&world, "superseded_keys").await.len(), 100);
    world
}

#[tokio::test]
async fn a_hundred_and_first_is_refused_unless_all_of_them_are_to_end() {
    let world = crowded().await;
    let refusal = world.write(ROTATE, Value::Null).await.unwrap_err();
    let refusal = refusal.to_string();
    assert!(refusal.contains("has 100 superseded keys"), "{refusal}");
    assert_eq!(world.version().await, 102);
    let at_once = json!({"rotation_grace_period": 0});
    world.write(ROTATE, at_once).await.unwrap();
    assert_eq!(world.version().await, 103);
    assert_eq!(versions(&world, "superseded_keys").await, [0; 0]);
    let works = |key: &openrouter_simulator::Key| !key.disabled;
    let keys = world.openrouter.account().keys();
    assert_eq!(keys.into_iter().filter(works).count(), 1);
}

#[tokio::test]
async fn a_held_key_is_not_restored_beside_a_hundred_superseded_ones() {
    let world = crowded().await;
    let wanted = json!({"key_version": 1});
    let refusal = restore(&world, wanted.clone()).await.unwrap_err();
    assert!(refusal.contains("has 100 superseded keys"), "{refusal}");
    assert_eq!(versions(&world, "held_keys").await, [1]);
    // There is room once one of them has ended.
    let role = world.role("app").await.unwrap();
    let one = role["superseded_keys"][0]["hash"].as_str().unwrap();
    let revoke = format!("revoke-key/default/{one}");
    world.write(&revoke, json!({"force": true})).await.unwrap();
    restore(&world, wanted).await.unwrap();
    assert_eq!(versions(&world, "held_keys").await, [0; 0]);
}
