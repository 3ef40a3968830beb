//! Searching for keys whose creation was never confirmed: what it costs, and what waits for it.

use std::time::Duration;

use futures::future::join_all;
use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World, role};

mod unsettled;

/// This many first keys were created and never confirmed, and cannot be searched for.
async fn lost(orders: usize) -> World {
    let world = World::connected().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("POST", "/keys").forever());
    faults.add(Fault::status(503).on("GET", "/keys").forever());
    for number in 0..orders {
        let role = format!("roles/r{number}");
        let body = json!({"rotation_grace_period": GRACE, "ttl": 300});
        world.write(&role, body).await.unwrap_err();
    }
    assert_eq!(world.intents().len(), orders);
    assert_eq!(world.openrouter.account().keys().len(), orders);
    world.openrouter.requests().reset();
    world
}

/// In seconds: how long a key that was found after a start may be in use.
const GRACE: i64 = 600;

/// The same, but then the node died, and OpenRouter can be asked again.
async fn adrift(orders: usize) -> World {
    let world = lost(orders).await;
    world.node().life.end();
    world.openrouter.faults().clear();
    world
}

fn requests(world: &World, method: &str, path: &str) -> usize {
    world.openrouter.requests().to(method, path).len()
}

#[tokio::test]
async fn one_listing_serves_all_that_are_looked_for_in_a_workspace() {
    let world = adrift(50).await;
    world
        .openrouter
        .account()
        .create_keys("somebody else's", 180);
    world.restart().await;
    world.quiet().await;
    assert_eq!(requests(&world, "GET", "/keys"), 3, "pages of 230 keys");
    assert_eq!(
        requests(&world, "DELETE", "/keys/*"),
        0,
        "they may be in use"
    );
    world.pass(GRACE - 1).await;
    assert_eq!(world.openrouter.account().keys().len(), 230);
    world.pass(1).await;
    assert_eq!(requests(&world, "GET", "/keys"), 6, "one more listing");
    assert_eq!(requests(&world, "DELETE", "/keys/*"), 50);
    assert!(world.intents().is_empty());
    assert_eq!(world.openrouter.account().keys().len(), 180);
}

/// A first key was lost, and a hundred newer foreign keys are listed before it. The second page is held until
/// `meanwhile` has finished.
async fn the_lost_key_on_the_second_page_is_deleted(meanwhile: impl FnOnce(&World)) {
    let world = adrift(1).await;
    let account = world.openrouter.account();
    let lost = account.keys()[0].hash.clone();
    // A key that is not found by now counts as never created.
    world.time.set(world.after(1_200));
    account.create_keys("somebody else's", 100);
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on("GET", "/keys").nth(2));
    let meanwhile = async {
        world.holding(1).await;
        meanwhile(&world);
        faults.clear();
    };
    tokio::join!(world.restart(), meanwhile);
    world.pass(GRACE - 1).await;
    assert!(account.key(&lost).unwrap().deleted_at.is_none());
    world.pass(1).await;
    assert!(account.key(&lost).unwrap().deleted_at.is_some());
    assert!(world.intents().is_empty());
}

#[tokio::test]
async fn a_lost_key_on_the_second_page_is_found() {
    the_lost_key_on_the_second_page_is_deleted(|_| ()).await;
}

#[tokio::test]
async fn a_deletion_while_keys_are_listed_hides_no_lost_key() {
    the_lost_key_on_the_second_page_is_deleted(|world| {
        let account = world.openrouter.account();
        let newest = account.keys().last().unwrap().hash.clone();
        account.delete_key(&newest).unwrap();
    })
    .await;
}

#[tokio::test]
async fn keys_that_cannot_be_found_share_the_later_listings() {
    let world = World::connected().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::ResetBeforeEffect.on("POST", "/keys").forever());
    for number in 0..40 {
        let role = format!("roles/r{number}");
        world.write(&role, json!({})).await.unwrap_err();
        world.pass(1).await;
    }
    world.pass(700).await;
    assert!(world.intents().is_empty());
    let listings = requests(&world, "GET", "/keys");
    assert!(
        listings <= 4 * 45 / 5 + 4,
        "{listings} listings, at least 5 s apart"
    );
}

/// The orders were made a hundred seconds apart.
async fn with_two_lost_orders() -> World {
    let world = World::connected().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::ResetBeforeEffect.on("POST", "/keys").times(2));
    world.write("roles/a", json!({})).await.unwrap_err();
    world.pass(100).await;
    world.write("roles/b", json!({})).await.unwrap_err();
    world
}

#[tokio::test]
async fn each_intent_has_its_own_schedule_and_is_deleted_on_its_own() {
    let world = with_two_lost_orders().await;
    for (seconds, left) in [(499, 2), (1, 1), (99, 1), (1, 0)] {
        world.pass(seconds).await;
        assert_eq!(world.intents().len(), left, "after {seconds} s more");
    }
}

/// The older of two orders is searched for without a result, shortly before the younger one is due.
#[tokio::test]
async fn a_failed_search_does_not_delay_one_that_is_due_soon() {
    let world = with_two_lost_orders().await;
    world.pass(19).await;
    let away = Fault::status(503).on("GET", "/keys");
    world.openrouter.faults().add(away);
    world.openrouter.requests().reset();
    world.pass(1).await;
    assert_eq!(requests(&world, "GET", "/keys"), 1, "that of the older");
    // The younger one is due after ten seconds, and nothing is repeated within fifteen.
    world.pass(14).await;
    assert_eq!(requests(&world, "GET", "/keys"), 1);
    world.pass(1).await;
    assert_eq!(requests(&world, "GET", "/keys"), 2);
}

#[tokio::test]
async fn a_key_that_cannot_be_deleted_holds_up_no_other() {
    let world = adrift(5).await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(500).on("DELETE", "/keys/*").nth(2));
    world.restart().await;
    world.pass(GRACE).await;
    assert_eq!(world.intents().len(), 1);
    assert_eq!(world.openrouter.account().keys().len(), 1);
    // It is retried after about as long as it has been in progress.
    world.pass(1_100).await;
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_role_orders_no_other_key_while_an_earlier_one_cannot_be_looked_for_or_deleted() {
    for (method, path) in [("GET", "/keys"), ("DELETE", "/keys/*")] {
        let world = World::with_role().await;
        let faults = world.openrouter.faults();
        faults.add(Fault::LostReply.on("POST", "/keys"));
        faults.add(Fault::status(503).on(method, path).forever());
        world.write(ROTATE, Value::Null).await.unwrap_err();
        for _ in 0..3 {
            let refusal = world.write(ROTATE, Value::Null).await.unwrap_err();
            let refusal = refusal.to_string();
            assert!(refusal.contains("an earlier order"), "{method}: {refusal}");
            assert!(refusal.contains("503"), "{method}: {refusal}");
        }
        assert_eq!(world.orders(), 2, "{method}");
        assert_eq!(world.intents().len(), 1, "{method}");
        let role = world.role("app").await.unwrap();
        assert_eq!(role["rotation_status"], "failed");
        faults.clear();
        world.write(ROTATE, Value::Null).await.unwrap();
        assert_eq!(world.version().await, 2);
        assert_eq!(world.violations().await, [""; 0], "{method}");
    }
}

#[tokio::test]
async fn a_rotation_and_the_keeper_share_the_search_for_the_same_key() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("POST", "/keys"));
    let slow = Fault::Slow {
        milliseconds: 50,
        after_effect: true,
    };
    faults.add(slow.on("GET", "/keys").forever());
    let node = world.node();
    node.write(ROTATE, Value::Null).await.unwrap_err();
    // The keeper has started by then, or is about to.
    node.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.version().await, 2);
    world.quiet().await;
    assert!(requests(&world, "GET", "/keys") <= 2);
    assert_eq!(requests(&world, "DELETE", "/keys/*"), 1);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn concurrent_retries_of_orders_share_a_listing_that_fails() {
    let world = lost(30).await;
    world.openrouter.set_latency(Duration::from_millis(50));
    let node = &world.node();
    let again = (0..30).map(|number| async move {
        let role = format!("roles/r{number}");
        node.write(&role, json!({})).await
    });
    for answer in join_all(again).await {
        let refusal = answer.unwrap_err().to_string();
        assert!(refusal.contains("503"), "{refusal}");
    }
    let listings = requests(&world, "GET", "/keys");
    assert!(listings < 10, "{listings} listings for 30 roles");
    assert_eq!(world.orders(), 0);
    assert_eq!(world.intents().len(), 30);
}

#[tokio::test]
async fn an_order_that_was_lost_elsewhere_holds_a_role_up_no_longer() {
    let world = World::with_role().await;
    let key = json!({
        "management_key": world.openrouter.account().add_management_key(),
        "api_url": world.gate_url(),
    });
    world.write("config/other", key).await.unwrap();
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("POST", "/keys"));
    faults.add(Fault::status(503).on("GET", "/keys").forever());
    world.write(ROTATE, Value::Null).await.unwrap_err();
    world
        .write(ROLE, json!({"connection": "other"}))
        .await
        .unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.version().await, 2);
}

/// The lock that it holds says nothing about the other role.
#[tokio::test]
async fn a_role_that_looks_for_its_own_order_leaves_that_of_another_role_alone() {
    let world = World::with_role().await;
    world.write("roles/other", role()).await.unwrap();
    let (node, faults) = (world.node(), world.openrouter.faults());
    faults.add(Fault::LostReply.on("POST", "/keys").times(2));
    faults.add(Fault::status(503).on("GET", "/keys").forever());
    for path in [ROTATE, "rotate-role/other"] {
        node.write(path, Value::Null).await.unwrap_err();
    }
    world.quiet().await;
    faults.clear();
    let before = requests(&world, "DELETE", "/keys/*");
    node.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(requests(&world, "DELETE", "/keys/*") - before, 1);
    assert_eq!(world.intents().len(), 1);
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0]);
}

/// Two roles have an order each whose reply is lost, the second while the first is being searched for.
#[tokio::test]
async fn a_listing_that_began_before_an_order_says_nothing_of_its_key() {
    let world = World::with_role().await;
    world.write("roles/other", role()).await.unwrap();
    let (node, faults) = (world.node(), world.openrouter.faults());
    faults.add(Fault::LostReply.on("POST", "/keys").times(2));
    faults.add(Fault::held().on("GET", "/keys"));
    node.write(ROTATE, Value::Null).await.unwrap_err();
    world.holding(1).await;
    let other = node.write("rotate-role/other", Value::Null).await;
    other.unwrap_err();
    assert_eq!(world.orders(), 4);
    // The listing in progress completes, and there is no other.
    faults.clear();
    faults.add(Fault::status(503).on("GET", "/keys").forever());
    world.quiet().await;
    assert_eq!(world.intents().len(), 1, "the first is settled");
    let again = node.write("rotate-role/other", Value::Null).await;
    let refusal = again.unwrap_err().to_string();
    assert!(
        refusal.contains("the outcome of an earlier order is unknown"),
        "{refusal}"
    );
    assert_eq!(world.orders(), 4, "nobody has looked for the second yet");
    faults.clear();
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0]);
}
