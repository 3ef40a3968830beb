//! Held keys: until when, what is stored about them, and what happens if they are gone or cannot be deleted.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::{restore, superseded, versions, warnings};
use crate::harness::{ROLE, ROTATE, World};

/// A role that is not rotated automatically for a month, and holds its keys for an hour.
async fn holding() -> World {
    let world = World::with_role().await;
    let body = json!({"revocation_hold": 3_600, "rotation_period": "30d"});
    world.write(ROLE, body).await.unwrap();
    world
}

/// The hold was written after the key had been created.
#[tokio::test]
async fn a_key_is_held_no_longer_than_until_it_expires() {
    let world = World::with_role().await;
    let old = world.key_hash("app").await;
    let expiry = world.seen(&old).expires_at.unwrap();
    let long = json!({"revocation_hold": "10d"});
    world.write(ROLE, long).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(600).await;
    let role = world.role("app").await.unwrap();
    let held = &role["held_keys"][0];
    assert_eq!(held["hash"], old.as_str());
    assert_eq!(held["held_until"], expiry.to_string().as_str());
    world.pass_until(&expiry.to_string()).await;
    assert!(world.seen(&old).deleted_at.is_some());
}

#[tokio::test]
async fn who_used_a_key_late_is_still_named_when_the_key_is_deleted_after_its_hold() {
    let world = holding().await;
    let old = superseded(&world).await;
    let used_at = world.after(301);
    let account = world.openrouter.account();
    account.set_last_used(&old, Some(used_at)).unwrap();
    for (seconds, is_there) in [(600, true), (3_600, false)] {
        world.pass(seconds).await;
        assert_eq!(world.seen(&old).deleted_at.is_none(), is_there);
        let warnings = warnings(&world).await;
        let is_named = |one: &String| one.contains(&old) && one.contains(&used_at.to_string());
        assert!(warnings.iter().any(is_named), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_held_key_that_is_gone_when_it_is_wanted_back_is_forgotten() {
    let world = holding().await;
    let old = superseded(&world).await;
    world.pass(600).await;
    assert_eq!(versions(&world, "held_keys").await, [1]);
    world.openrouter.account().delete_key(&old).unwrap();
    let wanted = json!({"key_version": 1});
    let refusal = restore(&world, wanted).await.unwrap_err();
    assert!(refusal.contains("no longer has key"), "{refusal}");
    for list in ["held_keys", "superseded_keys"] {
        assert_eq!(versions(&world, list).await, [0; 0], "{list}");
    }
    world.openrouter.requests().reset();
    world.pass(600).await;
    assert_eq!(world.openrouter.requests().to("PATCH", "/keys/*"), []);
    assert_eq!(world.violations().await, [""; 0]);
}

/// It is disabled, so no one can use it.
#[tokio::test]
async fn an_emergency_has_succeeded_although_a_key_whose_hold_is_over_cannot_be_deleted() {
    let world = holding().await;
    let old = superseded(&world).await;
    world.pass(600).await;
    let away = Fault::status(503).on("DELETE", "/keys/*").forever();
    world.openrouter.faults().add(away);
    world.pass(3_600).await;
    assert_eq!(versions(&world, "held_keys").await, [1]);
    let leaked = world.key_hash("app").await;
    let at_once = json!({"rotation_grace_period": 0});
    world.write(ROTATE, at_once).await.unwrap();
    assert!(world.seen(&leaked).disabled && world.seen(&old).disabled);
    world.openrouter.faults().clear();
    world.pass(4_000).await;
    assert_eq!(world.violations().await, [""; 0]);
}
