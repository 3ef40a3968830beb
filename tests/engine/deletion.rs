//! Roles that are deleted while OpenRouter misbehaves.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::harness::{CI, FORGET, ROLE, ROTATE, World, hashes};

#[tokio::test]
async fn forgetting_a_role_names_exactly_the_keys_that_it_may_leave_behind() {
    let world = World::with_role().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let known = hashes(&world.role("app").await.unwrap());
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on("DELETE", "/keys/*").nth(2));
    let answer = world.write(FORGET, json!({})).await.unwrap().unwrap();
    let alive = world.openrouter.account().keys();
    assert_eq!(alive.len(), 1, "one of {known:?}");
    assert_eq!(answer.data["keys_left_behind"], json!([alive[0].hash]));
    assert_eq!(answer.warnings.len(), 1);
    assert!(world.role("app").await.is_none());
}

#[tokio::test]
async fn a_deletion_that_openrouter_refuses_leaves_the_role_in_service() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(403).on("DELETE", "/keys/*"));
    world.delete(ROLE, json!({})).await.unwrap_err();
    assert_eq!(world.version().await, 1);
    assert_eq!(world.complaints().await, [""; 0]);
    world.pass(3_600).await;
    assert_eq!(world.version().await, 2);
    world.delete(ROLE, json!({})).await.unwrap();
    assert!(world.openrouter.account().keys().is_empty());
}

/// The deletion is in progress, and completes on its own.
async fn goes_on(world: &World) {
    let complaints = world.complaints().await;
    assert!(complaints[0].contains("being deleted"), "{complaints:?}");
    world.pass(60).await;
    assert!(world.role("app").await.is_none());
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn a_deletion_that_is_unclear_goes_on_until_openrouter_has_confirmed_it() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(502).on("DELETE", "/keys/*").times(4));
    world.delete(ROLE, json!({})).await.unwrap_err();
    world.key("app").await.unwrap_err();
    goes_on(&world).await;
}

#[tokio::test]
async fn a_role_that_is_being_deleted_is_neither_changed_nor_rotated() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(502).on("DELETE", "/keys/*").forever());
    world.delete(ROLE, json!({})).await.unwrap_err();
    world.write(ROLE, json!({"limit": 7})).await.unwrap_err();
    world.write(ROTATE, Value::Null).await.unwrap_err();
    assert_eq!(world.orders(), 1);
    world.write(FORGET, json!({})).await.unwrap();
    assert!(world.role("app").await.is_none());
}

#[tokio::test]
async fn a_connection_with_an_unconfirmed_creation_is_not_deleted() {
    let world = World::connected().await;
    world
        .openrouter
        .faults()
        .add(Fault::ResetBeforeEffect.on("POST", "/keys"));
    world.write(ROLE, json!({})).await.unwrap_err();
    let refusal = world.delete("config", json!({})).await.unwrap_err();
    assert!(refusal.to_string().contains("recovered"), "{refusal}");
    world.pass(700).await;
    world.delete("config", json!({})).await.unwrap();
}

/// No role uses it any more.
#[tokio::test]
async fn a_connection_that_is_needed_to_revoke_leases_is_not_deleted() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    world.delete(CI, json!({})).await.unwrap();
    let refusal = world.delete("config", json!({})).await.unwrap_err();
    let refusal = refusal.to_string();
    assert!(
        refusal.contains("needed to revoke 1 keys under leases"),
        "{refusal}"
    );
    world.revoke().await.unwrap();
    world.delete("config", json!({})).await.unwrap();
}

/// The first attempt was unclear: the key may be dead, whatever OpenRouter answers later.
#[tokio::test]
async fn a_deletion_that_is_under_way_is_not_taken_back_when_a_later_try_is_refused() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    let node = world.node();
    faults.add(Fault::LostReply.on("DELETE", "/keys/*"));
    node.delete(ROLE, json!({})).await.unwrap_err();
    faults.add(Fault::status(403).on("DELETE", "/keys/*"));
    let refusal = node.delete(ROLE, json!({})).await.unwrap_err().to_string();
    assert!(refusal.contains("no longer hands out its key"), "{refusal}");
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("being deleted"), "{refusal}");
    goes_on(&world).await;
}

#[tokio::test]
async fn a_deletion_is_retried_at_growing_intervals() {
    let world = World::with_role().await;
    let away = Fault::status(503).on("DELETE", "/keys/*").forever();
    world.openrouter.faults().add(away);
    world.delete(ROLE, json!({})).await.unwrap_err();
    world.pass(15 * 60).await;
    let tries = world.openrouter.requests().to("DELETE", "/keys/*").len();
    assert!(
        (7..=15).contains(&tries),
        "{tries} tries in a quarter of an hour"
    );
    world.openrouter.faults().clear();
    world.pass(3_600).await;
    assert!(world.role("app").await.is_none());
}
