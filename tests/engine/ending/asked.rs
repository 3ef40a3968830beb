//! When OpenRouter is not asked about a key before the key is deleted.

use openrouter_simulator::Fault;
use serde_json::json;

use super::superseded;
use crate::harness::{ROLE, ROTATE, World};

/// How the key comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It is disabled, and its hold is over.
    Hold,
    /// A person ordered its deletion, which has failed at first.
    Order,
    /// An emergency rotation, which has failed to delete it.
    Emergency,
}

#[tokio::test]
async fn a_key_that_is_disabled_or_must_end_in_any_case_is_not_asked_about() {
    for end in [End::Hold, End::Order, End::Emergency] {
        let world = World::with_role().await;
        let alone = json!({"reconcile_interval": 0});
        world.write("config", alone).await.unwrap();
        let hold = if matches!(end, End::Hold) { 1_000 } else { 0 };
        let body = json!({"revocation_hold": hold, "rotation_period": "30d"});
        world.write(ROLE, body).await.unwrap();
        let away = Fault::status(503).on("DELETE", "/keys/*");
        let old = match end {
            End::Hold => {
                let old = superseded(&world).await;
                world.pass(600).await;
                assert!(world.seen(&old).disabled);
                old
            }
            End::Order => {
                let old = superseded(&world).await;
                world.openrouter.faults().add(away);
                let path = format!("revoke-key/default/{old}");
                let body = json!({"force": true});
                let _ = world.node().write(&path, body).await;
                old
            }
            End::Emergency => {
                let old = world.key_hash("app").await;
                world.openrouter.faults().add(away);
                let at_once = json!({"rotation_grace_period": 0});
                world.node().write(ROTATE, at_once).await.unwrap_err();
                old
            }
        };
        assert!(world.lives(&old), "{end:?}");
        world.openrouter.requests().reset();
        world.pass(1_000).await;
        assert!(!world.lives(&old), "{end:?}");
        let lookups = world.openrouter.requests().to("GET", "/keys/*").len();
        assert_eq!(lookups, 0, "{end:?}");
    }
}

/// One that succeeds at once.
#[tokio::test]
async fn an_emergency_asks_about_no_key() {
    let world = World::with_role().await;
    superseded(&world).await;
    world.openrouter.requests().reset();
    let at_once = json!({"rotation_grace_period": 0});
    world.write(ROTATE, at_once).await.unwrap();
    let counts = world.openrouter.requests().counts();
    let counts: Vec<_> = counts.iter().map(|(what, n)| (what.as_str(), *n)).collect();
    let expected = [
        ("DELETE /keys/{hash}", 2),
        ("GET /key", 1),
        ("POST /keys", 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!(world.key("app").await.unwrap()["key_version"], 3);
}
