//! Nodes that may not write: nothing external happens there, and nothing is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{
    Error, FixedSystemView, ReplicationState, SystemView, SystemViewError,
};

use crate::harness::{Harm, ROLE, ROTATE, World};

fn standby(state: ReplicationState) -> FixedSystemView {
    FixedSystemView {
        replication_state: state,
        ..FixedSystemView::default()
    }
}

#[tokio::test]
async fn a_node_that_may_not_write_does_nothing_however_much_is_due() {
    for state in [
        ReplicationState::PERFORMANCE_STANDBY,
        ReplicationState::DR_SECONDARY,
        ReplicationState::PERFORMANCE_SECONDARY,
    ] {
        let world = World::with_role().await;
        // A rotation is due, and a lost key waits for its recovery.
        world.die_during_a_rotation("after POST /keys").await;
        world.time.set(world.after(4_000));
        world.openrouter.requests().reset();
        world.effects.record(Harm::Crash, None);
        world.fail_over(standby(state)).await;
        world.pass(1_200).await;
        assert_eq!(world.effects.stop(), [""; 0], "{state:?}");
        assert!(world.openrouter.requests().all().is_empty(), "{state:?}");
        let read = world.read("static-creds/app").await.unwrap().unwrap();
        assert_eq!(read.data["key_version"], 1, "reads are served");
    }
}

#[tokio::test]
async fn a_standby_leaves_leases_to_the_active_node_and_a_secondary_has_its_own() {
    let world = World::with_role().await;
    let states = [
        (ReplicationState::PERFORMANCE_STANDBY, Err(Error::ReadOnly)),
        (ReplicationState::PERFORMANCE_SECONDARY, Ok(())),
    ];
    for (state, expected) in states {
        world.fail_over(standby(state)).await;
        let answer = world.read("creds/app").await.map(drop);
        assert_eq!(answer, expected, "{state:?}");
    }
}

#[tokio::test]
async fn whatever_would_write_is_forwarded_to_the_active_node() {
    let world = World::with_role().await;
    world.openrouter.requests().reset();
    world
        .fail_over(standby(ReplicationState::PERFORMANCE_STANDBY))
        .await;
    let key = json!({"management_key": world.openrouter.management_key()});
    let answers = [
        world.write(ROTATE, json!({})).await,
        world
            .write(ROTATE, json!({"rotation_grace_period": 0}))
            .await,
        world.write(ROLE, json!({"limit": 7})).await,
        world.write("roles/new", json!({})).await,
        world.delete(ROLE, json!({})).await,
        world.write("config", key).await,
        world.delete("config", json!({"force": true})).await,
    ];
    for answer in answers {
        assert_eq!(answer, Err(Error::ReadOnly));
    }
    assert!(world.openrouter.requests().all().is_empty());
}

#[tokio::test]
async fn a_local_mount_of_a_secondary_looks_after_its_roles() {
    let world = World::with_role().await;
    let system = FixedSystemView {
        local_mount: true,
        ..standby(ReplicationState::PERFORMANCE_SECONDARY)
    };
    world.fail_over(system).await;
    world.pass(3_600).await;
    assert_eq!(world.version().await, 2);
}

/// A view of a node that may step down.
#[derive(Clone, Default)]
struct Changing(Arc<AtomicI32>);

impl Changing {
    fn step_down(&self) {
        let standby = ReplicationState::PERFORMANCE_STANDBY.0;
        self.0.store(standby, Ordering::Relaxed);
    }
}

#[async_trait]
impl SystemView for Changing {
    async fn max_lease_ttl(&self) -> Result<Duration, SystemViewError> {
        FixedSystemView::default().max_lease_ttl().await
    }

    async fn replication_state(&self) -> Result<ReplicationState, SystemViewError> {
        Ok(ReplicationState(self.0.load(Ordering::Relaxed)))
    }

    async fn local_mount(&self) -> Result<bool, SystemViewError> {
        Ok(false)
    }

    async fn entity_name(&self, _: &str) -> Result<Option<String>, SystemViewError> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_node_that_steps_down_in_the_middle_leaves_the_rest_to_its_successor() {
    let world = World::with_role().await;
    let system = Changing::default();
    world.fail_over(system.clone()).await;
    world.quiet().await;
    world.openrouter.requests().reset();
    // The key is ordered, and when the reply comes the node may not write any more.
    let slow = Fault::Slow {
        milliseconds: 50,
        after_effect: true,
    };
    world.openrouter.faults().add(slow.on("POST", "/keys"));
    let ordered = async {
        while world.orders() < 1 {
            tokio::task::yield_now().await;
        }
        system.step_down();
        world.node().storage.make_read_only();
    };
    let node = world.node();
    let (answer, ()) = tokio::join!(node.write(ROTATE, Value::Null), ordered);
    assert_eq!(answer, Err(Error::ReadOnly));
    world.pass(7_200).await;
    // The key is neither looked for nor deleted here: what this node can still read may be old.
    let requests = world.openrouter.requests();
    assert_eq!(requests.to("GET", "/keys"), []);
    assert_eq!(requests.to("DELETE", "/keys/*"), []);
    assert_eq!(world.orders(), 1);
    assert_eq!(world.openrouter.account().keys().len(), 2);
    assert_eq!(world.intents().len(), 1);

    world.restart().await;
    world.pass(60).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(
        world.version().await,
        2,
        "the rotation that became due meanwhile"
    );
}

#[tokio::test]
async fn a_node_whose_storage_turns_read_only_orders_nothing() {
    let world = World::with_role().await;
    world.openrouter.requests().reset();
    world.node().storage.make_read_only();
    world.pass(7_200).await;
    assert_eq!(world.openrouter.requests().counts(), [].into());
    assert_eq!(world.write(ROTATE, json!({})).await, Err(Error::ReadOnly));
    assert_eq!(world.openrouter.requests().counts(), [].into());
}
