//! A change that was found and reverted outside the engine, and is then made again.

use openrouter_simulator::KeyChanges;
use serde_json::json;

use super::{HOUR, change, drift, found, monthly, superseded};
use crate::harness::{Harm, World};

async fn rename(world: &World, hash: &str, name: &str) {
    let renamed = KeyChanges {
        name: Some(name.to_owned()),
        ..KeyChanges::default()
    };
    change(world, hash, renamed);
    world.pass(HOUR).await;
}

#[tokio::test]
async fn a_key_that_is_renamed_back_and_again_is_reported_twice() {
    let world = monthly(json!({})).await;
    let hash = world.current().await;
    let own = world.seen(&hash).name;
    rename(&world, &hash, "by hand").await;
    rename(&world, &hash, &own).await;
    assert_eq!(drift(&world, "app").await, found("key_renamed", &hash));
    rename(&world, &hash, "by hand").await;
    let twice = [found("key_renamed", &hash), found("key_renamed", &hash)].concat();
    assert_eq!(drift(&world, "app").await, twice);
}

#[tokio::test]
async fn a_superseded_key_that_is_enabled_again_counts_as_never_disabled() {
    let world = monthly(json!({"rotation_grace_period": "10d"})).await;
    let old = superseded(&world).await;
    let account = world.openrouter.account();
    let is_said = async || {
        let role = world.role("app").await.unwrap();
        role["superseded_keys"][0]
            .get("disabled_outside_since")
            .is_some()
    };
    account.set_disabled(&old, true).unwrap();
    world.pass(HOUR).await;
    assert!(is_said().await);
    account.set_disabled(&old, false).unwrap();
    world.pass(HOUR).await;
    assert!(!is_said().await);
    let longer = json!({"key_version": 1, "duration": "20d"});
    world.write("restore-key/app", longer).await.unwrap();
    world.pass(15 * 24 * HOUR).await;
    assert!(!world.seen(&old).disabled && world.seen(&old).deleted_at.is_none());
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

/// The comparison looks at it again because of its name, and not because it works.
#[tokio::test]
async fn a_disabled_key_that_is_renamed_is_not_handed_out_again() {
    let world = monthly(json!({})).await;
    let hash = world.current().await;
    let account = world.openrouter.account();
    account.set_disabled(&hash, true).unwrap();
    world.pass(HOUR).await;
    let disabled = found("current_key_disabled", &hash);
    assert_eq!(drift(&world, "app").await, disabled);
    rename(&world, &hash, "by hand").await;
    let renamed = [disabled, found("key_renamed", &hash)].concat();
    assert_eq!(drift(&world, "app").await, renamed);
    world.key("app").await.unwrap_err();
}

#[tokio::test]
async fn a_superseded_or_held_key_that_is_renamed_is_reported_and_left_as_it_is() {
    for is_held in [false, true] {
        let grace = if is_held { "1h" } else { "10d" };
        let body = json!({"rotation_grace_period": grace, "revocation_hold": "10d"});
        let world = monthly(body).await;
        let old = superseded(&world).await;
        world.pass(2 * HOUR).await;
        assert_eq!(world.seen(&old).disabled, is_held);
        world.effects.record(Harm::Crash, None);
        rename(&world, &old, "by hand").await;
        let effects = world.effects.stop();
        let changes = ["put roles/app", "PATCH"];
        let changed = |effect: &String| changes.iter().any(|change| effect.contains(change));
        assert!(!effects.iter().any(changed), "{effects:?}");
        assert_eq!(drift(&world, "app").await, found("key_renamed", &old));
    }
}

#[tokio::test]
async fn a_held_key_that_somebody_enables_costs_one_write() {
    let body = json!({"rotation_grace_period": "1h", "revocation_hold": "10d"});
    let world = monthly(body).await;
    let old = superseded(&world).await;
    world.pass(2 * HOUR).await;
    world
        .openrouter
        .account()
        .set_disabled(&old, false)
        .unwrap();
    world.effects.record(Harm::Crash, None);
    world.pass(HOUR).await;
    let effects = world.effects.stop();
    let writes = effects
        .iter()
        .filter(|effect| *effect == "before put roles/app");
    assert_eq!(writes.count(), 1, "the proof that the node leads");
    assert!(world.seen(&old).disabled);
}
