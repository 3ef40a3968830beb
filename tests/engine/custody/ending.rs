//! Ending one key because a person has ordered it: what may be revoked, what needs force, and what
//! never.

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
async fn what_nobody_has_is_revoked_freely_and_the_rest_with_force() {
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
        assert!(reason.contains("the engine decides about it"), "{reason}");
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
    world.effects.die_at("before DELETE /keys/*");
    let path = revoke(&keys["superseded"]);
    tokio::select! {
        _ = world.write(&path, json!({"force": true})) => panic!("it outlives the crash"),
        () = world.effects.crash() => {}
    }
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
async fn what_is_not_there_or_is_anothers_is_said_to_be_that() {
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
