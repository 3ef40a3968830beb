//! Things that end while a caller creates or extends what needs them: connections and leases. The tests try
//! every order of the two, one step later each time.

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::harness::{CI, ROLE, ROTATE, World};

/// More steps than either of the two takes.
const STEPS: usize = 60;

async fn steps(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

async fn connect(world: &World, name: &str) {
    let key = json!({
        "management_key": world.openrouter.management_key(),
        "api_url": world.gate_url(),
    });
    world.write(&format!("config/{name}"), key).await.unwrap();
}

/// Deletes the connection while `work` waits for OpenRouter. The deletion is rejected.
async fn is_not_deleted_during(world: &World, method: &str, path: &str, work: impl Future) {
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on(method, path));
    let node = world.node();
    let deleted = async {
        world.holding(1).await;
        let answer = node.delete("config", json!({})).await;
        faults.clear();
        answer
    };
    let (_, answer) = tokio::join!(work, deleted);
    answer.expect_err("a key that is in the making needs it");
    assert!(world.read("config").await.unwrap().is_some());
}

#[tokio::test]
async fn a_connection_is_not_deleted_while_a_role_or_a_lease_is_made_through_it() {
    let world = World::connected().await;
    let node = world.node();
    let creation = node.write(ROLE, json!({}));
    is_not_deleted_during(&world, "POST", "/keys", creation).await;
    assert!(world.key("app").await.is_ok());
    world.delete(ROLE, json!({})).await.unwrap();

    let role = json!({"credential_type": "dynamic"});
    world.write(CI, role).await.unwrap();
    let lease = async {
        // The role itself is deleted in the meantime: only the lease needs the connection.
        let gone = async {
            world.holding(1).await;
            node.delete(CI, json!({})).await.unwrap();
        };
        tokio::join!(world.lease(), gone).0.unwrap();
    };
    is_not_deleted_during(&world, "POST", "/keys", lease).await;
    world.revoke().await.unwrap();
    world.delete("config", json!({})).await.unwrap();
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn whoever_makes_something_and_whoever_deletes_its_connection_never_both_succeed() {
    for role in [json!({}), json!({"credential_type": "dynamic"})] {
        let mut outcomes = [0, 0];
        for later in 0..STEPS {
            let world = World::connected().await;
            let node = world.node();
            let creation = async {
                steps(later).await;
                node.write(ROLE, role.clone()).await
            };
            let deletion = async {
                steps(STEPS / 2).await;
                node.delete("config", json!({})).await
            };
            let (created, deleted) = tokio::join!(creation, deletion);
            let has_connection = world.read("config").await.unwrap().is_some();
            assert!(created.is_err() || deleted.is_err(), "{later} steps later");
            assert_eq!(has_connection, deleted.is_err(), "{later} steps later");
            assert_eq!(world.role("app").await.is_some(), created.is_ok());
            let keys = world.openrouter.account().keys().len();
            let is_rotating = role.as_object().unwrap().is_empty();
            assert_eq!(keys, usize::from(created.is_ok() && is_rotating));
            outcomes[usize::from(created.is_ok())] += 1;
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    }
}

#[tokio::test]
async fn whoever_moves_a_role_and_whoever_deletes_its_new_connection_never_both_succeed() {
    let mut outcomes = [0, 0];
    for later in 0..STEPS {
        let world = World::with_role().await;
        connect(&world, "other").await;
        let node = world.node();
        let change = async {
            steps(later).await;
            node.write(ROLE, json!({"connection": "other"})).await
        };
        let deletion = async {
            steps(STEPS / 2).await;
            node.delete("config/other", json!({})).await
        };
        let (changed, deleted) = tokio::join!(change, deletion);
        assert!(changed.is_err() || deleted.is_err(), "{later} steps later");
        world.write(ROTATE, Value::Null).await.unwrap();
        outcomes[usize::from(changed.is_ok())] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

#[tokio::test]
async fn a_lease_that_is_extended_while_it_ends_does_not_come_back() {
    let mut outcomes = [0, 0];
    for later in 0..STEPS {
        let world = World::with_dynamic_role().await;
        world.write(CI, json!({"max_leases": 1})).await.unwrap();
        world.lease().await.unwrap();
        let faults = world.openrouter.faults();
        faults.add(Fault::held().on("DELETE", "/keys/*"));
        let renewal = async {
            world.holding(1).await;
            let freed = async {
                steps(STEPS / 2).await;
                faults.clear();
            };
            let renewed = async {
                steps(later).await;
                world.renew(600).await
            };
            tokio::join!(renewed, freed).0
        };
        let (revoked, renewed) = tokio::join!(world.revoke(), renewal);
        revoked.unwrap();
        assert!(world.intents().is_empty(), "{later} steps later");
        assert_eq!(world.role("ci").await.unwrap()["living_leases"], 0);
        world.lease().await.expect("its place is free again");
        outcomes[usize::from(renewed.is_ok())] += 1;
    }
    assert!(outcomes[0] > 0, "{outcomes:?}");
}
