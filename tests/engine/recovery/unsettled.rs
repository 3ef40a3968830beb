//! What is found while it cannot be settled, and when it is searched for again.

use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::Value;

use super::requests;
use crate::harness::{ROLE, ROTATE, World};

/// Another task has the role's lock, and the list takes longer than the usual pause.
#[tokio::test]
async fn a_search_that_cannot_be_settled_yet_is_not_repeated_without_a_pause() {
    let world = World::with_role().await;
    let (node, faults) = (world.node(), world.openrouter.faults());
    faults.add(Fault::ResetBeforeEffect.on("POST", "/keys"));
    node.write(ROTATE, Value::Null).await.unwrap_err();
    world.quiet().await;
    let put = node.storage.hold_when_putting(ROLE);
    let rotate = node.write(ROTATE, Value::Null);
    let meanwhile = async {
        put.has_come.cancelled().await;
        world.openrouter.requests().reset();
        faults.add(Fault::held().on("GET", "/keys"));
        world.time.set(world.after(15));
        world.holding(1).await;
        world.time.set(world.after(20));
        faults.clear();
        // Time for a request that must not be made.
        for seconds in [0, 4] {
            world.time.set(world.after(seconds));
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(requests(&world, "GET", "/keys"), 1, "{seconds} s more");
        }
        while requests(&world, "GET", "/keys") == 1 {
            world.time.set(world.after(1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        put.let_go.cancel();
    };
    let (rotated, ()) = tokio::join!(rotate, meanwhile);
    rotated.unwrap();
    world.pass(900).await;
    assert!(world.intents().is_empty());
    assert_eq!(world.violations().await, [""; 0]);
}
