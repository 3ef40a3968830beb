//! Stores that are committed but reported as failed, by a server that remains the leader: its cache keeps the
//! earlier content. What this node hands out and what its successor will read must become the same again
//! before anybody relies on the difference.

#[cfg(test)]
mod meanwhile;

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Error, Operation, Storage};

use crate::harness::{CI, FORGET, ROLE, ROTATE, World, role};

/// In seconds: after this time, a store that has not taken effect never will.
const OUTLIVED: i64 = 120;
/// In seconds: the role's grace period, in which a reader of another node may use a key that this node has
/// given up.
const GRACE: i64 = 600;

#[tokio::test]
async fn a_deletion_that_was_refused_is_not_gone_on_with_by_the_next_leader() {
    for path in [ROLE, FORGET] {
        let world = World::with_role().await;
        world.node().storage.unheard_when_putting(ROLE);
        let answer = match path {
            ROLE => world.delete(ROLE, Value::Null).await,
            _ => world.write(FORGET, Value::Null).await,
        };
        answer.unwrap_err();
        world.quiet().await;
        assert_eq!(
            world.version().await,
            1,
            "{path}: readers still get the key"
        );
        world.restart().await;
        world.quiet().await;
        assert_eq!(world.version().await, 1, "{path}");
        assert_eq!(world.violations().await, [""; 0], "{path}");
        assert_eq!(world.broken_promises(), [""; 0], "{path}");
    }
}

/// A server completes a handler's call even if nothing waits for the handler any more.
#[tokio::test]
async fn a_deletion_whose_caller_is_gone_is_completed_or_undone() {
    let world = World::with_role().await;
    let node = world.node();
    node.storage.late_when_putting(ROLE);
    node.delete(ROLE, Value::Null).await.unwrap_err();
    world.quiet().await;
    // It overtakes the store that confirmed the role immediately.
    node.storage.commit_what_is_late().await;
    world.pass(OUTLIVED).await;
    let stored = world.storage.get(ROLE).await.unwrap();
    let is_served = world.key("app").await.is_ok();
    assert_eq!(stored.is_some(), is_served);
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.key("app").await.is_ok(), is_served);
}

#[tokio::test]
async fn a_switch_that_was_reported_as_failed_shortens_nobodys_lease() {
    let world = World::with_role().await;
    world.write(ROLE, json!({"ttl": 540})).await.unwrap();
    world.node().storage.unheard_when_putting(ROLE);
    world.write(ROTATE, Value::Null).await.unwrap_err();
    // Shortly before the outcome is certain, a reader relies on the key that is handed out.
    world.pass(OUTLIVED - 10).await;
    assert_eq!(world.version().await, 1);
    world.restart().await;
    world.pass(1_200).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// The second rotation waits for the first, whose switch is committed without this node's knowledge. The
/// server's cache drops the entry between two of its reads.
#[tokio::test]
async fn a_rotation_that_reads_the_role_twice_loses_no_key_of_it() {
    let world = World::with_role().await;
    let (node, faults) = (world.node(), world.openrouter.faults());
    faults.add(Fault::held().on("POST", "/keys"));
    node.storage.unheard_when_putting(ROLE);
    node.storage.drop_from_cache_after(1);
    let release = async {
        world.holding(1).await;
        faults.clear();
    };
    let (first, _, ()) = tokio::join!(
        node.write(ROTATE, Value::Null),
        node.write(ROTATE, Value::Null),
        release
    );
    first.unwrap_err();
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// The server remembers that there is no such entry, so the fence has none to rewrite.
#[tokio::test]
async fn a_creation_that_was_reported_as_failed_leaves_no_role_with_a_dead_key() {
    let world = World::connected().await;
    world.node().storage.unheard_when_putting(ROLE);
    world.write(ROLE, role()).await.unwrap_err();
    world.quiet().await;
    assert!(world.role("app").await.is_none());
    assert!(world.storage.get(ROLE).await.unwrap().is_some());
    world.pass(OUTLIVED).await;
    world.quiet().await;
    assert!(world.storage.get(ROLE).await.unwrap().is_none());
    world.pass(GRACE).await;
    assert!(world.openrouter.account().keys().is_empty());
    world.restart().await;
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.key("app").await.ok(), None);
}

/// The doubt is lost with the process, but the server's cache is not.
#[tokio::test]
async fn a_plugin_that_dies_after_such_a_creation_leaves_the_doubt_to_the_next() {
    let world = World::connected().await;
    world.node().storage.unheard_when_putting(ROLE);
    world.write(ROLE, role()).await.unwrap_err();
    world.restart_plugin().await;
    world.quiet().await;
    assert!(world.role("app").await.is_none());
    world.pass(OUTLIVED).await;
    world.quiet().await;
    assert!(world.storage.get(ROLE).await.unwrap().is_none());
    world.pass(900).await;
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.intents().is_empty());
}

#[tokio::test]
async fn a_role_that_is_committed_after_the_next_process_has_started_is_tended() {
    let world = World::connected().await;
    let maker = world.node();
    maker.storage.late_when_putting(ROLE);
    maker.write(ROLE, role()).await.unwrap_err();
    world.restart_plugin().await;
    world.quiet().await;
    assert!(world.role("app").await.is_none());
    maker.storage.commit_what_is_late().await;
    world.pass(3_700).await;
    assert_eq!(world.version().await, 2, "it is rotated when that is due");
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_dynamic_role_that_was_reported_as_not_stored_is_what_every_node_says_it_is() {
    let world = World::connected().await;
    let body = json!({"credential_type": "dynamic"});
    world.node().storage.unheard_when_putting(CI);
    world.write(CI, body.clone()).await.unwrap_err();
    world.pass(OUTLIVED).await;
    world.quiet().await;
    let said = world.role("ci").await.is_some();
    world.restart().await;
    assert_eq!(world.role("ci").await.is_some(), said);
    world.write(CI, body).await.unwrap();
    world.lease().await.unwrap();
}

#[tokio::test]
async fn a_role_that_was_confirmed_costs_nothing_more() {
    let world = World::with_role().await;
    world.node().storage.unheard_when_putting(ROLE);
    let body = json!({"description": "new"});
    world.write(ROLE, body).await.unwrap_err();
    world.pass(OUTLIVED).await;
    world.quiet().await;
    let before = world.node().storage.calls();
    world.pass_without_calls(1_200).await;
    // Nothing except the harness's own reads of the key.
    let role = world.role("app").await.unwrap();
    assert_eq!(role["rotation_status"], "success");
    let calls = world.node().storage.calls() - before;
    assert!(calls < 20, "{calls} calls in twenty idle minutes");
}

/// The reverse: a store that fails again and again is retried, but not without pauses.
#[tokio::test]
async fn storage_that_goes_on_failing_is_not_tried_without_a_pause() {
    let world = World::with_role().await;
    let node = world.node();
    node.storage.deposed_when_putting(ROLE);
    node.write(ROTATE, Value::Null).await.unwrap_err();
    let before = node.storage.calls();
    world.quiet().await;
    let at_once = node.storage.calls() - before;
    assert!(at_once < 8, "{at_once} calls at once");
    assert_eq!(world.openrouter.account().keys().len(), 2);
    assert_eq!(
        world.openrouter.requests().to("DELETE", "/keys/*"),
        [],
        "it may be the successor's"
    );
}

/// Every later leader reads the same connection, so that no role is bound by values that this node does not
/// know.
#[tokio::test]
async fn bounds_whose_store_was_reported_as_failed_bind_the_next_leader_as_this_one() {
    let world = World::with_role().await;
    let node = world.node();
    node.storage.unheard_when_putting("config/default");
    let bounds = json!({"max_limit": 5});
    let written = node.call(Operation::Patch, "config/default", bounds);
    written.await.unwrap_err();
    world.write(ROLE, json!({"limit": 7})).await.unwrap();
    world.restart().await;
    world.quiet().await;
    let read = world.read("config/default").await.unwrap().unwrap();
    assert_eq!(read.data["max_limit"], Value::Null);
    world.write(ROTATE, Value::Null).await.unwrap();
}

/// The standby reads what the other nodes have committed. The leader reads its server's cache, and rewrites
/// what it reads at the second attempt.
#[tokio::test]
async fn a_key_that_only_a_standby_has_handed_out_outlives_every_ttl() {
    for created in [true, false] {
        let world = match created {
            true => World::with_role().await,
            false => World::connected().await,
        };
        let (leader, standby) = (world.node(), world.standby().await);
        leader.storage.unheard_when_putting(ROLE);
        let unheard = match created {
            true => leader.write(ROTATE, Value::Null).await,
            false => leader.write(ROLE, role()).await,
        };
        unheard.unwrap_err();
        leader.storage.late_when_putting(ROLE);
        let lost = world.key_from(&standby, "app").await["key_hash"].clone();
        let is_alive = || {
            let alive = world.openrouter.account().keys();
            alive.iter().any(|key| key.hash == lost)
        };
        if created {
            assert_ne!(world.key("app").await.unwrap()["key_hash"], lost);
        }
        world.pass(OUTLIVED + GRACE - 1).await;
        assert!(is_alive(), "created: {created}");
        world.pass(1).await;
        assert!(!is_alive(), "created: {created}");
        assert_eq!(world.broken_promises(), [""; 0], "created: {created}");
        assert_eq!(world.violations().await, [""; 0], "created: {created}");
    }
}

/// A rejected write is not stored, and leaves no doubt: the server forwards the request.
#[tokio::test]
async fn a_connection_that_a_node_may_not_write_is_not_written_again() {
    let world = World::with_role().await;
    world.quiet().await;
    let node = world.node();
    node.storage.make_read_only();
    let before = node.storage.calls();
    let description = json!({"description": "new"});
    let written = node.call(Operation::Patch, "config/default", description);
    let refusal = written.await.unwrap_err();
    assert!(matches!(refusal, Error::ReadOnly), "{refusal:?}");
    assert_eq!(node.storage.calls() - before, 2, "a read and a store");
}
