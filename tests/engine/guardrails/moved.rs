//! Keys that are moved to another workspace in the dashboard, and back. Guardrails belong to workspaces.

use openrouter_simulator::{Fault, NewKey};
use serde_json::{Value, json};

use super::leases::with_guarded_leases;
use super::{ASSIGN, all_held_to, guardrail_of, held_to, move_to, with_guarded_role};
use crate::harness::{CI, ROLE, World, role};

/// Each comparison starts from the beginning.
async fn compare(world: &World) {
    world.restart().await;
    world.quiet().await;
}

/// For the default workspace, the UUID is not stored: a key that was moved back is where its role is, whichever
/// workspace is listed first.
#[tokio::test]
async fn a_key_that_was_moved_away_and_back_is_held_to_its_roles_next_guardrail() {
    for (path, is_listed_late) in [(ROLE, false), (ROLE, true), (CI, false), (CI, true)] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        let (default, elsewhere) = (account.default_workspace(), account.add_workspace());
        // So that a key shows which workspace is the default one.
        account.create_key(NewKey::named("another"));
        let hash = if path == ROLE {
            world.write(ROLE, role()).await.unwrap();
            world.key_hash("app").await
        } else {
            let ci = json!({"credential_type": "dynamic", "ttl": 3_000});
            world.write(CI, ci).await.unwrap();
            let lease = world.lease().await.unwrap();
            lease["key_hash"].as_str().unwrap().to_owned()
        };
        move_to(&world, &hash, &elsewhere);
        compare(&world).await;
        move_to(&world, &hash, &default);
        if is_listed_late {
            // The default workspace's list is the first.
            let unavailable = Fault::status(503).on("GET", "/keys");
            world.openrouter.faults().add(unavailable);
        }
        compare(&world).await;
        world.pass(60).await;
        let own = guardrail_of(&world, "own", &default);
        world
            .write(path, json!({"guardrail": "own"}))
            .await
            .unwrap();
        let case = format!("{path}, late: {is_listed_late}");
        assert_eq!(held_to(&world, &hash), Some(own), "{case}");
    }
}

/// Nothing else checks it: it had no guardrail that could be missing.
#[tokio::test]
async fn a_lease_whose_key_is_moved_back_to_its_role_is_assigned_then() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let (home, elsewhere) = (account.add_workspace(), account.add_workspace());
    let ci = json!({"credential_type": "dynamic", "ttl": 3_000, "workspace": home});
    world.write(CI, ci).await.unwrap();
    let lease = world.lease().await.unwrap();
    let hash = lease["key_hash"].as_str().unwrap();
    move_to(&world, hash, &elsewhere);
    compare(&world).await;
    let own = guardrail_of(&world, "own", &home);
    world.write(CI, json!({"guardrail": "own"})).await.unwrap();
    assert_eq!(held_to(&world, hash), None);
    move_to(&world, hash, &home);
    compare(&world).await;
    assert_eq!(held_to(&world, hash), Some(own));
    let shown = world.read(CI).await.unwrap().unwrap();
    assert_eq!(shown.warnings, [""; 0]);
}

/// OpenRouter moves the assignment with the key, and refuses to make it again.
#[tokio::test]
async fn a_moved_key_that_still_has_its_guardrail_is_not_withheld() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let elsewhere = account.add_workspace();
    account.create_key(NewKey::named("another"));
    let own = guardrail_of(&world, "own", &account.default_workspace());
    let mut guarded = role();
    guarded["guardrail"] = json!("own");
    world.write(ROLE, guarded).await.unwrap();
    let hash = world.key_hash("app").await;
    move_to(&world, &hash, &elsewhere);
    compare(&world).await;
    for name in [Value::Null, json!("own")] {
        let written = world.node().write(ROLE, json!({"guardrail": name})).await;
        written.unwrap();
    }
    assert_eq!(held_to(&world, &hash), Some(own));
    assert_eq!(world.key_hash("app").await, hash, "it is handed out");
}

/// The role was changed after the key was ordered, and it had a guardrail all the time.
#[tokio::test]
async fn a_key_that_was_ordered_without_guardrail_is_not_handed_out_after_the_role_was_moved() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let team = account.add_named_workspace("Team", "team").unwrap();
    guardrail_of(&world, "there", &team);
    let ci = json!({"credential_type": "dynamic", "ttl": 3_000});
    world.write(CI, ci).await.unwrap();
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on("POST", "/keys"));
    let (node, changed) = (world.node(), world.node());
    let change = async {
        world.holding(1).await;
        let moved = json!({"workspace": "team", "guardrail": "there"});
        let answer = changed.write(CI, moved).await;
        faults.clear();
        answer
    };
    let (read, change) = tokio::join!(node.read("creds/ci"), change);
    change.unwrap();
    let refusal = read.unwrap_err().to_string();
    assert!(refusal.contains("read again"), "{refusal}");
}

/// Leases of a role that a newer build wrote are compared too, but cannot be repaired.
#[tokio::test]
async fn a_role_that_cannot_be_repaired_keeps_no_other_from_being_compared() {
    let (world, strict) = with_guarded_leases().await;
    let mut last = role();
    last["guardrail"] = json!("strict");
    world.write("roles/zzz", last).await.unwrap();
    let hash = world.key_hash("zzz").await;
    let mut snapshot = world.snapshot();
    let ci = snapshot.iter_mut().find(|entry| entry.key == CI).unwrap();
    let mut newer: Value = serde_json::from_slice(&ci.value).unwrap();
    newer["version"] = json!(99);
    ci.value = newer.to_string().into_bytes();
    world.restore(snapshot).await;
    for key in world.openrouter.account().keys() {
        assert!(world.openrouter.account().unassign_guardrail(&key.hash));
    }
    compare(&world).await;
    world.pass(60).await;
    assert_eq!(held_to(&world, &hash), Some(strict));
}

/// A refusal is final until the next comparison, but a rate limit is not.
#[tokio::test]
async fn keys_of_a_deleted_role_are_assigned_again_once_openrouter_accepts_requests() {
    let (world, strict) = with_guarded_leases().await;
    world.delete(CI, Value::Null).await.unwrap();
    for key in world.openrouter.account().keys() {
        assert!(world.openrouter.account().unassign_guardrail(&key.hash));
    }
    let limited = Fault::rate_limited(5).on("POST", ASSIGN);
    world.openrouter.faults().add(limited);
    compare(&world).await;
    world.pass(60).await;
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
}

/// It sees no assignments. They may be in order.
#[tokio::test]
async fn a_management_key_of_another_account_takes_no_key_for_unguarded() {
    let (world, _) = with_guarded_role().await;
    let hash = world.key_hash("app").await;
    let other = world.openrouter.add_account().add_management_key();
    let forced = json!({"management_key": other, "force": true});
    world.write("config", forced).await.unwrap();
    compare(&world).await;
    world.pass(60).await;
    assert_eq!(world.key_hash("app").await, hash, "it is handed out");
    let role = world.role("app").await.unwrap();
    assert!(!role["drift"].to_string().contains("guardrail_changed"));
}

/// The listing of its workspace is then empty, and no other key shows that the account is still visible.
#[tokio::test]
async fn an_only_key_that_is_taken_off_its_guardrail_is_noticed_although_it_was_moved() {
    let (world, _) = with_guarded_role().await;
    let hash = world.key_hash("app").await;
    let account = world.openrouter.account();
    move_to(&world, &hash, &account.add_workspace());
    assert!(account.unassign_guardrail(&hash));
    compare(&world).await;
    let role = world.role("app").await.unwrap();
    assert!(role["drift"].to_string().contains("guardrail_changed"));
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("guardrail"), "{refusal}");
}
