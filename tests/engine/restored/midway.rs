//! The snapshot was taken while a key was being created: it contains the intent, but not the outcome. The key
//! may be in use.

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Entry;

use crate::budget::with_budget;
use crate::harness::{Answer, CI, ROLE, ROTATE, World};

/// Carries out a request, and takes a snapshot while OpenRouter has this one of its own and does not answer.
async fn snapshot_while_held(
    world: &World,
    (method, path): (&str, &str),
    request: impl Future<Output = Answer>,
) -> (Answer, Vec<Entry>) {
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on(method, path));
    let taken = async {
        world.holding(1).await;
        let snapshot = world.snapshot();
        faults.clear();
        snapshot
    };
    tokio::join!(request, taken)
}

/// The same for a request that orders a key.
pub(super) async fn snapshot_during(
    world: &World,
    request: impl Future<Output = Answer>,
) -> (Answer, Vec<Entry>) {
    let (answer, snapshot) = snapshot_while_held(world, ("POST", "/keys"), request).await;
    let has_intent = snapshot.iter().any(|entry| entry.key.starts_with("wal/"));
    assert!(has_intent, "the intent is in it");
    (answer, snapshot)
}

#[tokio::test]
async fn a_key_that_went_into_service_since_is_left_alone_for_the_roles_grace_period() {
    // The previous key is still in its grace period, or is already revoked.
    for since in [60, 700] {
        let world = World::with_role().await;
        let node = world.node();
        let rotate = node.write(ROTATE, Value::Null);
        let (answer, snapshot) = snapshot_during(&world, rotate).await;
        answer.unwrap();
        world.pass(since).await;
        let forgotten = world.key("app").await.unwrap();
        assert_eq!(forgotten["key_version"], 2);
        let hash = forgotten["key_hash"].as_str().unwrap();
        world.restore(snapshot).await;
        world.restart().await;
        world.pass(599).await;
        assert!(world.lives(hash), "applications hold it");
        // Other tasks may have the role's lock at that time.
        world.pass(11).await;
        assert!(!world.lives(hash), "nobody knows of it any more");
        assert_eq!(world.violations().await, [""; 0]);
        assert_eq!(world.broken_promises(), [""; 0]);
    }
}

#[tokio::test]
async fn a_rotation_does_not_wait_for_a_key_that_is_left_alone() {
    let world = World::with_role().await;
    let node = world.node();
    let rotate = node.write(ROTATE, Value::Null);
    let (answer, snapshot) = snapshot_during(&world, rotate).await;
    answer.unwrap();
    world.key("app").await.unwrap();
    world.restore(snapshot).await;
    world.restart().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.openrouter.account().keys().len(), 3);
    world.pass(599).await;
    assert_eq!(world.openrouter.account().keys().len(), 3);
    // At the same time the superseded key is revoked, under the same lock.
    world.pass(11).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// What looks like a key that somebody has disabled is one that the engine itself has disabled, when the key in
/// the making had replaced it.
#[tokio::test]
async fn a_rotation_that_was_under_way_is_done_again_if_its_old_key_is_held_since() {
    for automated in [true, false] {
        let world = World::with_role().await;
        let body = json!({"revocation_hold": 7_000, "rotation_period": "30d",
            "disable_automated_rotation": !automated});
        world.write(ROLE, body).await.unwrap();
        let old = world.key_hash("app").await;
        let node = world.node();
        let emergency = json!({"rotation_grace_period": 0});
        let rotate = node.write(ROTATE, emergency);
        let (answer, snapshot) = snapshot_during(&world, rotate).await;
        answer.unwrap();
        let forgotten = world.key_hash("app").await;
        assert!(world.seen(&old).disabled);
        world.restore(snapshot).await;
        world.restart().await;
        world.pass(60).await;
        let current = world.key_hash("app").await;
        assert!(
            ![&old, &forgotten].contains(&&current),
            "automated: {automated}"
        );
        assert!(world.lives(&forgotten), "applications hold it");
        world.pass(700).await;
        assert!(!world.lives(&forgotten), "nobody knows of it any more");
        assert_eq!(world.broken_promises(), [""; 0]);
    }
}

/// The first node finds that the old key is disabled, and dies before it has found the key in the making.
#[tokio::test]
async fn an_old_key_that_is_held_since_is_replaced_although_the_node_that_saw_it_first_has_died() {
    let world = World::with_role().await;
    let body = json!({"revocation_hold": 7_000, "rotation_period": "30d"});
    world.write(ROLE, body).await.unwrap();
    let stored = async || world.role("app").await.unwrap()["current_key"]["hash"].clone();
    let old = stored().await;
    let node = world.node();
    let rotate = node.write(ROTATE, json!({"rotation_grace_period": 0}));
    let (answer, snapshot) = snapshot_during(&world, rotate).await;
    answer.unwrap();
    let forgotten = world.key_hash("app").await;
    world.restore(snapshot).await;
    // The first list is that of the search.
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("GET", "/keys").nth(1));
    world.restart().await;
    world.quiet().await;
    assert_eq!(stored().await, old);
    assert!(
        world.key("app").await.is_err(),
        "it was found to be disabled"
    );
    world.pass(5).await;
    world.restart().await;
    world.pass(60).await;
    let current = world.key_hash("app").await;
    assert!(current != old && current != forgotten);
    assert!(world.lives(&forgotten), "applications hold it");
    world.pass(700).await;
    assert!(!world.lives(&forgotten), "nobody knows of it any more");
    assert_eq!(world.violations().await, [""; 0]);
}

/// This many orders with an unknown outcome prevent a role from ordering another key.
#[tokio::test]
async fn however_many_keys_are_left_alone_the_next_is_ordered() {
    let world = World::with_role().await;
    let (node, faults) = (world.node(), world.openrouter.faults());
    faults.add(Fault::LostReply.on("POST", "/keys").times(8));
    faults.add(Fault::status(503).on("GET", "/keys").forever());
    for _ in 0..8 {
        // Only an emergency does not wait until the earlier orders are searched for.
        let at_once = json!({"rotation_grace_period": 0});
        node.write(ROTATE, at_once).await.unwrap_err();
    }
    node.life.end();
    faults.clear();
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.intents().len(), 8);
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.version().await, 2);
    assert_eq!(world.openrouter.account().keys().len(), 1 + 8 + 1);
    world.pass(620).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn a_leased_key_is_left_alone_for_the_leases_ttl_and_takes_no_place() {
    let world = World::with_dynamic_role().await;
    world.write(CI, json!({"max_leases": 1})).await.unwrap();
    let lease = async { world.lease().await.map(|_| None) };
    let (answer, snapshot) = snapshot_during(&world, lease).await;
    answer.unwrap();
    let hash = &world.server_leases()[0].key_hash;
    world.restore(snapshot).await;
    world.restart().await;
    world.pass(299).await;
    assert!(world.lives(hash), "its reader holds it");
    world.read("creds/ci").await.expect("there is a place");
    world.pass(2).await;
    assert!(!world.lives(hash));
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// Its first key was created, and then the process died: there is no entry that could be rewritten as a
/// fence.
#[tokio::test]
async fn the_key_of_a_role_that_does_not_exist_lives_two_minutes_however_short_its_grace() {
    for (grace, lives) in [(10, 120), (600, 600)] {
        let world = World::connected().await;
        let body = json!({"rotation_grace_period": grace, "ttl": 5});
        world
            .die_during("after POST /keys", world.write(ROLE, body))
            .await;
        world.restart().await;
        world.pass(lives - 1).await;
        assert_eq!(world.openrouter.account().keys().len(), 1, "{grace}");
        world.pass(1).await;
        assert_eq!(world.openrouter.account().keys().len(), 0, "{grace}");
        assert!(world.intents().is_empty(), "{grace}");
    }
}

/// The snapshot cannot contain what this instance announced itself.
#[tokio::test]
async fn a_key_whose_order_was_lost_in_this_life_is_deleted_at_once() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("POST", "/keys"));
    world.node().write(ROTATE, Value::Null).await.unwrap_err();
    world.quiet().await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.violations().await, [""; 0]);
}

/// The snapshot was taken when the old key was to be lowered. Of a key that is gone, nothing can be uncertain.
#[tokio::test]
async fn a_key_under_a_budget_that_is_gone_since_a_rotation_was_under_way_is_replaced_at_once() {
    for grace in [0, 600] {
        let world = with_budget().await;
        let old = world.key_hash("app").await;
        let node = world.node();
        let rotate = node.write(ROTATE, json!({"rotation_grace_period": grace}));
        let (answer, snapshot) = snapshot_while_held(&world, ("PATCH", "/keys/*"), rotate).await;
        answer.unwrap();
        if grace == 0 {
            world.forgive_deaths();
        }
        world.pass(1_300).await;
        assert!(!world.lives(&old), "{grace}");
        let forgotten = world.key_hash("app").await;
        world.restore(snapshot).await;
        world.restart().await;
        world.quiet().await;
        let current = world.key_hash("app").await;
        assert!(![&old, &forgotten].contains(&&current), "{grace}");
        assert!(world.lives(&forgotten), "applications hold it");
        world.pass(3_700).await;
        assert!(!world.lives(&forgotten), "nobody knows of it any more");
        assert_eq!(world.broken_promises(), [""; 0], "{grace}");
    }
}
