//! Separate keys under leases: what they cost, and what happens to them if the server or the caller does not
//! get the answer. Crashes are in `crash_matrix.rs`.

use std::sync::Arc;
use std::time::Duration;

use openrouter_simulator::{Fault, KeyChanges};
use serde_json::json;
use tokio::task::JoinHandle;
use vault_plugin_secrets_openrouter::logical::{Data, Error, FixedSystemView, ReplicationState};

use crate::harness::{CI, Harm, World};

#[tokio::test]
async fn a_lease_costs_two_writes_and_an_order_and_its_end_a_write_and_a_deletion() {
    let world = World::with_dynamic_role().await;
    world.effects.record(Harm::Crash, None);
    world.lease().await.unwrap();
    assert_eq!(
        done(&world.effects.stop()),
        ["put wal/", "POST /keys", "put wal/"]
    );
    world.effects.record(Harm::Crash, None);
    world.revoke().await.unwrap();
    assert_eq!(
        done(&world.effects.stop()),
        ["DELETE /keys/*", "delete wal/"]
    );
    assert!(world.intents().is_empty());
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn a_renewal_costs_one_write_and_none_when_it_ends_no_later() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    world.effects.record(Harm::Crash, None);
    assert_eq!(world.renew(600).await, Ok(Duration::from_secs(600)));
    assert_eq!(done(&world.effects.stop()), ["put wal/"]);
    world.effects.record(Harm::Crash, None);
    assert_eq!(world.renew(100).await, Ok(Duration::from_secs(100)));
    assert_eq!(done(&world.effects.stop()), [""; 0]);
}

#[tokio::test]
async fn a_key_whose_lease_the_server_never_stored_is_deleted_when_the_lease_would_be_over() {
    for restarted in [false, true] {
        let world = World::with_dynamic_role().await;
        world.read("creds/ci").await.unwrap();
        if restarted {
            world.restart().await;
        }
        world.pass(599).await;
        assert_eq!(
            world.openrouter.account().keys().len(),
            1,
            "its time is not over"
        );
        world.pass(2).await;
        assert!(world.openrouter.account().keys().is_empty());
        assert!(world.intents().is_empty());
    }
}

#[tokio::test]
async fn a_renewed_key_is_left_alone_until_its_new_end() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    world.pass(200).await;
    world.renew(0).await.unwrap();
    world.restart().await;
    world.pass(450).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.broken_promises(), [""; 0]);
    world.pass(200).await;
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn a_lease_is_renewed_up_to_max_ttl_and_the_key_outlives_it() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    for _ in 0..12 {
        world.pass(290).await;
        world.renew(0).await.unwrap();
        assert_eq!(world.openrouter.account().keys().len(), 1);
    }
    world.pass(110).await;
    assert_eq!(world.renew(300).await, Ok(Duration::from_secs(10)));
    world.pass(10).await;
    let refusal = world.renew(0).await.unwrap_err().to_string();
    assert!(refusal.contains("max_ttl"), "{refusal}");
    assert_eq!(world.broken_promises(), [""; 0]);
    world.pass(300).await;
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn a_lease_whose_key_is_deleted_is_not_renewed() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    world.pass(700).await;
    let refusal = world.renew(0).await.unwrap_err().to_string();
    assert!(refusal.contains("already deleted"), "{refusal}");
    world.revoke().await.unwrap();
}

#[tokio::test]
async fn a_revocation_that_openrouter_does_not_confirm_is_an_error_until_it_does() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    for fault in [Fault::status(503), Fault::status(500).after_the_effect()] {
        world.openrouter.faults().add(fault.on("DELETE", "/keys/*"));
        let refusal = world.revoke().await.unwrap_err().to_string();
        assert!(refusal.contains("could not be revoked"), "{refusal}");
        assert_eq!(world.records().await.len(), 1, "it is not forgotten");
    }
    world.revoke().await.unwrap();
    assert!(world.intents().is_empty());
}

/// A renewal would promise that the key works. Only what OpenRouter has certainly not done leaves the lease alone.
#[tokio::test]
async fn a_lease_is_renewed_unless_its_key_may_have_been_revoked() {
    let refused = Fault::status(403);
    let (unclear, done) = (Fault::status(500), Fault::status(500).after_the_effect());
    for (fault, is_renewed) in [(refused, true), (unclear, false), (done, false)] {
        let world = World::with_dynamic_role().await;
        world.lease().await.unwrap();
        world.openrouter.faults().add(fault.on("DELETE", "/keys/*"));
        world.revoke().await.unwrap_err();
        world.pass(60).await;
        let renewed = world.renew(0).await;
        assert_eq!(renewed.is_ok(), is_renewed, "{renewed:?}");
        world.revoke().await.unwrap();
        assert!(world.openrouter.account().keys().is_empty());
    }
}

#[tokio::test]
async fn a_lease_whose_record_outlasts_its_key_is_not_renewed() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    world.effects.fail_at("before delete wal/*");
    world.revoke().await.unwrap_err();
    assert!(world.openrouter.account().keys().is_empty());
    assert_eq!(world.records().await.len(), 1);
    world.pass(60).await;
    let refusal = world.renew(0).await.unwrap_err().to_string();
    assert!(refusal.contains("already deleted"), "{refusal}");
    world.revoke().await.unwrap();
    assert_eq!(world.records().await, []);
}

#[tokio::test]
async fn an_order_with_an_unknown_outcome_leaves_no_key() {
    let world = World::with_dynamic_role().await;
    for fault in [
        Fault::status(500).after_the_effect(),
        Fault::status(502),
        Fault::LostReply,
    ] {
        world.openrouter.faults().add(fault.on("POST", "/keys"));
        world.lease().await.unwrap_err();
    }
    world.pass(700).await;
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.intents().is_empty());
}

#[tokio::test]
async fn a_key_that_is_not_what_was_ordered_is_not_handed_out() {
    let world = World::with_dynamic_role().await;
    let other = KeyChanges {
        limit: Some(Some(50.0)),
        ..KeyChanges::default()
    };
    world
        .openrouter
        .faults()
        .add(Fault::CreatedOtherwise(other).on("POST", "/keys"));
    let refusal = world.lease().await.unwrap_err().to_string();
    assert!(refusal.contains("new key was refused"), "{refusal}");
    world.pass(700).await;
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.intents().is_empty());
}

#[tokio::test]
async fn a_hundred_concurrent_reads_get_as_many_keys_as_max_leases_allows() {
    let world = Arc::new(World::with_dynamic_role().await);
    world.write(CI, json!({"max_leases": 30})).await.unwrap();
    world.openrouter.set_latency(Duration::from_millis(2));
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.lease().await })
        })
        .collect();
    let mut served = 0;
    for answer in asked {
        match answer.await.unwrap() {
            Ok(_) => served += 1,
            Err(Error::Status { code, .. }) => assert_eq!(code, 429),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((served, world.openrouter.account().keys().len()), (30, 30));
    assert_eq!(world.openrouter.requests().high_water_mark(), 8);
    world.revoke().await.unwrap();
    world.lease().await.unwrap();
}

#[tokio::test]
async fn leases_of_an_earlier_process_count_too() {
    let world = World::with_dynamic_role().await;
    world.write(CI, json!({"max_leases": 1})).await.unwrap();
    world.lease().await.unwrap();
    world.restart().await;
    let refusal = world.lease().await.unwrap_err().to_string();
    assert!(refusal.contains("max_leases of 1"), "{refusal}");
}

#[tokio::test]
async fn callers_that_give_up_cost_no_key() {
    let world = Arc::new(World::with_dynamic_role().await);
    world.openrouter.set_latency(Duration::from_millis(20));
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let patience = Duration::from_millis(30);
                let _ = tokio::time::timeout(patience, world.lease()).await;
            })
        })
        .collect();
    for caller in asked {
        caller.await.unwrap();
    }
    world.openrouter.set_latency(Duration::ZERO);
    world.pass(700).await;
    world.revoke_what_is_over().await;
    assert_eq!(world.violations().await, [""; 0]);
    assert!(world.openrouter.account().keys().is_empty());
}

/// Nine readers read: the orders of eight are in progress, and one waits for its turn.
async fn one_more_than_have_a_turn(world: &Arc<World>) -> Vec<JoinHandle<Result<Data, Error>>> {
    let held = Fault::held().on("POST", "/keys").times(8);
    world.openrouter.faults().add(held);
    let ask = || {
        let world = Arc::clone(world);
        tokio::spawn(async move { world.lease().await })
    };
    let asked = (0..9).map(|_| ask()).collect();
    world.holding(8).await;
    asked
}

/// Its role may be gone by then, so that the bounds could be written.
#[tokio::test]
async fn a_key_that_waits_for_its_order_is_within_the_bounds_that_are_written_meanwhile() {
    let world = Arc::new(World::with_dynamic_role().await);
    let asked = one_more_than_have_a_turn(&world).await;
    let node = world.node();
    node.delete(CI, json!({})).await.unwrap();
    let bounds = json!({"allowed_roles": "app", "verify_connection": false});
    node.write("config", bounds).await.unwrap();
    world.openrouter.faults().clear();
    let mut refusals = Vec::new();
    for answer in asked {
        let answer = answer.await.unwrap();
        refusals.extend(answer.err().map(|reason| reason.to_string()));
    }
    let refused = |reason: &&String| reason.contains("does not allow role \"ci\"");
    assert_eq!(refusals.iter().filter(refused).count(), 1, "{refusals:?}");
    assert_eq!(world.orders(), 8);
}

#[tokio::test]
async fn a_key_that_waited_for_its_order_lives_as_long_as_any() {
    let world = Arc::new(World::with_dynamic_role().await);
    let asked = one_more_than_have_a_turn(&world).await;
    world.time.set(world.after(1_000));
    world.openrouter.faults().clear();
    let mut expiries = Vec::new();
    for answer in asked {
        let expires_at = answer.await.unwrap().unwrap()["expires_at"].clone();
        expiries.push(expires_at.as_str().unwrap().parse().unwrap());
    }
    let latest: jiff::Timestamp = expiries.into_iter().max().unwrap();
    assert_eq!(latest, world.after(3_600 + 300));
}

#[tokio::test]
async fn a_node_that_may_not_write_forwards_the_request() {
    let world = World::with_dynamic_role().await;
    world.openrouter.requests().reset();
    world
        .fail_over(FixedSystemView {
            replication_state: ReplicationState::PERFORMANCE_STANDBY,
            ..FixedSystemView::default()
        })
        .await;
    assert_eq!(world.lease().await, Err(Error::ReadOnly));
    assert!(world.openrouter.requests().all().is_empty());
    let role = world.role("ci").await.unwrap();
    assert_eq!(role["living_leases"], json!(null), "it does not know");
}

/// The effects that took place, without what distinguishes the keys.
fn done(points: &[String]) -> Vec<String> {
    points
        .iter()
        .filter_map(|point| point.strip_prefix("after "))
        .map(|point| match point.split_once("wal/") {
            Some((call, _)) => format!("{call}wal/"),
            None => point.to_owned(),
        })
        .collect()
}
