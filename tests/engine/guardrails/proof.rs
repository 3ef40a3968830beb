//! An assignment counts as proved only while it is compared, and a key that cannot be assigned does not
//! affect the others.

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Operation;

use super::leases::with_guarded_leases;
use super::{
    ASSIGN, all_held_to, assignments, guardrail, guardrail_of, hashes, held_to, move_to,
    with_guarded_role,
};
use crate::harness::{Answer, CI, ROLE, ROTATE, World};

async fn world_of(path: &str) -> (World, String) {
    match path {
        ROLE => with_guarded_role().await,
        _ => with_guarded_leases().await,
    }
}

/// While the role has no guardrail, the assignments of its keys are not compared.
#[tokio::test]
async fn a_guardrail_that_was_cleared_is_assigned_again_when_it_is_written_again() {
    for path in [ROLE, CI] {
        let (world, strict) = world_of(path).await;
        world.write(path, json!({"guardrail": null})).await.unwrap();
        for key in world.openrouter.account().keys() {
            assert!(world.openrouter.account().unassign_guardrail(&key.hash));
        }
        let written = world
            .node()
            .write(path, json!({"guardrail": "strict"}))
            .await;
        written.unwrap();
        let held = all_held_to(&world);
        let all = held.iter().all(|held| *held == Some(strict.clone()));
        assert!(all, "{path}: {held:?}");
        assert_eq!(world.violations().await, [""; 0], "{path}");
    }
}

/// The superseded key was already assigned when the current key was found to be gone.
#[tokio::test]
async fn a_current_key_that_cannot_be_asked_about_leaves_the_assignment_of_the_others_in_doubt() {
    let (world, _) = with_guarded_role().await;
    let old = world.key_hash("app").await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let other = guardrail(&world, "other");
    let current = world.key_hash("app").await;
    world.openrouter.account().delete_key(&current).unwrap();
    let limited = Fault::rate_limited(600).on("GET", "/key").times(4);
    world.openrouter.faults().add(limited);
    let written = world
        .node()
        .write(ROLE, json!({"guardrail": "other"}))
        .await;
    let warnings = written.unwrap().unwrap().warnings;
    assert!(warnings[0].contains("retries"), "{warnings:?}");
    let role = world.role("app").await.unwrap();
    assert_eq!(role["guardrail_id"], other);
    assert_eq!(held_to(&world, &old), Some(other));
}

/// OpenRouter refuses a whole request because of one key of another workspace.
#[tokio::test]
async fn a_key_that_was_moved_to_another_workspace_costs_no_other_key_its_guardrail() {
    for path in [ROLE, CI] {
        let (world, strict) = world_of(path).await;
        if path == ROLE {
            world.write(ROTATE, Value::Null).await.unwrap();
        }
        let account = world.openrouter.account();
        let moved = account.keys().remove(0).hash;
        let own = guardrail_of_the_default_workspace(&world);
        move_elsewhere(&world, &moved);
        let written = world.node().write(path, json!({"guardrail": "own"})).await;
        let warnings = written.unwrap().unwrap().warnings;
        assert!(warnings[0].contains(&moved), "{path}: {warnings:?}");
        let stayed = account.keys().remove(1).hash;
        assert_eq!(held_to(&world, &stayed), Some(own), "{path}");
        assert_eq!(held_to(&world, &moved), Some(strict), "{path}");
    }
}

fn guardrail_of_the_default_workspace(world: &World) -> String {
    let default = world.openrouter.account().default_workspace();
    guardrail_of(world, "own", &default)
}

fn move_elsewhere(world: &World, hash: &str) {
    let elsewhere = world.openrouter.account().add_workspace();
    move_to(world, hash, &elsewhere);
}

/// A lease whose key can no longer be assigned is retried alone.
#[tokio::test]
async fn a_lease_that_cannot_be_assigned_leaves_no_other_lease_in_doubt() {
    let (world, _) = with_guarded_leases().await;
    for _ in 0..6 {
        world.lease().await.unwrap();
    }
    let hashes = hashes(&world);
    let own = guardrail_of_the_default_workspace(&world);
    move_elsewhere(&world, &hashes[0]);
    world.openrouter.requests().reset();
    let written = world.node().write(CI, json!({"guardrail": "own"})).await;
    assert!(is_tried_again(written));
    assert_eq!(
        assignments(&world),
        7,
        "halves, down to the key that is refused"
    );
    world.openrouter.requests().reset();
    world.pass(1).await;
    assert_eq!(assignments(&world), 1, "only that key is tried again");
    // While that fails, another key is removed from its guardrail.
    assert!(world.openrouter.account().unassign_guardrail(&hashes[5]));
    world.restart().await;
    world.quiet().await;
    assert_eq!(held_to(&world, &hashes[5]), Some(own));
    let shown = world.read(CI).await.unwrap().unwrap();
    let drift = shown.data["drift"].to_string();
    assert!(
        drift.contains(&hashes[5]) && drift.contains("guardrail_changed"),
        "{drift}"
    );
}

/// Guardrails belong to workspaces. The comparison notices the move, and stores it.
#[tokio::test]
async fn a_guardrail_can_be_changed_after_every_lease_of_the_role_was_moved() {
    let (world, strict) = with_guarded_leases().await;
    let own = guardrail_of_the_default_workspace(&world);
    let hashes = hashes(&world);
    for hash in &hashes {
        move_elsewhere(&world, hash);
    }
    // A key of a role in the default workspace shows the id of that workspace.
    world.write(ROLE, json!({})).await.unwrap();
    world.restart().await;
    world.quiet().await;
    let moves = || {
        let events = world.node().events.take().into_iter();
        let moved = |event: &&_| matches_drift(event, "key_moved");
        events.as_slice().iter().filter(moved).count()
    };
    assert_eq!(moves(), 2);
    world.openrouter.requests().reset();
    let written = world.write(CI, json!({"guardrail": "own"})).await.unwrap();
    let warnings = written.unwrap().warnings;
    assert!(
        warnings[0].contains("2 keys under leases keep their terms"),
        "{warnings:?}"
    );
    assert_eq!(assignments(&world), 0);
    let lease = world.lease().await.unwrap();
    assert_eq!(
        held_to(&world, lease["key_hash"].as_str().unwrap()),
        Some(own)
    );
    world.restart().await;
    world.quiet().await;
    assert_eq!(moves(), 0, "it is stored");
    for hash in &hashes {
        assert_eq!(held_to(&world, hash), Some(strict.clone()));
    }
}

fn matches_drift(event: &vault_plugin_secrets_openrouter::logical::Event, drift: &str) -> bool {
    event.metadata.get("drift").map(String::as_str) == Some(drift)
}

/// Two keys that are assigned to `other`, which nobody knows: the reply was lost. By their records they have
/// `strict`. Nothing is compared.
pub(super) async fn with_lost_reply() -> (World, String) {
    let (world, strict) = with_guarded_leases().await;
    let never = json!({"reconcile_interval": 0});
    world.write("config", never).await.unwrap();
    let other = guardrail(&world, "other");
    let lost = Fault::LostReply.on("POST", ASSIGN);
    world.openrouter.faults().add(lost);
    let written = world.node().write(CI, json!({"guardrail": "other"})).await;
    assert!(is_tried_again(written));
    assert_eq!(all_held_to(&world), vec![Some(other); 2]);
    (world, strict)
}

/// The role is changed while the guardrail of its leases is unknown and nothing is compared.
#[tokio::test]
async fn an_unclear_change_is_settled_for_leases_that_the_role_leaves_behind() {
    for end in ["moved", "deleted", "forgotten"] {
        let (world, strict) = with_lost_reply().await;
        let node = world.node();
        match end {
            "deleted" => drop(node.delete(CI, Value::Null).await.unwrap()),
            "forgotten" => drop(node.write("forget-role/ci", Value::Null).await.unwrap()),
            _ => {}
        }
        let account = world.openrouter.account();
        let team = account.add_named_workspace("Team", "team").unwrap();
        guardrail_of(&world, "there", &team);
        let elsewhere = json!({
            "credential_type": "dynamic", "workspace": "team", "guardrail": "there", "ttl": 3_000
        });
        node.write(CI, elsewhere).await.unwrap();
        world.pass(60).await;
        assert_eq!(all_held_to(&world), vec![Some(strict); 2], "{end}");
    }
}

/// The leader is deposed while the first hundred keys are being assigned.
#[tokio::test]
async fn a_leader_that_is_deposed_between_two_requests_sends_no_more() {
    let world = World::connected().await;
    guardrail(&world, "strict");
    let ci = json!({
        "credential_type": "dynamic", "guardrail": "strict", "ttl": 3_000, "max_leases": 200
    });
    world.write(CI, ci).await.unwrap();
    for _ in 0..101 {
        world.lease().await.unwrap();
    }
    world.write(CI, json!({"guardrail": null})).await.unwrap();
    let old = world.node();
    world.openrouter.requests().reset();
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on("POST", ASSIGN));
    let mut change = tokio::spawn({
        let old = world.node();
        async move { old.write(CI, json!({"guardrail": "strict"})).await }
    });
    let asked = async {
        while world.openrouter.requests().to("POST", ASSIGN).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        early = &mut change => panic!("nothing is assigned: {early:?}"),
        () = asked => {}
    }
    old.storage.deposed_when_putting("config/default");
    let last = json!({"description": "its last write"});
    let written = old.call(Operation::Patch, "config/default", last).await;
    written.unwrap_err();
    faults.clear();
    change.await.unwrap().unwrap_err();
    let requests = world.openrouter.requests().to("POST", ASSIGN);
    assert_eq!(requests.len(), 1);
}

fn is_tried_again(written: Answer) -> bool {
    let warnings = written.unwrap().unwrap().warnings;
    warnings.iter().any(|w| w.contains("retries"))
}

/// It is unknown whether the key has its old limit or the reverted one.
#[tokio::test]
async fn a_limit_that_is_written_back_after_an_unclear_change_is_applied() {
    let world = World::with_role().await;
    let key = world.key_hash("app").await;
    let lost = Fault::LostReply.on("PATCH", "/keys/*");
    world.openrouter.faults().add(lost);
    let written = world.node().write(ROLE, json!({"limit": 9})).await;
    assert!(is_tried_again(written));
    assert_eq!(world.seen(&key).limit, Some(9.0));
    // It cannot be changed now: the limit is unknown, and no bound counts as met.
    let refused = Fault::status(500).on("PATCH", "/keys/*").times(2);
    world.openrouter.faults().add(refused);
    let written = world.node().write(ROLE, json!({"limit": 5})).await;
    assert!(is_tried_again(written));
    let bound = json!({"max_limit": 5});
    let bounded = world
        .node()
        .call(Operation::Patch, "config/default", bound.clone())
        .await;
    let refusal = bounded.unwrap_err().to_string();
    assert!(refusal.contains("not known yet"), "{refusal}");
    world.pass(60).await;
    assert_eq!(world.seen(&key).limit, Some(5.0));
    let bounded = world
        .node()
        .call(Operation::Patch, "config/default", bound)
        .await;
    bounded.unwrap();
}

/// With a budget, the ledger knows the key's limit. Without a budget it is unknown until OpenRouter is asked.
#[tokio::test]
async fn a_limit_in_doubt_is_settled_by_a_budget_and_in_doubt_again_after_it() {
    let world = World::with_role().await;
    let key = world.key_hash("app").await;
    let lost = || Fault::LostReply.on("PATCH", "/keys/*");
    world.openrouter.faults().add(lost());
    let written = world.node().write(ROLE, json!({"limit": 9})).await;
    assert!(is_tried_again(written));
    let budget = json!({"limit": null, "budget": 30});
    world.write(ROLE, budget).await.unwrap();
    let bound = json!({"max_limit": 100});
    let bounded = world
        .node()
        .call(Operation::Patch, "config/default", bound)
        .await;
    bounded.unwrap();
    world.openrouter.faults().add(lost());
    let written = world.node().write(ROLE, json!({"budget": 40})).await;
    written.unwrap();
    assert_eq!(world.seen(&key).limit, Some(40.0));
    let limit = json!({"budget": null, "limit": 30});
    world.node().write(ROLE, limit).await.unwrap();
    assert_eq!(world.seen(&key).limit, Some(30.0));
}
