//! What a role's entry says about a teardown: to the next node, and after the teardown is cancelled.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::harness::{ROTATE, World};

const PATH: &str = "teardown";

/// An order that may still take effect keeps the teardown running.
#[tokio::test]
async fn a_role_whose_keys_are_confirmed_to_be_gone_costs_the_next_node_no_request() {
    let world = World::with_role().await;
    world.write(ROTATE, json!({})).await.unwrap();
    let fault = Fault::ResetBeforeEffect.on("POST", "/keys");
    world.openrouter.faults().add(fault);
    world.write(ROTATE, json!({})).await.unwrap_err();
    world.openrouter.requests().reset();
    let deletions = || world.openrouter.requests().to("DELETE", "/keys/*").len();
    let told = world.told(PATH, json!({})).await;
    assert_eq!((&told["state"], deletions()), (&json!("running"), 2));
    let role = world.role("app").await.unwrap();
    assert_eq!(role["superseded_keys"], json!([]));
    world.restart().await;
    world.pass(60).await;
    let run = world.run(PATH).await;
    assert_eq!(
        (&run["state"], &run["roles_done"]),
        (&json!("running"), &json!(1))
    );
    assert_eq!(deletions(), 2, "nothing is deleted again");
    world.pass(1_200).await;
    assert_eq!(world.run(PATH).await["state"], "finished");
    assert_eq!(world.openrouter.account().count(), 0);
}

/// Otherwise a key that somebody has disabled is not replaced without a person.
#[tokio::test]
async fn a_role_whose_key_was_disabled_before_gets_a_new_one_when_the_teardown_is_cancelled() {
    let world = World::with_role().await;
    let hash = world.current().await;
    let account = world.openrouter.account();
    account.set_disabled(&hash, true).unwrap();
    world.restart().await;
    world.quiet().await;
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("disabled"), "{refusal}");
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "finished", "{told:?}");
    assert!(!world.lives(&hash));
    let message = &world.role("app").await.unwrap()["last_rotation_message"];
    let message = message.as_str().unwrap();
    assert!(message.contains("revoked by a teardown"), "{message}");
    world.delete(PATH, Value::Null).await.unwrap();
    world.quiet().await;
    assert_eq!(world.version().await, 2);
}
