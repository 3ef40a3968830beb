//! Changes of the keys of leases outside the engine.

use openrouter_simulator::KeyChanges;
use serde_json::json;

use super::{HOUR, change, drift, found};
use crate::harness::{CI, World};

/// A dynamic role with room for two leases, both taken.
async fn full() -> (World, [String; 2]) {
    let world = World::connected().await;
    let body = json!({
        "credential_type": "dynamic", "ttl": "5h", "max_ttl": "10h", "limit": 5, "max_leases": 2,
    });
    world.write(CI, body).await.unwrap();
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let lease = world.lease().await.unwrap();
        hashes.push(lease["key_hash"].as_str().unwrap().to_owned());
    }
    world.lease().await.unwrap_err();
    (world, hashes.try_into().unwrap())
}

#[tokio::test]
async fn the_place_of_a_lease_whose_key_is_gone_is_free_again() {
    let (world, [gone, other]) = full().await;
    world.openrouter.account().delete_key(&gone).unwrap();
    world.pass(HOUR).await;
    assert_eq!(drift(&world, "ci").await, found("leased_key_gone", &gone));
    assert_eq!(world.role("ci").await.unwrap()["living_leases"], 1);
    world.lease().await.unwrap();
    // The server's own revocation of the lease finds nothing left to do.
    world.revoke().await.unwrap();
    assert!(world.seen(&other).deleted_at.is_none());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn limits_of_a_leased_key_are_applied_again_as_they_were_granted() {
    let (world, [changed, _]) = full().await;
    // The role was changed in the meantime.
    world.write(CI, json!({"limit": 7})).await.unwrap();
    let more = KeyChanges {
        limit: Some(Some(1_000.0)),
        ..KeyChanges::default()
    };
    change(&world, &changed, more);
    world.pass(HOUR).await;
    assert_eq!(world.seen(&changed).limit, Some(5.0));
    assert_eq!(drift(&world, "ci").await, found("limits_changed", &changed));
}

#[tokio::test]
async fn a_leased_key_that_was_disabled_or_renamed_is_reported_once() {
    let (world, [disabled, renamed]) = full().await;
    world
        .openrouter
        .account()
        .set_disabled(&disabled, true)
        .unwrap();
    let named = KeyChanges {
        name: Some("by hand".to_owned()),
        ..KeyChanges::default()
    };
    change(&world, &renamed, named);
    world.pass(3 * HOUR).await;
    let mut all = drift(&world, "ci").await;
    all.sort();
    let mut expected = found("key_renamed", &renamed);
    expected.extend(found("leased_key_disabled", &disabled));
    expected.sort();
    assert_eq!(all, expected);
    assert!(world.seen(&disabled).disabled, "nobody enables it");
}

#[tokio::test]
async fn a_lease_whose_key_is_unseen_stays_while_nothing_shows_that_the_account_is_seen() {
    let (world, _) = full().await;
    let other = world.openrouter.add_account();
    let body = json!({"management_key": other.add_management_key(), "force": true});
    world.write("config", body).await.unwrap();
    world.pass(2 * HOUR).await;
    assert_eq!(world.role("ci").await.unwrap()["living_leases"], 2);
    assert_eq!(drift(&world, "ci").await, []);
}

#[tokio::test]
async fn a_key_of_another_workspace_shows_too_that_the_account_is_seen() {
    let world = World::with_role().await;
    let account = world.openrouter.account();
    let body = json!({"credential_type": "dynamic", "ttl": "5h", "max_ttl": "5h",
        "workspace_id": account.add_workspace()});
    world.write(CI, body).await.unwrap();
    let hash = world.lease_hash().await;
    account.delete_key(&hash).unwrap();
    world.pass(HOUR).await;
    assert_eq!(world.role("ci").await.unwrap()["living_leases"], 0);
    let gone = found("leased_key_gone", &hash);
    assert_eq!(drift(&world, "ci").await, gone);
}

/// A finding that was reported and needs no action is not checked again.
#[tokio::test]
async fn a_leased_key_that_was_disabled_renamed_or_moved_costs_one_lookup() {
    let (world, [first, second]) = full().await;
    let account = world.openrouter.account();
    account.set_disabled(&first, true).unwrap();
    // Another key shows which workspace is the default one.
    account.create_key(openrouter_simulator::NewKey::named("somebody's"));
    let changed = KeyChanges {
        name: Some("by hand".to_owned()),
        workspace_id: Some(account.add_workspace()),
        ..KeyChanges::default()
    };
    change(&world, &second, changed);
    world.pass(HOUR).await;
    let all = drift(&world, "ci").await;
    assert_eq!(all.len(), 3, "{all:?}");
    world.pass(HOUR).await;
    world.openrouter.requests().reset();
    let calls = world.node().storage.calls();
    world.time.set(world.after(HOUR));
    world.quiet().await;
    let requests = world.openrouter.requests().counts();
    assert_eq!(
        requests,
        [("GET /keys".to_owned(), 2)].into(),
        "one a place"
    );
    assert_eq!(world.node().storage.calls(), calls);
    assert_eq!(drift(&world, "ci").await, all);
    world.revoke().await.unwrap();
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_leased_key_that_is_disabled_enabled_and_disabled_again_is_reported_twice() {
    let (world, [hash, _]) = full().await;
    let once = found("leased_key_disabled", &hash);
    for (disabled, said) in [
        (true, once.clone()),
        (false, once.clone()),
        (true, [once.clone(), once].concat()),
    ] {
        let account = world.openrouter.account();
        account.set_disabled(&hash, disabled).unwrap();
        world.pass(HOUR).await;
        assert_eq!(drift(&world, "ci").await, said, "disabled: {disabled}");
    }
}
