//! A leader that is deposed while it works, and whose last write the other nodes have committed without its
//! knowledge. It keeps reading its old state for a while, and must not use it to delete what its successor
//! hands out.

#[cfg(test)]
mod steps;

use std::sync::Arc;

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Operation;

use crate::harness::{FORGET, Node, ROLE, ROTATE, World};

/// In seconds: the server lets no deposed node continue for longer than this.
const OUTLIVED: i64 = 120;
/// In seconds: the role's grace period.
const GRACE: i64 = 600;

#[tokio::test]
async fn a_switch_that_is_committed_unheard_stands() {
    for automated in [true, false] {
        let world = World::with_role().await;
        let body = json!({"disable_automated_rotation": !automated});
        world.write(ROLE, body).await.unwrap();
        let old = world.node();
        old.storage.deposed_when_putting(ROLE);
        old.write(ROTATE, Value::Null).await.unwrap_err();
        old.life.quiet().await;
        old.backend.cleanup().await;
        world.restart().await;
        world.quiet().await;
        assert_eq!(world.version().await, 2, "automated: {automated}");
        assert_eq!(world.violations().await, [""; 0], "automated: {automated}");
        world.pass(700).await;
        assert_eq!(world.violations().await, [""; 0], "automated: {automated}");
        assert_eq!(world.broken_promises(), [""; 0]);
    }
}

/// It still exists when its successor has found everything in order.
#[tokio::test]
async fn a_deposed_leader_that_searches_again_later_deletes_nothing() {
    let world = World::with_role().await;
    let old = world.node();
    old.storage.deposed_when_putting(ROLE);
    old.write(ROTATE, Value::Null).await.unwrap_err();
    old.life.quiet().await;
    world.take_over().await;
    world.quiet().await;
    assert_eq!(world.version().await, 2);
    assert!(world.intents().is_empty(), "the successor has deleted it");
    // Longer than it can last: the fence must hold on its own.
    for seconds in [30, OUTLIVED, 300] {
        world.time.set(world.after(seconds));
        old.life.quiet().await;
        world.quiet().await;
        assert_eq!(world.violations().await, [""; 0], "{seconds} s later");
    }
    let deletions = world.openrouter.requests().to("DELETE", "/keys/*");
    assert_eq!(deletions, []);
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// Its successor was told to keep the old key for longer, or to change the current key's limits.
#[tokio::test]
async fn a_deposed_leader_neither_ends_nor_changes_keys_by_what_it_knew() {
    let world = World::with_role().await;
    let old_key = world.key_hash("app").await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(GRACE - 30).await;
    let old = world.node();
    old.storage.deposed_when_putting("roles/other");
    old.write("roles/other", json!({})).await.unwrap_err();
    world.take_over().await;
    world.quiet().await;
    let wanted = json!({"key_version": 1, "duration": 5_000});
    world.write("restore-key/app", wanted).await.unwrap();
    world.quiet().await;
    world.openrouter.requests().reset();
    for seconds in [40, 30] {
        world.time.set(world.after(seconds));
        old.life.quiet().await;
        world.quiet().await;
    }
    let key = world.seen(&old_key);
    assert!(!key.disabled && key.deleted_at.is_none(), "{key:?}");
    for order in ["DELETE", "PATCH"] {
        assert_eq!(world.openrouter.requests().to(order, "/keys/*"), []);
    }
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// A server that does not know yet that it was deposed: storage has rejected its last write.
async fn depose(old: &Node) {
    old.storage.deposed_when_putting("config/default");
    let last = json!({"description": "its last write"});
    let written = old.call(Operation::Patch, "config/default", last).await;
    written.unwrap_err();
}

/// Its successor has restored the held key and lowered the current one.
#[tokio::test]
async fn a_deposed_leaders_comparison_disables_and_changes_no_key() {
    let world = World::with_role().await;
    let often = json!({"reconcile_interval": 60});
    world.write("config", often).await.unwrap();
    let held = json!({"revocation_hold": 3_600, "limit": 9});
    world.write(ROLE, held).await.unwrap();
    let first = world.key_hash("app").await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.pass(GRACE).await;
    assert!(world.seen(&first).disabled);
    let current = world.key_hash("app").await;
    let old = world.node();
    depose(&old).await;
    world.take_over().await;
    world.quiet().await;
    let wanted = json!({"key_version": 1, "duration": 5_000});
    world.write("restore-key/app", wanted).await.unwrap();
    world.write(ROLE, json!({"limit": 3})).await.unwrap();
    assert!(!world.seen(&first).disabled);
    world.openrouter.requests().reset();
    world.time.set(world.after(60));
    old.life.quiet().await;
    let compared = world.openrouter.requests().to("GET", "/keys");
    assert!(!compared.is_empty(), "it compares");
    assert_eq!(world.openrouter.requests().to("PATCH", "/keys/*"), []);
    assert!(!world.seen(&first).disabled);
    assert_eq!(world.seen(&current).limit, Some(3.0));
}

/// A leader that is deposed during the deletion of a role, and the role's key, which its successor was told
/// to leave alone.
async fn in_a_deletion() -> (World, Arc<Node>, String) {
    let world = World::with_role().await;
    let key = world.key_hash("app").await;
    let unclear = Fault::status(500).on("DELETE", "/keys/*").forever();
    world.openrouter.faults().add(unclear);
    let old = world.node();
    let _ = old.delete(ROLE, Value::Null).await;
    depose(&old).await;
    world.take_over().await;
    let forget = json!({"revoke_keys": false});
    world.write(FORGET, forget).await.unwrap();
    world.openrouter.faults().clear();
    (world, old, key)
}

#[tokio::test]
async fn a_deposed_leader_does_not_go_on_with_a_deletion() {
    let (world, old, key) = in_a_deletion().await;
    for seconds in [30, 60] {
        world.time.set(world.after(seconds));
        old.life.quiet().await;
    }
    assert_eq!(world.seen(&key).deleted_at, None);
}

/// According to the state that it still reads, the deletion has begun, so it has nothing new to store.
#[tokio::test]
async fn a_deposed_leader_that_is_told_again_to_delete_or_forget_a_role_ends_no_key() {
    for is_forgotten in [false, true] {
        let (world, old, key) = in_a_deletion().await;
        let told = match is_forgotten {
            false => old.delete(ROLE, Value::Null).await,
            true => old.write(FORGET, json!({})).await,
        };
        told.unwrap_err();
        assert_eq!(world.seen(&key).deleted_at, None, "{is_forgotten}");
    }
}

/// There is no entry by which a deposed leader could notice that it was deposed.
#[tokio::test]
async fn a_role_whose_creation_is_committed_unheard_keeps_its_key() {
    let world = World::connected().await;
    let old = world.node();
    old.storage.deposed_when_putting(ROLE);
    old.write(ROLE, json!({})).await.unwrap_err();
    old.life.quiet().await;
    world.take_over().await;
    for _ in 0..2 {
        world.time.set(world.after(OUTLIVED / 2 - 5));
        old.life.quiet().await;
        world.quiet().await;
    }
    old.backend.cleanup().await;
    world.pass(3_600).await;
    assert_eq!(world.version().await, 1);
    assert_eq!(world.violations().await, [""; 0]);
}

/// The record of a lease replaces its intent, which is the fence in this case.
#[tokio::test]
async fn a_lease_whose_record_is_committed_unheard_keeps_its_key_until_it_lapses() {
    let world = World::with_dynamic_role().await;
    let old = world.node();
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on("POST", "/keys"));
    let deposed = async {
        world.holding(1).await;
        old.storage.deposed_when_putting("wal/");
        faults.clear();
    };
    let (answer, ()) = tokio::join!(old.read("creds/ci"), deposed);
    answer.unwrap_err();
    old.life.quiet().await;
    world.take_over().await;
    for seconds in [0, 30, 60, OUTLIVED] {
        world.time.set(world.after(seconds));
        old.life.quiet().await;
        world.quiet().await;
        assert_eq!(world.openrouter.account().keys().len(), 1, "{seconds}");
    }
    let role = world.role("ci").await.unwrap();
    assert_eq!(role["living_leases"], 1, "the successor has its record");
    old.backend.cleanup().await;
    world.pass(600).await;
    assert_eq!(world.openrouter.account().keys().len(), 0);
    assert!(world.intents().is_empty());
}

#[tokio::test]
async fn while_it_is_not_certain_whether_a_switch_was_stored_nothing_is_ordered_for_the_role() {
    let world = World::with_role().await;
    let node = world.node();
    node.storage.late_when_putting(ROLE);
    node.write(ROTATE, Value::Null).await.unwrap_err();
    world.pass(OUTLIVED - 1).await;
    for body in [json!({}), json!({"rotation_grace_period": 0})] {
        let refusal = world.write(ROTATE, body).await.unwrap_err().to_string();
        assert!(refusal.contains("not certain"), "{refusal}");
    }
    assert_eq!(world.orders(), 2);
    let deletions = world.openrouter.requests().to("DELETE", "/keys/*");
    assert_eq!(deletions, []);
    node.storage.commit_what_is_late().await;
    world.pass(1).await;
    assert_eq!(world.version().await, 2);
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn a_switch_that_was_never_stored_is_undone_once_that_is_certain() {
    let world = World::with_role().await;
    let node = world.node();
    node.storage.late_when_putting(ROLE);
    node.write(ROTATE, Value::Null).await.unwrap_err();
    world.pass(OUTLIVED - 1).await;
    assert_eq!(world.openrouter.account().keys().len(), 2);
    // A standby that serves reads may have handed it out, if it was stored for a while.
    world.pass(GRACE).await;
    assert_eq!(world.openrouter.account().keys().len(), 2);
    let role = world.role("app").await.unwrap();
    let unconfirmed = role["unconfirmed_keys"].as_array().unwrap();
    assert_eq!(unconfirmed.len(), 1, "{role:?}");
    world.pass(1).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.version().await, 1);
    assert_eq!(world.violations().await, [""; 0]);
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.version().await, 2);
}
