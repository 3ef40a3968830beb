//! The end of a superseded key: late use, the hold, restoring the key, and revocations that fell due while no
//! node was active.

#[cfg(test)]
mod asked;
#[cfg(test)]
mod crowded;
#[cfg(test)]
mod holds;

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World};

const RESTORE: &str = "restore-key/app";

/// A role that holds its keys for an hour, and whose first key has just been superseded.
async fn holding() -> (World, String) {
    let world = World::with_role().await;
    world
        .write(ROLE, json!({"revocation_hold": 3600}))
        .await
        .unwrap();
    let first = superseded(&world).await;
    (world, first)
}

/// Rotates, and returns the hash of the previous key.
async fn superseded(world: &World) -> String {
    let hash = world.key_hash("app").await;
    world.write(ROTATE, json!({})).await.unwrap();
    hash
}

async fn warnings(world: &World) -> Vec<String> {
    world.read(ROLE).await.unwrap().unwrap().warnings
}

async fn versions(world: &World, list: &str) -> Vec<u64> {
    let role = world.role("app").await.unwrap();
    let keys = role[list].as_array().unwrap().iter();
    keys.map(|key| key["version"].as_u64().unwrap()).collect()
}

async fn restore(world: &World, body: Value) -> Result<Vec<String>, String> {
    let restored = world.write(RESTORE, body).await;
    let answer = restored.map_err(|reason| reason.to_string())?;
    Ok(answer.unwrap().warnings)
}

#[tokio::test]
async fn a_key_that_was_used_after_its_last_lease_is_revoked_in_time_and_named() {
    let world = World::with_role().await;
    let old = superseded(&world).await;
    let used_at = world.after(301);
    world
        .openrouter
        .account()
        .set_last_used(&old, Some(used_at))
        .unwrap();
    world.pass(600).await;
    assert_eq!(world.seen(&old).deleted_at, Some(world.time.now()));
    let warnings = warnings(&world).await;
    assert!(
        warnings[0].contains(&old) && warnings[0].contains(&used_at.to_string()),
        "{warnings:?}"
    );

    // The next key was not used late.
    let next = superseded(&world).await;
    world
        .openrouter
        .account()
        .set_last_used(&next, Some(world.after(300)))
        .unwrap();
    world.pass(600).await;
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn the_last_check_costs_one_request_and_delays_no_revocation() {
    let world = World::with_role().await;
    for fault in [Fault::status(503), Fault::status(404), Fault::LostReply] {
        let old = superseded(&world).await;
        world.openrouter.faults().add(fault.on("GET", "/keys/*"));
        world.openrouter.requests().reset();
        world.pass(600).await;
        assert_eq!(world.seen(&old).deleted_at, Some(world.time.now()));
        let lookups = world.openrouter.requests().to("GET", "/keys/*").len();
        assert_eq!(lookups, 1);
    }
}

#[tokio::test]
async fn a_held_key_is_disabled_at_the_end_of_its_grace_period_and_deleted_when_the_hold_is_over() {
    let (world, old) = holding().await;
    world.pass(599).await;
    assert!(!world.seen(&old).disabled);
    world.pass(1).await;
    assert!(world.seen(&old).disabled);
    assert_eq!(versions(&world, "held_keys").await, [1]);
    assert_eq!(versions(&world, "superseded_keys").await, [0; 0]);
    assert_eq!(world.violations().await, [""; 0]);
    // The default lifetime includes it.
    let current = world.role("app").await.unwrap()["current_key"].clone();
    assert_eq!(
        current["expires"],
        world.after(2 * 3_600 + 3_600).to_string().as_str()
    );
    world.pass(3_599).await;
    assert_eq!(world.seen(&old).deleted_at, None);
    world.pass(1).await;
    assert_eq!(world.seen(&old).deleted_at, Some(world.time.now()));
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_disabled_is_deleted() {
    // Refused: at once.
    let (world, old) = holding().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(409).on("PATCH", "/keys/*").forever());
    world.pass(600).await;
    assert_eq!(world.seen(&old).deleted_at, Some(world.time.now()));

    // Unclear: at the second attempt.
    let (world, old) = holding().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(500).on("PATCH", "/keys/*").forever());
    world.pass(600).await;
    assert_eq!(world.seen(&old).deleted_at, None);
    world.pass(10).await;
    assert!(world.seen(&old).deleted_at.is_some());
    assert_eq!(world.violations().await, [""; 0]);

    // A short outage does not prevent a restore.
    let (world, old) = holding().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(500).on("PATCH", "/keys/*"));
    world.pass(610).await;
    assert!(world.seen(&old).disabled && world.seen(&old).deleted_at.is_none());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn an_emergency_disables_every_older_key_before_the_answer_or_deletes_it() {
    let (world, first) = holding().await;
    world.pass(600).await;
    let second = superseded(&world).await;
    let third = world.key_hash("app").await;
    world
        .openrouter
        .faults()
        .add(Fault::status(500).on("PATCH", "/keys/*"));
    world
        .write(ROTATE, json!({"rotation_grace_period": 0}))
        .await
        .unwrap();
    assert!(
        world.seen(&second).deleted_at.is_some(),
        "it could not be disabled"
    );
    for held in [&first, &third] {
        assert!(world.seen(held).disabled && world.seen(held).deleted_at.is_none());
    }
    for version in [1, 3] {
        let refusal = restore(&world, json!({"key_version": version}))
            .await
            .unwrap_err();
        assert!(refusal.contains("force=true"), "{refusal}");
    }
    restore(&world, json!({"key_version": 3, "force": true}))
        .await
        .unwrap();
    assert!(!world.seen(&third).disabled);
    world.quiet().await;
    assert_eq!(world.violations().await, [""; 0]);
}

/// The request that was to enable it may still take effect after a request that disables it.
#[tokio::test]
async fn an_emergency_deletes_a_key_of_which_it_is_unclear_whether_it_is_enabled() {
    let (world, old) = holding().await;
    world.pass(600).await;
    assert!(world.seen(&old).disabled);
    let faults = world.openrouter.faults();
    faults.add(Fault::ResetBeforeEffect.on("PATCH", "/keys/*").forever());
    restore(&world, json!({"key_version": 1})).await.unwrap();
    faults.clear();
    let emergency = json!({"rotation_grace_period": 0});
    world.write(ROTATE, emergency).await.unwrap();
    assert!(world.seen(&old).deleted_at.is_some());
    assert_eq!(versions(&world, "held_keys").await, [2]);
}

#[tokio::test]
async fn a_held_key_works_again_for_as_long_as_was_asked_and_is_then_held_again() {
    let (world, old) = holding().await;
    world.pass(700).await;
    let warnings = restore(&world, json!({"key_version": 1, "duration": 1000}))
        .await
        .unwrap();
    assert_eq!(warnings, [""; 0]);
    assert!(!world.seen(&old).disabled);
    assert_eq!(versions(&world, "superseded_keys").await, [1]);
    world.pass(999).await;
    assert!(!world.seen(&old).disabled);
    world.pass(1).await;
    assert!(world.seen(&old).disabled);
    world.pass(3_600).await;
    assert!(world.seen(&old).deleted_at.is_some());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_superseded_key_works_longer_and_never_past_its_expiry() {
    let world = World::with_role().await;
    let old = superseded(&world).await;
    let expiry = world.seen(&old).expires_at.unwrap();
    let left = expiry.duration_since(world.time.now()).as_secs();
    let anyway = format!("works until {} anyway", world.after(600));
    let no_longer = format!("the key expires at {expiry}");
    for (duration, expected) in [
        (json!(60), Some(&anyway)),
        // Until when it works already.
        (json!(600), Some(&anyway)),
        (json!(left), None),
        (json!("1d"), Some(&no_longer)),
    ] {
        let body = json!({"key_version": 1, "duration": duration});
        let warnings = restore(&world, body).await.unwrap();
        let is_warned = |warning: &String| expected.is_none_or(|text| warning.contains(text));
        assert_eq!(warnings.is_empty(), expected.is_none(), "{warnings:?}");
        assert!(warnings.iter().take(1).all(is_warned), "{warnings:?}");
    }
    let role = world.role("app").await.unwrap();
    assert_eq!(
        role["superseded_keys"][0]["revoke_at"],
        expiry.to_string().as_str()
    );
    world.pass(3_000).await;
    assert_eq!(world.seen(&old).deleted_at, None);
    world.pass(4_800).await;
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn what_must_not_be_restored_is_refused_with_the_reason() {
    let (world, old) = holding().await;
    world.write(ROTATE, json!({})).await.unwrap();
    let account = world.openrouter.account();
    account.set_disabled(&old, true).unwrap();
    for (body, reason) in [
        (json!({}), "key_version is required"),
        (json!({"key_version": 0}), "key_version is required"),
        (json!({"key_version": 3}), "is the current key"),
        (
            json!({"key_version": 9}),
            "must be that of a superseded or held key of role \"app\": 1, 2",
        ),
        (
            json!({"key_version": 1, "duration": 0}),
            "duration must be at least 1",
        ),
        (json!({"key_version": 1}), "disabled outside the engine"),
    ] {
        let refusal = restore(&world, body.clone()).await.unwrap_err();
        assert!(refusal.contains(reason), "{body}: {refusal}");
    }
    world.pass(600).await;
    // It was disabled before the hold, so the hold does not count as the engine's.
    let refusal = restore(&world, json!({"key_version": 1}))
        .await
        .unwrap_err();
    assert!(refusal.contains("disabled outside the engine"), "{refusal}");
    assert!(world.seen(&old).disabled);
    account.delete_key(&old).unwrap();
}

#[tokio::test]
async fn a_restoration_that_openrouter_refuses_leaves_the_key_held_and_an_unclear_one_is_tried_again()
 {
    let (world, old) = holding().await;
    world.pass(600).await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(409).on("PATCH", "/keys/*"));
    restore(&world, json!({"key_version": 1}))
        .await
        .unwrap_err();
    assert_eq!(versions(&world, "held_keys").await, [1]);
    assert_eq!(world.violations().await, [""; 0]);

    faults.add(Fault::status(500).on("PATCH", "/keys/*"));
    let warnings = restore(&world, json!({"key_version": 1})).await.unwrap();
    let is_said = |warning: &String| warning.contains("the engine retries");
    assert!(warnings.iter().any(is_said), "{warnings:?}");
    world.pass(10).await;
    assert!(!world.seen(&old).disabled);
    assert_eq!(world.complaints().await, [""; 0]);
}

/// The kill switch has the last word, although the engine was still to enable the key.
#[tokio::test]
async fn a_key_that_is_switched_off_while_it_is_being_restored_stays_off() {
    let (world, old) = holding().await;
    world.pass(600).await;
    let faults = world.openrouter.faults();
    faults.add(Fault::ResetBeforeEffect.on("PATCH", "/keys/*").forever());
    restore(&world, json!({"key_version": 1})).await.unwrap();
    faults.clear();
    assert!(world.seen(&old).disabled, "it is not enabled yet");
    let off = json!({"disabled": true, "force": true});
    let path = format!("disable-key/default/{old}");
    // Time does not move meanwhile.
    world.node().write(&path, off).await.unwrap();
    world.pass(600).await;
    assert!(world.seen(&old).disabled);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn deleting_a_role_deletes_the_keys_that_it_holds() {
    let (world, _) = holding().await;
    world.pass(600).await;
    world.delete(ROLE, json!({})).await.unwrap();
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn what_fell_due_while_the_engine_was_down_is_revoked_one_lease_after_its_start() {
    let world = World::with_role().await;
    let old = superseded(&world).await;
    world.node().life.end();
    world.time.set(world.after(900));
    world.restart().await;
    world.quiet().await;
    let role = world.role("app").await.unwrap();
    let due = world.after(300).to_string();
    assert_eq!(role["superseded_keys"][0]["revoke_at"], due.as_str());
    // Postponed once, however often the engine starts.
    world.pass(299).await;
    world.node().life.end();
    world.time.set(world.after(1));
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.seen(&old).deleted_at, Some(world.time.now()));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn what_an_emergency_has_ended_is_revoked_at_once_when_the_engine_starts() {
    let world = World::with_role().await;
    let old = world.key_hash("app").await;
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on("DELETE", "/keys/*"));
    world
        .write(ROTATE, json!({"rotation_grace_period": 0}))
        .await
        .unwrap_err();
    world.node().life.end();
    world.time.set(world.after(900));
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.seen(&old).deleted_at, Some(world.time.now()));
}
