//! Why a key was revoked, as the log and the metrics say.

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use tracing::Level;

use super::{metric, with_keys};
use crate::harness::{Log, ROTATE, World, role};

/// The reply to the next order is lost, so that its key is never confirmed.
fn lose_the_reply(world: &World) {
    let lost = Fault::LostReply.on("POST", "/keys");
    world.openrouter.faults().add(lost);
}

#[tokio::test]
async fn the_log_and_the_metrics_say_why_each_key_was_revoked() {
    let log = Log::of(Level::DEBUG);
    let (world, keys) = with_keys().await;
    let why = async |label: &str| {
        let sample = format!("vault_openrouter_revocations_total{{why=\"{label}\"}}");
        metric(&world, &sample).await.unwrap_or_default()
    };
    let says = |reason: &str| log.has(&["revoking", reason]);

    let stray = format!("revoke-key/default/{}", keys["stray"]);
    world.write(&stray, json!({})).await.unwrap();
    assert!(says("it was ordered; the key is a stray key of this mount"));
    assert_eq!(why("ordered").await, 1.0);

    world.revoke().await.unwrap();
    assert!(says("its lease ") && says(" has ended"));
    assert_eq!(why("lease").await, 1.0);

    lose_the_reply(&world);
    world.write(ROTATE, Value::Null).await.unwrap_err();
    world.pass(60).await;
    assert!(says("its role does not have it"));
    assert_eq!(why("unconfirmed").await, 1.0);

    lose_the_reply(&world);
    world.write("roles/new", role()).await.unwrap_err();
    world.pass(60).await;
    assert!(says("its role does not exist"));
    assert_eq!(why("unconfirmed").await, 2.0);

    lose_the_reply(&world);
    world.lease().await.unwrap_err();
    world.pass(60).await;
    assert!(says("it has no lease"));
    assert_eq!(why("unconfirmed").await, 3.0);

    assert_eq!(why("role").await, 0.0);
    let at_once = json!({"rotation_grace_period": 0});
    world.write(ROTATE, at_once).await.unwrap();
    assert!(says("it is due in role app"));
    assert!(why("role").await >= 1.0);
}

/// Operators read the log at level `info`.
#[tokio::test]
async fn the_deletion_of_an_unconfirmed_key_is_logged_unless_it_was_gone_already() {
    let words = "deleted a key whose creation was never confirmed";
    for is_gone in [false, true] {
        let log = Log::of(Level::INFO);
        let world = World::with_role().await;
        lose_the_reply(&world);
        let faults = world.openrouter.faults();
        faults.add(Fault::held().on("DELETE", "/keys/*"));
        let node = world.node();
        node.write(ROTATE, Value::Null).await.unwrap_err();
        world.holding(1).await;
        let account = world.openrouter.account();
        let lost = account.keys().last().unwrap().hash.clone();
        if is_gone {
            account.delete_key(&lost).unwrap();
        }
        faults.clear();
        world.quiet().await;
        assert!(!world.lives(&lost));
        assert!(world.intents().is_empty());
        assert_eq!(log.has(&[words, &lost]), !is_gone);
    }
}
