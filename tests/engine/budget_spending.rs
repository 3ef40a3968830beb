//! Under a budget no money is spent twice, even with late, stale or restored data, or concurrent changes.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::budget::{limits, spend, with_budget};
use crate::harness::{ROLE, ROTATE, World};

fn lag(world: &World) {
    world
        .openrouter
        .billing()
        .change(|rules| rules.reporting_lag_seconds = 300);
}

/// The key is disabled, and then replaced. The reports that replace the key's own reading lag behind.
#[tokio::test]
async fn what_a_disabled_key_spent_last_is_not_spent_again_by_its_successor() {
    let world = with_budget().await;
    lag(&world);
    let old = world.current().await;
    spend(&world, &old, 90.0);
    let path = format!("disable-key/default/{old}");
    let body = json!({"disabled": true, "force": true});
    world.write(&path, body).await.unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    let new = world.current().await;
    assert_ne!(new, old);
    let both = 90.0 + spend(&world, &new, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}

/// `GET /key` without `budgets`: the reports are used instead.
#[tokio::test]
async fn if_openrouter_reports_no_budgets_the_lag_of_its_reports_is_not_spent_again() {
    let world = with_budget().await;
    lag(&world);
    let old = world.current().await;
    spend(&world, &old, 90.0);
    let bare = Fault::edited_reply(json!({"budgets": []})).on("GET", "/key");
    world.openrouter.faults().add(bare);
    world.write(ROTATE, json!({})).await.unwrap();
    let new = world.current().await;
    let both = 90.0 + spend(&world, &old, 500.0) + spend(&world, &new, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}

/// The comparison raises the limit without storing that first, and without proving that it may still write.
#[tokio::test]
async fn a_deposed_leaders_comparison_raises_no_key_that_its_successor_has_lowered() {
    let world = with_budget().await;
    world
        .write("roles/other", json!({"limit": 1}))
        .await
        .unwrap();
    let body = json!({"reconcile_interval": 60});
    world.write("config", body).await.unwrap();
    world.quiet().await;
    let old = world.node();
    old.storage.deposed_when_putting("roles/other");
    let body = json!({"description": "unheard"});
    old.write("roles/other", body).await.unwrap_err();
    old.life.quiet().await;
    world.take_over().await;
    world.quiet().await;
    world.write(ROLE, json!({"budget": 20})).await.unwrap();
    assert_eq!(limits(&world)[0], (20.0, false));
    // The old leader's next comparison runs before it learns that it was deposed.
    let raises = || world.openrouter.requests().to("PATCH", "/keys/*").len();
    let before = raises();
    world.time.set(world.after(60));
    old.life.quiet().await;
    world.quiet().await;
    assert_eq!(raises(), before, "{:?}", limits(&world));
}

#[tokio::test]
async fn after_a_restore_the_old_key_is_not_raised_beside_the_living_new_one() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    let snapshot = world.snapshot();
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(46.0, false), (54.0, false)]);
    world.restore(snapshot).await;
    world.openrouter.requests().reset();
    world.restart().await;
    world.quiet().await;
    let raises: Vec<_> = world
        .openrouter
        .requests()
        .to("PATCH", "/keys/*")
        .into_iter()
        .filter_map(|request| request.body)
        .filter(|body| body["limit"] == json!(100.0) || body["limit"] == json!(100))
        .collect();
    assert!(
        raises.is_empty(),
        "while the new key may spend 54: {raises:?}"
    );
}

/// Only storage knew it: what the key had spent that ended after the snapshot can be spent again.
#[tokio::test]
async fn after_a_restore_no_more_is_spent_again_than_what_ended_since_had_spent() {
    let world = with_budget().await;
    let old = world.current().await;
    spend(&world, &old, 40.0);
    let snapshot = world.snapshot();
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(601).await;
    assert_eq!(limits(&world), [(60.0, false)], "the first has ended");
    let second = world.current().await;
    let mut spent = 40.0 + spend(&world, &second, 20.0);
    world.restore(snapshot).await;
    world.restart().await;
    world.pass(3 * 3_600).await;
    for key in world.openrouter.account().keys() {
        spent += spend(&world, &key.hash, 500.0);
    }
    assert_ne!(world.current().await, old, "it is gone");
    assert!(spent <= 100.0 + 40.0 + 1.0, "{spent} of 100");
}

/// Its old limit applies until the call arrives. What it spends before that counts as unspent, unless it is read
/// again. If that shows only reports, which lag behind, it may have spent all of its old limit.
#[tokio::test]
async fn what_a_key_spends_while_the_call_that_lowers_it_hangs_is_not_spent_again() {
    for has_exact_reading in [true, false] {
        let world = with_budget().await;
        lag(&world);
        let old = world.current().await;
        spend(&world, &old, 40.0);
        let held = Fault::held().on("PATCH", "/keys/*");
        world.openrouter.faults().add(held);
        let node = world.node();
        let rotation = tokio::spawn(async move { node.write(ROTATE, json!({})).await.map(drop) });
        world.holding(1).await;
        world.time.set(world.after(20));
        let first = 40.0 + spend(&world, &old, 50.0);
        world.openrouter.faults().clear();
        if !has_exact_reading {
            let bare = Fault::edited_reply(json!({"budgets": []})).on("GET", "/key");
            world.openrouter.faults().add(bare);
        }
        rotation.await.unwrap().unwrap();
        let both = first + spend(&world, &world.current().await, 500.0);
        assert!(both <= 101.0, "{both} of 100");
        assert_eq!(both >= 100.0, has_exact_reading, "{both} of 100");
    }
}

#[tokio::test]
async fn a_key_that_was_ordered_to_be_revoked_cannot_be_enabled_again() {
    let world = with_budget().await;
    lag(&world);
    let old = world.current().await;
    spend(&world, &old, 40.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let path = format!("revoke-key/default/{old}");
    world.write(&path, json!({"force": true})).await.unwrap();
    world.pass(590).await;
    let path = format!("disable-key/default/{old}");
    drop(world.write(&path, json!({"disabled": false})).await);
    let old_spent = 40.0 + spend(&world, &old, 500.0);
    world.pass(1_300).await;
    let both = old_spent + spend(&world, &world.current().await, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}
