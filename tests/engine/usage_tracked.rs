//! What the keys of roles without a budget have spent. Nothing is requested or stored for it unless it is
//! tracked. Then each key is counted once, whatever fails.

use openrouter_simulator::Fault;
use serde_json::{Map, Value, json};
use vault_plugin_secrets_openrouter::logical::{FixedSystemView, Operation, Storage};

use crate::harness::{CI, Harm, ROLE, ROTATE, World};

fn role() -> Value {
    json!({
        "rotation_period": "30d", "rotation_grace_period": 3_600, "ttl": 300, "track_usage": true,
    })
}

async fn tracked() -> World {
    let world = World::connected().await;
    world.write(ROLE, role()).await.unwrap();
    world.quiet().await;
    world
}

/// Makes OpenRouter report that a key has spent this much.
fn has_spent(world: &World, hash: &str, usd: f64) {
    world.openrouter.account().set_usage(hash, usd).unwrap();
}

async fn usage(world: &World, role: &str) -> Map<String, Value> {
    let read = world.read(&format!("usage/{role}")).await;
    read.unwrap().unwrap().data
}

/// The total spending, and whether that is complete.
async fn spent(world: &World, role: &str) -> (f64, bool) {
    let usage = usage(world, role).await;
    let complete = usage["complete"].as_bool().unwrap();
    (usage["spent_ever"].as_f64().unwrap(), complete)
}

async fn stored(world: &World, key: &str) -> String {
    let value = world.storage.get(key).await.unwrap().unwrap();
    String::from_utf8(value).unwrap()
}

#[tokio::test]
async fn an_ended_key_is_read_when_its_requests_have_ended_and_counts() {
    let world = tracked().await;
    let old = world.current().await;
    has_spent(&world, &old, 4.0);
    world.write(ROTATE, json!({})).await.unwrap();
    has_spent(&world, &world.current().await, 0.5);
    world.pass(3_600).await;
    // A request that was in flight.
    assert!(world.openrouter.account().key(&old).unwrap().disabled);
    has_spent(&world, &old, 5.0);
    assert_eq!(spent(&world, "app").await, (5.5, true));
    world.pass(601).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(spent(&world, "app").await, (5.5, true));
    let told = usage(&world, "app").await;
    assert_eq!(
        (&told["budget"], &told["remaining"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn roles_that_do_not_track_usage_pay_nothing() {
    let mut costs = Vec::new();
    for body in [
        json!({}),
        json!({"track_usage": false}),
        json!({"track_usage": true}),
    ] {
        let world = World::connected().await;
        let mut role = role();
        role.as_object_mut().unwrap().remove("track_usage");
        role.as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        world.write(ROLE, role).await.unwrap();
        world.write(ROTATE, json!({})).await.unwrap();
        world.openrouter.requests().reset();
        world.pass(3_600 + 601).await;
        let requests = world.openrouter.requests().counts();
        let requests: usize = requests.values().sum();
        let stored = stored(&world, ROLE).await;
        costs.push((
            requests,
            stored.contains("track") || stored.contains("tally"),
        ));
    }
    assert_eq!(costs[0], costs[1]);
    assert!(!costs[0].1);
    // One that disables the key, and one that reads it.
    assert_eq!(costs[2], (costs[0].0 + 2, true));
}

/// Wherever the process dies, the key is counted, exactly once.
#[tokio::test]
async fn a_key_is_counted_once_wherever_the_process_dies() {
    let mut deaths = 0;
    for at in 0.. {
        let world = tracked().await;
        has_spent(&world, &world.current().await, 4.0);
        world.write(ROTATE, json!({})).await.unwrap();
        world.quiet().await;
        world.effects.record(Harm::Crash, Some(at));
        let has_died = world.effects.crash_during(world.pass(3_600 + 601)).await;
        let points = world.effects.stop();
        if has_died {
            world.quiet().await;
            world.restart().await;
            deaths += 1;
        }
        world.pass(2 * 3_600).await;
        let place = format!("{at}: {:?}", points.last());
        assert_eq!(world.openrouter.account().keys().len(), 1, "{place}");
        assert_eq!(spent(&world, "app").await, (4.0, true), "{place}");
        if !has_died {
            break;
        }
    }
    assert!(deaths > 5, "{deaths}");
}

#[tokio::test]
async fn a_key_whose_deletion_is_retried_is_counted_once_and_is_not_restored() {
    let world = tracked().await;
    has_spent(&world, &world.current().await, 4.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let unreachable = Fault::status(500).on("DELETE", "/keys/*").forever();
    world.openrouter.faults().add(unreachable);
    world.pass(3_600 + 601).await;
    assert_eq!(spent(&world, "app").await, (4.0, true));
    let body = json!({"key_version": 1, "duration": 600});
    let refused = world.write("restore-key/app", body).await.unwrap_err();
    assert!(refused.to_string().contains("already counted"), "{refused}");
    world.openrouter.faults().clear();
    world.pass(2 * 3_600).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(spent(&world, "app").await, (4.0, true));
}

#[tokio::test]
async fn emergencies_orders_and_holds_are_counted_too() {
    let world = tracked().await;
    has_spent(&world, &world.current().await, 1.0);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    let second = world.current().await;
    has_spent(&world, &second, 2.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let order = format!("revoke-key/default/{second}");
    world.write(&order, json!({"force": true})).await.unwrap();
    let alive = |world: &World| {
        let keys = world.openrouter.account().keys();
        keys.iter().filter(|key| !key.disabled).count()
    };
    assert_eq!(alive(&world), 1);
    world
        .write(ROLE, json!({"revocation_hold": 7_200}))
        .await
        .unwrap();
    has_spent(&world, &world.current().await, 4.0);
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(4_000).await;
    assert_eq!(spent(&world, "app").await, (7.0, true));
    // A key that works again is read again.
    let body = json!({"key_version": 3, "duration": 600});
    world.write("restore-key/app", body).await.unwrap();
    assert_eq!(alive(&world), 2);
    let keys = world.openrouter.account().keys();
    has_spent(&world, &keys[0].hash, 5.0);
    world.pass(3 * 3_600).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(spent(&world, "app").await, (8.0, true));
}

#[tokio::test]
async fn a_key_that_is_deleted_by_somebody_is_said_to_be_missing() {
    let world = tracked().await;
    let old = world.current().await;
    has_spent(&world, &old, 4.0);
    world.write(ROTATE, json!({})).await.unwrap();
    world.openrouter.account().delete_key(&old).unwrap();
    world.pass(2 * 3_600).await;
    assert_eq!(spent(&world, "app").await, (0.0, false));
}

/// From a budget to none and back, while a key waits for its final reading.
#[tokio::test]
async fn what_was_counted_stays_when_a_budget_comes_and_goes() {
    let world = tracked().await;
    has_spent(&world, &world.current().await, 1.0);
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(3_600).await;
    world.write(ROLE, json!({"budget": 100})).await.unwrap();
    world.pass(601).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(spent(&world, "app").await, (1.0, true));
    has_spent(&world, &world.current().await, 2.0);
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(3_600).await;
    world.write(ROLE, json!({"budget": null})).await.unwrap();
    world.pass(601).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(spent(&world, "app").await, (3.0, true));
    world
        .write(ROLE, json!({"track_usage": false}))
        .await
        .unwrap();
    assert_eq!(spent(&world, "app").await, (0.0, false));
    assert!(!stored(&world, ROLE).await.contains("tally"));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn leases_are_counted_and_a_later_budget_begins_with_nothing_spent() {
    let world = World::with_dynamic_role().await;
    world.write(CI, json!({"track_usage": true})).await.unwrap();
    let lease = async |usd: f64| {
        let hash = world.lease_hash().await;
        has_spent(&world, &hash, usd);
    };
    lease(3.0).await;
    world.revoke().await.unwrap();
    let keys = world.openrouter.account().keys();
    assert!(keys[0].disabled);
    has_spent(&world, &keys[0].hash, 3.5);
    world.pass(601).await;
    assert_eq!(world.openrouter.account().keys().len(), 0);
    lease(1.0).await;
    assert_eq!(spent(&world, "ci").await, (4.5, true));
    let told = usage(&world, "ci").await;
    assert_eq!(
        (&told["remaining"], &told["available"]),
        (&json!(null), &json!(null))
    );
    world.revoke().await.unwrap();
    world.pass(601).await;
    let body = json!({"budget": 5, "budget_reset": "monthly"});
    world.write(CI, body).await.unwrap();
    let told = usage(&world, "ci").await;
    assert_eq!(
        (&told["remaining"], &told["spent_ever"]),
        (&json!(5.0), &json!(4.5))
    );
    world.lease().await.unwrap();
}

#[tokio::test]
async fn what_leases_have_spent_is_kept_through_any_write_and_forgotten_with_track_usage() {
    let world = World::with_dynamic_role().await;
    world.write(CI, json!({"track_usage": true})).await.unwrap();
    let hash = world.lease_hash().await;
    has_spent(&world, &hash, 3.0);
    world.revoke().await.unwrap();
    world.pass(601).await;
    for (body, expected) in [
        (json!({"description": "the same"}), 3.0),
        (json!({"track_usage": false}), 0.0),
        (json!({"track_usage": true}), 0.0),
    ] {
        world.write(CI, body.clone()).await.unwrap();
        assert_eq!(spent(&world, "ci").await.0, expected, "{body}");
    }
}

#[tokio::test]
async fn a_lease_without_it_is_deleted_at_once_and_on_a_mount_that_is_disabled_too() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    world.revoke().await.unwrap();
    assert_eq!(world.openrouter.account().keys().len(), 0);
    let records = world.records().await;
    assert!(
        records
            .iter()
            .all(|(_, record)| !record.contains("tracked")),
        "{records:?}"
    );
    world.write(CI, json!({"track_usage": true})).await.unwrap();
    world.lease().await.unwrap();
    let tainted = FixedSystemView {
        tainted: true,
        ..FixedSystemView::default()
    };
    world.fail_over(tainted).await;
    world.revoke().await.unwrap();
    assert_eq!(world.openrouter.account().keys().len(), 0);
}

/// A comparison keeps its readings of the keys that are counted.
#[tokio::test]
async fn the_last_readings_are_kept_of_those_who_ask_for_it() {
    for is_tracked in [false, true] {
        let world = World::connected().await;
        let mut body = role();
        body["track_usage"] = json!(is_tracked);
        world.write(ROLE, body).await.unwrap();
        has_spent(&world, &world.current().await, 3.0);
        world.pass(3_660).await;
        let cached = async || {
            let query = json!({"cached": true});
            let read = world.node().call(Operation::Read, "usage/app", query).await;
            read.unwrap().unwrap().data["keys"][0]["spent"].clone()
        };
        let kept = if is_tracked { json!(3.0) } else { json!(null) };
        assert_eq!(cached().await, kept);
        usage(&world, "app").await;
        assert_eq!(cached().await, json!(3.0));
    }
}

/// The key was created without a budget, and its spending is unknown.
#[tokio::test]
async fn a_tracked_lease_whose_key_is_gone_takes_nothing_out_of_a_budget_written_since() {
    let world = World::connected().await;
    let ci = json!({"credential_type": "dynamic", "ttl": 3_000, "track_usage": true});
    world.write(CI, ci).await.unwrap();
    let lease = world.lease().await.unwrap();
    world
        .write(CI, json!({"limit": 2, "budget": 50}))
        .await
        .unwrap();
    let hash = lease["key_hash"].as_str().unwrap();
    world.openrouter.account().delete_key(hash).unwrap();
    world.revoke().await.unwrap();
    world.pass(2 * 601).await;
    world.lease().await.unwrap();
    let told = usage(&world, "ci").await;
    assert_eq!(
        (&told["remaining"], &told["complete"]),
        (&json!(50.0), &json!(false))
    );
}

/// It waits for its final reading.
#[tokio::test]
async fn the_key_of_a_revoked_lease_is_not_enabled_again() {
    let world = World::connected().await;
    let ci = json!({"credential_type": "dynamic", "ttl": 3_000, "track_usage": true});
    world.write(CI, ci).await.unwrap();
    let lease = world.lease().await.unwrap();
    world.revoke().await.unwrap();
    let path = format!(
        "disable-key/default/{}",
        lease["key_hash"].as_str().unwrap()
    );
    let enabled = world.write(&path, json!({"disabled": false})).await;
    let refusal = enabled.unwrap_err().to_string();
    assert!(refusal.contains("is not enabled"), "{refusal}");
}

/// The last readings, in the form of [`spent`], and how many keys are shown.
async fn last_known(world: &World) -> (f64, bool, usize) {
    let query = json!({"cached": true});
    let read = world.node().call(Operation::Read, "usage/app", query).await;
    let told = read.unwrap().unwrap().data;
    let keys = told["keys"].as_array().unwrap().len();
    let complete = told["complete"].as_bool().unwrap();
    (told["spent_ever"].as_f64().unwrap(), complete, keys)
}

/// With and without a budget: the teardown has read the key, and its last reading is still in memory.
#[tokio::test]
async fn a_current_key_that_a_teardown_has_ended_is_counted_once() {
    for is_budgeted in [false, true] {
        let world = tracked().await;
        if is_budgeted {
            world.write(ROLE, json!({"budget": 100})).await.unwrap();
        }
        has_spent(&world, &world.current().await, 4.0);
        assert_eq!(spent(&world, "app").await, (4.0, true));
        world.write("teardown", json!({})).await.unwrap();
        world.quiet().await;
        assert!(world.openrouter.account().keys().is_empty());
        assert_eq!(last_known(&world).await, (4.0, true, 0));
        assert_eq!(spent(&world, "app").await, (4.0, true));
        if is_budgeted {
            assert_eq!(usage(&world, "app").await["remaining"], json!(96.0));
        }
        world.delete("teardown", json!({})).await.unwrap();
        world.quiet().await;
        has_spent(&world, &world.current().await, 0.5);
        assert_eq!(spent(&world, "app").await, (4.5, true));
        assert_eq!(last_known(&world).await.0, 4.5);
        world.pass(2 * 3_600).await;
        assert_eq!(world.openrouter.account().keys().len(), 1);
        assert_eq!(spent(&world, "app").await, (4.5, true));
    }
}

#[tokio::test]
async fn a_teardown_that_is_repeated_counts_no_key_again() {
    let world = tracked().await;
    let old = world.current().await;
    has_spent(&world, &old, 4.0);
    world.write(ROTATE, json!({})).await.unwrap();
    has_spent(&world, &world.current().await, 2.0);
    let fault = Fault::status(500).on("DELETE", &format!("/keys/{old}"));
    world.openrouter.faults().add(fault.forever());
    world.write("teardown", json!({})).await.unwrap();
    assert_eq!(world.openrouter.account().keys().len(), 1);
    world.openrouter.faults().clear();
    world.pass(3_600).await;
    assert!(world.openrouter.account().keys().is_empty());
    assert_eq!(spent(&world, "app").await, (6.0, true));
}

/// The spending that a teardown has counted stays when the role's way of counting changes, or that change is
/// reverted.
#[tokio::test]
async fn a_budget_that_comes_or_goes_during_a_teardown_counts_the_ended_key_once() {
    for (first, then, is_changed) in [
        (json!({"track_usage": true}), json!({"budget": 100}), true),
        // The key that would have to be changed is gone.
        (json!({"budget": 100}), json!({"budget": null}), false),
        (json!({"track_usage": true}), json!({"limit": 5}), false),
    ] {
        let world = tracked().await;
        world.write(ROLE, first).await.unwrap();
        has_spent(&world, &world.current().await, 4.0);
        world.write("teardown", json!({})).await.unwrap();
        let changed = world.write(ROLE, then).await;
        assert_eq!(changed.is_ok(), is_changed, "{changed:?}");
        assert_eq!(last_known(&world).await, (4.0, true, 0));
        world.delete("teardown", json!({})).await.unwrap();
        world.pass(2 * 3_600).await;
        assert_eq!(world.openrouter.account().keys().len(), 1);
        assert_eq!(spent(&world, "app").await, (4.0, true));
    }
}
