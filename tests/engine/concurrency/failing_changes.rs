//! A hundred readers while a change of the role fails, in every way in which OpenRouter can fail. Every
//! promise to a reader is kept.

use std::sync::Arc;

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use super::readers::{DEADLOCK, Readers};
use super::until;
use crate::harness::{ROLE, ROTATE, World};

/// Each with whether it is a refusal, which reverts the change.
fn failures() -> [(Fault, bool); 6] {
    let slow = Fault::Slow {
        milliseconds: 20,
        after_effect: false,
    };
    [
        (Fault::status(403), true),
        (Fault::rate_limited(1), true),
        (Fault::LostReply, false),
        (Fault::status(500), false),
        (Fault::status(503).after_the_effect(), false),
        (slow, false),
    ]
}

/// Longer leases and a higher limit, and the opposite.
fn changes() -> [Value; 2] {
    [
        json!({"ttl": 3_000, "rotation_grace_period": 3_600, "limit": 9}),
        json!({"ttl": 10, "rotation_grace_period": 20, "limit": 1}),
    ]
}

/// The fields that a reverted change leaves unchanged.
async fn terms(world: &World) -> [Value; 3] {
    let role = world.role("app").await.unwrap();
    ["ttl", "rotation_grace_period", "limit"].map(|field| role[field].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_kept_their_promises_through_changes_that_fail() {
    for (failure, is_refusal) in failures() {
        for change in changes() {
            let case = format!("{failure:?}, {change}");
            let world = Arc::new(World::with_role().await);
            let before = terms(&world).await;
            let fault = failure.clone().on("PATCH", "/keys/*");
            world.openrouter.faults().add(fault);
            let readers = Readers::of(&world);
            let node = world.node();
            let answer = readers.during(node.write(ROLE, change.clone())).await;
            if is_refusal {
                answer.expect_err(&case);
                assert_eq!(terms(&world).await, before, "{case}");
            }
            let rotated = readers.during(node.write(ROTATE, Value::Null)).await;
            rotated.expect(&case);
            let seen = readers.finish().await;
            assert!(seen.refusals.is_empty(), "{case}: {:?}", seen.refusals);
            assert_eq!(seen.keys.len(), 2, "{case}");
            // Past the longest promise, with its margin, and every grace period.
            world.pass(4_000).await;
            assert_eq!(world.broken_promises(), [""; 0], "{case}");
            // The engine runs on another thread.
            let settled = until(async || world.violations().await.is_empty());
            let _ = tokio::time::timeout(DEADLOCK, settled).await;
            assert_eq!(world.violations().await, [""; 0], "{case}");
        }
    }
}
