//! The snapshot was taken while a run was in progress, which is then carried out once more.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::{ROTATE, World};

const ROTATE_ALL: &str = "rotate-all/default";

/// The key that the lost rotation has made is younger than the emergency, and its readers were promised that it
/// works.
#[tokio::test]
async fn an_emergency_that_is_carried_out_once_more_spares_the_keys_that_are_younger_than_it() {
    for is_rotated_again in [false, true] {
        let world = World::with_role().await;
        world.pass(60).await;
        let leaked = world.key_hash("app").await;
        let fault = Fault::ResetBeforeEffect.on("GET", "/keys/*").forever();
        world.openrouter.faults().add(fault);
        let order = json!({"rotation_grace_period": 0});
        let answer = world.write(ROTATE_ALL, order).await.unwrap().unwrap();
        assert_eq!(answer.data["state"], "running");
        let snapshot = world.snapshot();
        world.openrouter.faults().clear();
        world.pass(120).await;
        let mut younger = vec![world.key_hash("app").await];
        assert!(!world.lives(&leaked));
        if is_rotated_again {
            world.write(ROTATE, json!({})).await.unwrap();
            younger.push(world.key_hash("app").await);
        }
        world.restore(snapshot).await;
        // The comparison finds the younger keys before the role is rotated.
        let busy = Fault::rate_limited(20).on("POST", "/keys");
        world.openrouter.faults().add(busy.nth(1));
        world.restart().await;
        world.pass(120).await;
        let run = world.read(ROTATE_ALL).await.unwrap().unwrap();
        assert_eq!(run.data["state"], "finished", "{run:?}");
        assert_eq!(run.data["failed"], json!({}));
        assert!(!younger.contains(&world.key_hash("app").await));
        assert!(younger.iter().all(|hash| world.lives(hash)));
        world.pass(610).await;
        assert!(!younger.iter().any(|hash| world.lives(hash)));
        assert_eq!(world.violations().await, [""; 0]);
        // The emergency breaks those of the older key.
        let broken = world.broken_promises();
        let is_of = |hash: &String| broken.iter().any(|promise| promise.contains(hash));
        assert!(!younger.iter().any(is_of), "{broken:?}");
    }
}
