//! A read that finds a dead key whose rotation is due. It waits a moment for the rotation, and otherwise is
//! told to retry.

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Error, FixedSystemView, ReplicationState};

use crate::harness::{Answer, ROLE, World};

/// A world in which the role's key has expired at OpenRouter while no node was alive. `prepare` sets the
/// state of OpenRouter when the next node begins.
async fn expired_while_nobody_worked(fields: Value, prepare: impl Fn(&World)) -> World {
    let world = World::connected().await;
    world.write(ROLE, fields).await.unwrap();
    world.quiet().await;
    world.node().life.end();
    world.time.set(world.after(10_000));
    prepare(&world);
    world.restart().await;
    world
}

/// The default lifetime of the key is two periods plus the grace period: 7,800 seconds.
fn hourly() -> Value {
    json!({"rotation_period": 3600, "rotation_grace_period": 600, "ttl": 300})
}

fn status(answer: Answer) -> (u16, String) {
    match answer.unwrap_err() {
        Error::Status { code, message, .. } => (code, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_read_right_after_the_work_has_begun_waits_for_the_rotation_that_is_due() {
    for path in ["creds/app", "static-creds/app"] {
        let world = expired_while_nobody_worked(hourly(), |_| ()).await;
        let begun = world.time.now();
        let answer = world.read_patiently(path).await.unwrap().unwrap();
        assert_eq!(answer.data["key_version"], 2, "{path}");
        // The ttl of a living key.
        assert_eq!(answer.data["ttl"], 300, "{path}");
        assert!(world.time.now().duration_since(begun).as_secs() <= 2);
        world.quiet().await;
        assert_eq!(world.orders(), 2, "the read has ordered nothing itself");
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_read_waits_no_longer_than_two_seconds_for_a_rotation_that_hangs() {
    let slow = Fault::Slow {
        milliseconds: 600_000,
        after_effect: false,
    };
    let hang = |world: &World| {
        let faults = world.openrouter.faults();
        faults.add(slow.clone().on("POST", "/keys").forever());
    };
    let world = expired_while_nobody_worked(hourly(), hang).await;
    while world.orders() < 2 {
        tokio::task::yield_now().await;
    }
    let begun = world.time.now();
    let node = world.node();
    let read = node.read("static-creds/app");
    tokio::pin!(read);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut read => break answer,
            () = tokio::task::yield_now() => {
                let wakes = node.clock.next_wake().filter(|at| *at < world.after(3));
                if let Some(at) = wakes {
                    world.time.set(at);
                }
            }
        }
    };
    let (code, message) = status(answer);
    assert_eq!(code, 503, "{message}");
    assert!(message.contains("its rotation is due"), "{message}");
    let waited = world.time.now().duration_since(begun);
    assert_eq!(waited.as_millis(), 2_000);
}

#[tokio::test]
async fn after_a_failed_rotation_a_read_fails_at_once_and_may_be_retried() {
    let down = |world: &World| {
        let faults = world.openrouter.faults();
        faults.add(Fault::status(503).on("POST", "/keys").forever());
    };
    let world = expired_while_nobody_worked(hourly(), down).await;
    world.quiet().await;
    let begun = world.time.now();
    for path in ["creds/app", "static-creds/app"] {
        let (code, message) = status(world.read(path).await);
        assert_eq!(code, 503, "{message}");
        assert!(message.contains("its rotation failed"), "{message}");
    }
    assert_eq!(world.time.now(), begun);
    world.openrouter.faults().clear();
    world.pass(3_600).await;
    assert!(world.version().await >= 2);
    assert_eq!(world.violations().await, [""; 0]);
}

/// Nothing is about to replace the key, so it is useless to wait or to retry.
#[tokio::test]
async fn with_manual_rotation_a_read_is_rejected() {
    let by_hand = json!({
        "disable_automated_rotation": true,
        "key_max_lifetime": 9_000,
        "rotation_grace_period": 600,
        "ttl": 300,
    });
    let world = expired_while_nobody_worked(by_hand, |_| ()).await;
    let reason = world.read("static-creds/app").await.unwrap_err();
    assert!(matches!(reason, Error::Invalid(_)), "{reason:?}");
    assert!(reason.to_string().contains("rotate-role"), "{reason}");
}

/// A node that may not write rotates nothing: its readers are told to retry, at once.
#[tokio::test]
async fn a_standby_does_not_let_its_reader_wait() {
    let world = World::connected().await;
    world.write(ROLE, hourly()).await.unwrap();
    world.quiet().await;
    world.time.set(world.after(10_000));
    let standby = FixedSystemView {
        replication_state: ReplicationState::PERFORMANCE_STANDBY,
        ..FixedSystemView::default()
    };
    world.fail_over(standby).await;
    let begun = world.time.now();
    let (code, _) = status(world.read("static-creds/app").await);
    assert_eq!((code, world.time.now()), (503, begun));
}
