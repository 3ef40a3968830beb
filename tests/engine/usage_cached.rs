//! What a role has spent according to the last readings: without a request, and never more than it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Operation;

use crate::budget::{spend, with_budget};
use crate::harness::{CI, ROTATE, World};

/// An hour. A comparison may come earlier than that by a random part.
const COMPARED: i64 = 3_660;

#[tokio::test]
async fn the_last_readings_are_told_without_a_request() {
    let world = with_budget().await;
    let usage = async |query: Value| {
        let read = world.node().call(Operation::Read, "usage/app", query).await;
        read.unwrap().unwrap().data
    };
    let cached = async || usage(json!({"cached": true})).await;
    // The first comparison was before the role was written.
    let told = cached().await;
    let key = &told["keys"][0];
    assert_eq!(
        (&key["spent"], &key["read_at"]),
        (&json!(null), &json!(null))
    );
    let of_role = ["remaining", "read_at"].map(|field| told[field].clone());
    assert_eq!(of_role, [json!(null), json!(null)]);
    assert_eq!(told["complete"], json!(false));

    spend(&world, &world.current().await, 20.0);
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(2 * 3_600).await;
    let read_at = world.time.now().to_string();
    let asked = usage(json!({})).await;
    assert_eq!(asked["read_at"], json!(read_at));
    spend(&world, &world.current().await, 30.0);
    world.openrouter.requests().reset();
    let calls = world.node().storage.calls();
    let told = cached().await;
    assert_eq!(told, asked);
    assert_eq!(told["spent_day"], json!(20.0));
    assert_eq!(world.openrouter.requests().counts(), BTreeMap::new());
    assert_eq!(world.node().storage.calls() - calls, 1);
    world.pass(COMPARED).await;
    let told = cached().await;
    assert_eq!(
        (&told["spent_day"], &told["remaining"]),
        (&json!(50.0), &json!(50.0))
    );
    assert_ne!(told["read_at"], json!(read_at));
    // Yesterday's reading says nothing about today.
    world
        .write("config", json!({"reconcile_interval": 0}))
        .await
        .unwrap();
    world.pass_without_calls(0).await;
    world.time.set("2026-11-21T00:00:30Z".parse().unwrap());
    let told = cached().await;
    assert_eq!(
        (&told["spent_day"], &told["spent_week"]),
        (&json!(0.0), &json!(50.0))
    );
}

#[tokio::test]
async fn the_last_readings_of_leases_are_told_without_a_request() {
    let world = World::with_dynamic_role().await;
    let body = json!({"ttl": "3h", "max_ttl": "5h", "limit": 5, "budget": 10});
    world.write(CI, body).await.unwrap();
    let hash = world.lease_hash().await;
    let account = world.openrouter.account();
    account.set_usage(&hash, 2.0).unwrap();
    let cached = async || {
        let query = json!({"cached": true});
        let read = world.node().call(Operation::Read, "usage/ci", query).await;
        read.unwrap().unwrap().data
    };
    let told = cached().await;
    assert_eq!(
        (&told["keys"][0]["spent"], &told["remaining"]),
        (&json!(null), &json!(null))
    );
    world.pass(COMPARED).await;
    world.openrouter.requests().reset();
    let told = cached().await;
    assert_eq!(
        (&told["keys"][0]["spent"], &told["remaining"]),
        (&json!(2.0), &json!(8.0))
    );
    assert_eq!(told["complete"], json!(true));
    assert_eq!(world.openrouter.requests().counts(), BTreeMap::new());
    // Nothing is left of a lease that has ended.
    world.revoke().await.unwrap();
    world.pass(700).await;
    let told = cached().await;
    assert_eq!(
        (&told["keys"], &told["remaining"]),
        (&json!([]), &json!(8.0))
    );
}
