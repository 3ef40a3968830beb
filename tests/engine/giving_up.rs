//! Callers that give up. Before their order was announced they have cost nothing. If they give up later, no
//! key is left, unless they began a change that continues without them.

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vault_plugin_secrets_openrouter::logical::Operation;

use crate::harness::{Answer, CI, ROLE, ROTATE, World};

/// The first eight orders wait for OpenRouter.
async fn with_eight_held(world: &World) {
    let held = Fault::held().on("POST", "/keys").times(8);
    world.openrouter.faults().add(held);
}

async fn until_held(world: &World, count: usize) {
    world.holding(count).await;
}

/// This many readers of the dynamic role, who give up when the token is cancelled.
fn readers(world: &Arc<World>, count: usize, gone: &CancellationToken) -> JoinSet<Answer> {
    let mut readers = JoinSet::new();
    for _ in 0..count {
        let (node, gone) = (world.node(), gone.clone());
        readers.spawn(async move {
            node.call_for(gone, Operation::Read, "creds/ci", Value::Null)
                .await
        });
    }
    readers
}

async fn forty_give_up(deletions: Option<Fault>) -> Arc<World> {
    let world = Arc::new(World::with_dynamic_role().await);
    world.write(CI, json!({"max_leases": 40})).await.unwrap();
    with_eight_held(&world).await;
    let gone = CancellationToken::new();
    let readers = readers(&world, 40, &gone);
    until_held(&world, 8).await;
    gone.cancel();
    world.openrouter.faults().clear();
    if let Some(fault) = deletions {
        world
            .openrouter
            .faults()
            .add(fault.on("DELETE", "/keys/*").forever());
    }
    for answer in readers.join_all().await {
        answer.unwrap_err();
    }
    world
}

#[tokio::test]
async fn forty_readers_that_give_up_order_only_with_a_turn_and_leave_no_key() {
    let world = forty_give_up(None).await;
    assert_eq!(world.orders(), 8, "the others waited for a turn");
    assert_eq!(world.openrouter.account().all_keys().len(), 8);
    // No time has passed: nothing waits for a later search.
    assert_eq!(world.openrouter.account().keys().len(), 0);
    assert!(world.intents().is_empty());
    // All forty places are free again.
    let all = readers(&world, 40, &CancellationToken::new()).join_all();
    for answer in all.await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn the_keys_of_readers_that_gave_up_are_deleted_later_where_openrouter_fails() {
    let world = forty_give_up(Some(Fault::status(503))).await;
    assert_eq!(world.openrouter.account().keys().len(), 8);
    assert_eq!(world.intents().len(), 8);
    world.openrouter.faults().clear();
    world.pass(30).await;
    assert_eq!(world.openrouter.account().keys().len(), 0);
    assert!(world.intents().is_empty());
}

/// The server sees it as a caller that gave up before the request was even read.
#[tokio::test]
async fn a_caller_that_is_gone_already_orders_nothing() {
    let world = World::with_role().await;
    let role = json!({"credential_type": "dynamic"});
    world.write(CI, role).await.unwrap();
    let before = world.role("app").await;
    let gone = CancellationToken::new();
    gone.cancel();
    let node = world.node();
    for (operation, path) in [
        (Operation::Read, "creds/ci"),
        (Operation::Update, ROTATE),
        (Operation::Create, "roles/new"),
    ] {
        let answer = node.call_for(gone.clone(), operation, path, json!({}));
        answer.await.unwrap_err();
        world.quiet().await;
    }
    assert_eq!(world.orders(), 1);
    assert!(world.intents().is_empty());
    assert_eq!(world.role("app").await, before, "nothing has failed");
    assert!(world.role("new").await.is_none());
}

#[tokio::test]
async fn a_rotation_and_a_creation_go_on_without_their_caller_once_the_key_is_ordered() {
    let world = World::with_role().await;
    let node = world.node();
    for (operation, path) in [
        (Operation::Update, ROTATE),
        (Operation::Create, "roles/new"),
    ] {
        let faults = world.openrouter.faults();
        faults.add(Fault::held().on("POST", "/keys"));
        let gone = CancellationToken::new();
        let call = node.call_for(gone.clone(), operation, path, json!({}));
        let gives_up = async {
            until_held(&world, 1).await;
            gone.cancel();
            faults.clear();
        };
        let (answer, ()) = tokio::join!(call, gives_up);
        answer.unwrap();
    }
    assert_eq!(world.version().await, 2);
    assert!(world.key("new").await.is_ok());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_deletion_goes_on_without_its_caller() {
    let world = World::with_role().await;
    let gone = CancellationToken::new();
    gone.cancel();
    let node = world.node();
    let deleted = node.call_for(gone, Operation::Delete, ROLE, json!({}));
    deleted.await.unwrap();
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.role("app").await.is_none());
}

/// A reader of a role with one lease at most, who gives up at the last moment at which that can be noticed: the
/// key is created and verified. OpenRouter deletes no key meanwhile if it `is_away`.
async fn with_reader_that_gives_up_last(is_away: bool) -> World {
    let world = World::with_dynamic_role().await;
    world.write(CI, json!({"max_leases": 1})).await.unwrap();
    let (node, faults) = (world.node(), world.openrouter.faults());
    faults.add(Fault::held().on("POST", "/keys"));
    let gone = CancellationToken::new();
    let call = node.call_for(gone.clone(), Operation::Read, "creds/ci", Value::Null);
    let gives_up = async {
        until_held(&world, 1).await;
        // The intent is stored. The next entry is the record of the lease.
        node.storage.gone_when_putting("wal/", gone.clone());
        faults.clear();
        if is_away {
            faults.add(Fault::status(503).on("DELETE", "/keys/*").forever());
        }
    };
    let (answer, ()) = tokio::join!(call, gives_up);
    assert!(gone.is_cancelled());
    answer.unwrap_err();
    world.quiet().await;
    assert_eq!(world.orders(), 1);
    world
}

#[tokio::test]
async fn a_reader_that_gives_up_while_the_lease_is_being_stored_leaves_no_key() {
    let world = with_reader_that_gives_up_last(false).await;
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.intents().is_empty());
    world.lease().await.unwrap();
}

/// Nobody has the key, so its end does not wait for the time when the lease would have been over.
#[tokio::test]
async fn the_key_of_such_a_reader_is_deleted_as_soon_as_openrouter_is_back() {
    for restarted in [false, true] {
        let world = with_reader_that_gives_up_last(true).await;
        assert_eq!(world.openrouter.account().keys().len(), 1);
        assert_eq!(world.records().await.len(), 1);
        world.openrouter.faults().clear();
        if restarted {
            world.restart().await;
        }
        world.pass(30).await;
        assert!(world.openrouter.account().keys().is_empty(), "{restarted}");
        assert!(world.intents().is_empty());
        world.lease().await.unwrap();
    }
}
