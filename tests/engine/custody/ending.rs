//! Ending one key by the order of a person: what may be revoked, what needs force, and what is never revoked.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::{FOREIGN, with_keys};
use crate::harness::World;

fn revoke(hash: &str) -> String {
    format!("revoke-key/default/{hash}")
}

fn disable(hash: &str) -> String {
    format!("disable-key/default/{hash}")
}

async fn refusal(world: &World, path: &str, body: Value) -> String {
    world.write(path, body).await.unwrap_err().to_string()
}

#[tokio::test]
async fn unowned_keys_are_revoked_freely_and_the_others_with_force() {
    let (world, keys) = with_keys().await;
    for kind in ["stray", "unmanaged"] {
        world.write(&revoke(&keys[kind]), json!({})).await.unwrap();
        assert!(!world.lives(&keys[kind]), "{kind}");
    }
    for kind in ["superseded", "leased", "foreign"] {
        let reason = refusal(&world, &revoke(&keys[kind]), json!({})).await;
        assert!(reason.contains("give force=true"), "{kind}: {reason}");
        assert!(world.lives(&keys[kind]), "{kind}");
        let told = world
            .told(&revoke(&keys[kind]), json!({"force": true}))
            .await;
        assert_eq!(told["key_hash"], json!(keys[kind]));
        assert!(!world.lives(&keys[kind]), "{kind}");
    }
    // The server ends its lease later, and finds nothing left to do.
    assert_eq!(world.intents(), [""; 0]);
    world.revoke().await.unwrap();
    let role = world.role("app").await.unwrap();
    assert_eq!(role["superseded_keys"], json!([]));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_current_key_is_never_revoked() {
    let world = World::with_role().await;
    let hash = world.current().await;
    for body in [json!({}), json!({"force": true})] {
        let reason = refusal(&world, &revoke(&hash), body).await;
        assert!(reason.contains("rotate-role/app"), "{reason}");
    }
    assert!(world.lives(&hash));
}

#[tokio::test]
async fn a_key_whose_outcome_is_unknown_is_left_to_the_engine() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("POST", "/keys"));
    faults.add(Fault::ResetBeforeEffect.on("GET", "/keys").forever());
    world.write("rotate-role/app", json!({})).await.unwrap_err();
    let current = world.current().await;
    let living = world.openrouter.account().keys();
    let lost = living.iter().find(|key| key.hash != current).unwrap();
    for (path, body) in [
        (revoke(&lost.hash), json!({"force": true})),
        (
            disable(&lost.hash),
            json!({"force": true, "disabled": true}),
        ),
    ] {
        let reason = refusal(&world, &path, body).await;
        assert!(reason.contains("the engine will resolve it"), "{reason}");
    }
    assert!(world.lives(&lost.hash));
}

#[tokio::test]
async fn a_node_that_may_not_write_any_more_revokes_nothing_that_it_does_not_know() {
    let (world, keys) = with_keys().await;
    world.node().storage.make_read_only();
    for kind in ["unmanaged", "stray", "foreign", "superseded"] {
        let path = revoke(&keys[kind]);
        world
            .write(&path, json!({"force": true}))
            .await
            .unwrap_err();
        assert!(world.lives(&keys[kind]), "{kind}");
    }
}

#[tokio::test]
async fn a_superseded_key_that_cannot_be_revoked_now_is_tried_again() {
    let (world, keys) = with_keys().await;
    let fault = Fault::ResetBeforeEffect.on("DELETE", "/keys/*");
    world.openrouter.faults().add(fault);
    let path = revoke(&keys["superseded"]);
    let reason = refusal(&world, &path, json!({"force": true})).await;
    assert!(reason.contains("may still work"), "{reason}");
    assert!(world.lives(&keys["superseded"]));
    world.pass(60).await;
    assert!(!world.lives(&keys["superseded"]));
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_revocation_leaves_the_key_to_the_next_node() {
    let (world, keys) = with_keys().await;
    let path = revoke(&keys["superseded"]);
    world
        .die_during(
            "before DELETE /keys/*",
            world.write(&path, json!({"force": true})),
        )
        .await;
    world.restart().await;
    world.pass(60).await;
    assert!(!world.lives(&keys["superseded"]));
}

#[tokio::test]
async fn a_disabled_key_does_not_work_until_it_is_enabled() {
    let (world, keys) = with_keys().await;
    let is_disabled = |hash: &str| world.openrouter.account().key(hash).unwrap().disabled;
    for (kind, force) in [("unmanaged", false), ("superseded", true), ("leased", true)] {
        let path = disable(&keys[kind]);
        if force {
            let reason = refusal(&world, &path, json!({"disabled": true})).await;
            assert!(reason.contains("give force=true"), "{kind}: {reason}");
        }
        let body = json!({"disabled": true, "force": force});
        world.write(&path, body).await.unwrap();
        assert!(is_disabled(&keys[kind]), "{kind}");
        world
            .write(&path, json!({"disabled": false}))
            .await
            .unwrap();
        assert!(!is_disabled(&keys[kind]), "{kind}");
    }
    let missing = refusal(&world, &disable(&keys["unmanaged"]), json!({})).await;
    assert!(missing.contains("disabled is required"), "{missing}");
}

#[tokio::test]
async fn missing_keys_and_keys_of_other_mounts_are_reported_as_such() {
    let (world, keys) = with_keys().await;
    let unknown = "0".repeat(64);
    let reason = refusal(&world, &revoke(&unknown), json!({})).await;
    assert!(reason.contains("sees no key"), "{reason}");
    let path = format!("revoke-key/other/{}", keys["superseded"]);
    let reason = refusal(&world, &path, json!({"force": true})).await;
    assert!(
        reason.contains("made through connection \"default\""),
        "{reason}"
    );
    assert!(world.lives(&keys["superseded"]));
    assert!(world.lives(&world.by_hand(FOREIGN)));
}

/// A role with a hold, and the hash of a key that was just superseded.
async fn with_a_hold() -> (World, String) {
    let world = World::with_role().await;
    let body = json!({"revocation_hold": 7_000, "rotation_period": "30d"});
    world.write("roles/app", body).await.unwrap();
    let old = world.current().await;
    world.write("rotate-role/app", json!({})).await.unwrap();
    (world, old)
}

#[tokio::test]
async fn a_held_key_is_shown_as_such_and_revoked_freely_but_enabled_only_by_a_restoration() {
    let (world, held) = with_a_hold().await;
    world.pass(610).await;
    let shown = world.read(&format!("keys/default/{held}")).await.unwrap();
    let shown = shown.unwrap().data;
    assert_eq!(
        (&shown["owner"], &shown["state"], &shown["key_version"]),
        (&json!("role"), &json!("held"), &json!(1))
    );
    let found = world.told("lookup", json!({"key_hash": held})).await;
    let commands = found["commands"].to_string();
    for command in ["restore-key/app key_version=1", "revoke-key/default/"] {
        assert!(commands.contains(command), "{commands}");
    }
    let status = world.read("status").await.unwrap().unwrap().data;
    let keys = &status["keys"];
    assert_eq!((&keys["superseded"], &keys["held"]), (&json!(0), &json!(1)));
    assert_eq!(status["attention"]["count"], 0);

    let reason = refusal(&world, &disable(&held), json!({"disabled": false})).await;
    assert!(reason.contains("restore-key/app"), "{reason}");
    let fault = Fault::ResetBeforeEffect.on("DELETE", "/keys/*");
    world.openrouter.faults().add(fault);
    let reason = refusal(&world, &revoke(&held), json!({})).await;
    assert!(reason.contains("may still work"), "{reason}");
    world.pass(60).await;
    assert!(!world.lives(&held), "it is tried again");
    let role = world.role("app").await.unwrap();
    assert_eq!(role["held_keys"], json!([]));
    assert_eq!(world.violations().await, [""; 0]);
}

/// From now on no key can be deleted or disabled.
fn keep_alive(world: &World) {
    for method in ["DELETE", "PATCH"] {
        let away = Fault::ResetBeforeEffect.on(method, "/keys/*").forever();
        world.openrouter.faults().add(away);
    }
}

/// No one can enable the key, and the caller is told this reason.
async fn is_not_enabled(world: &World, hash: &str, why: &str) {
    world.openrouter.requests().reset();
    let reason = refusal(world, &disable(hash), json!({"disabled": false})).await;
    assert!(reason.contains(why), "{reason}");
    let asked = world.openrouter.requests().to("PATCH", "/keys/*");
    assert_eq!(asked.len(), 0);
}

#[tokio::test]
async fn a_key_that_waits_to_be_deleted_is_not_enabled() {
    let (world, keys) = with_keys().await;
    let [superseded, leased] = ["superseded", "leased"].map(|kind| keys[kind].clone());
    keep_alive(&world);
    // By order.
    let force = json!({"force": true});
    refusal(&world, &revoke(&superseded), force).await;
    is_not_enabled(&world, &superseded, "is being deleted, as was ordered").await;
    // In an emergency.
    let current = world.current().await;
    let emergency = json!({"rotation_grace_period": 0});
    world.write("rotate-role/app", emergency).await.unwrap_err();
    assert!(world.lives(&current));
    is_not_enabled(&world, &current, "restore-key with key_version=2").await;
    // Because its grace period has ended.
    let current = world.current().await;
    world.write("rotate-role/app", json!({})).await.unwrap();
    world.pass(610).await;
    is_not_enabled(&world, &current, "its revocation was due at").await;
    // Because its lease has ended.
    is_not_enabled(&world, &leased, "a lease of role ci that ended at").await;
    world.openrouter.faults().clear();
    world.pass(3_600).await;
    assert!(!world.lives(&superseded) && !world.lives(&current));
}

#[tokio::test]
async fn a_key_whose_share_of_a_budget_has_ended_is_not_enabled() {
    let world = crate::budget::with_budget().await;
    let ended = world.current().await;
    world.write("rotate-role/app", json!({})).await.unwrap();
    world.pass(3_600).await;
    assert!(world.seen(&ended).disabled);
    is_not_enabled(&world, &ended, "restore-key/app").await;
    // Also not once it is to be deleted.
    world.write(&revoke(&ended), json!({})).await.unwrap();
    assert!(world.lives(&ended), "it waits for its final reading");
    is_not_enabled(&world, &ended, "restore-key/app").await;
    world.pass(601).await;
    assert!(!world.lives(&ended));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_superseded_key_that_is_revoked_by_order_is_deleted_and_not_held() {
    let (world, old) = with_a_hold().await;
    let fault = Fault::ResetBeforeEffect.on("DELETE", "/keys/*");
    world.openrouter.faults().add(fault);
    let force = json!({"force": true});
    let reason = refusal(&world, &revoke(&old), force).await;
    assert!(reason.contains("may still work"), "{reason}");
    let restore = json!({"key_version": 1, "force": true});
    let reason = refusal(&world, "restore-key/app", restore).await;
    assert!(reason.contains("is being deleted"), "{reason}");
    world.pass(60).await;
    assert!(!world.lives(&old));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_current_key_that_is_disabled_is_withheld_at_once_until_it_is_enabled_or_replaced() {
    let world = World::with_role().await;
    let hash = world.current().await;
    let is_disabled = || world.openrouter.account().key(&hash).unwrap().disabled;
    let reason = refusal(&world, &disable(&hash), json!({"disabled": true})).await;
    assert!(reason.contains("give force=true"), "{reason}");
    let off = json!({"disabled": true, "force": true});
    world.write(&disable(&hash), off.clone()).await.unwrap();
    assert!(is_disabled());
    let reason = world.key("app").await.unwrap_err().to_string();
    assert!(reason.contains("disabled at OpenRouter"), "{reason}");
    // Also not by its schedule.
    world.pass(4_000).await;
    assert_eq!(world.current().await, hash);
    let on = json!({"disabled": false});
    world.write(&disable(&hash), on).await.unwrap();
    assert!(!is_disabled());
    assert_eq!(world.key("app").await.unwrap()["key_hash"], json!(hash));

    // It had been due for a long time.
    world.quiet().await;
    let next = world.current().await;
    assert_ne!(next, hash);
    world.write(&disable(&next), off).await.unwrap();
    world.write("rotate-role/app", json!({})).await.unwrap();
    assert_ne!(world.key("app").await.unwrap()["key_hash"], json!(next));
}

#[tokio::test]
async fn a_current_key_that_could_not_be_disabled_is_handed_out_again() {
    let off = json!({"disabled": true, "force": true});
    // It is certain that it was not.
    let world = World::with_role().await;
    let path = disable(&world.current().await);
    let fault = Fault::status(403).on("PATCH", "/keys/*");
    world.openrouter.faults().add(fault);
    world.write(&path, off.clone()).await.unwrap_err();
    world.key("app").await.unwrap();
    // The outcome is unknown.
    let fault = Fault::ResetBeforeEffect.on("PATCH", "/keys/*");
    world.openrouter.faults().add(fault);
    world.write(&path, off.clone()).await.unwrap_err();
    world.key("app").await.unwrap_err();
    world.pass(61).await;
    world.key("app").await.unwrap();
    // The process dies in between.
    world
        .die_during("before PATCH /keys/*", world.write(&path, off))
        .await;
    world.restart().await;
    world.pass(61).await;
    world.key("app").await.unwrap();
    assert_eq!(world.violations().await, [""; 0]);
}
