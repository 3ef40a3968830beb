//! Bounds that are tightened while a role is being created.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::{ROLE, World, role};

#[tokio::test]
async fn a_role_is_not_made_beyond_bounds_that_were_written_while_its_first_key_was_ordered() {
    let world = World::connected().await;
    let (makes, binds) = (world.node(), world.node());
    world
        .openrouter
        .faults()
        .add(Fault::held().on("POST", "/keys"));
    let bound = async {
        world.holding(1).await;
        let bound = binds.write("config", json!({"max_limit": 4})).await;
        world.openrouter.faults().clear();
        bound
    };
    let (made, bound) = tokio::join!(makes.write(ROLE, role()), bound);
    bound.unwrap();
    let refusal = made.unwrap_err().to_string();
    assert!(refusal.contains("at most 4 US dollars"), "{refusal}");
    assert_eq!(world.orders(), 1);
    world.pass(10).await;
    assert!(world.role("app").await.is_none());
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.intents().is_empty());
}
