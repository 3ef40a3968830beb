//! Nodes that may not write: nothing external happens there, and nothing is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use openrouter_simulator::{Fault, KeyChanges};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{
    Error, FixedSystemView, Operation, ReplicationState, SystemView, SystemViewError,
};

use crate::harness::{CI, Harm, ROLE, ROTATE, World};

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
        world.delete("config", json!({})).await,
        world.write("forget-role/app", json!({})).await,
        world.write("forget-connection/default", json!({})).await,
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

/// The system view of a node that may step down.
#[derive(Clone, Default)]
struct Changing(Arc<AtomicI32>);

impl Changing {
    fn step_down(&self) {
        let standby = ReplicationState::PERFORMANCE_STANDBY.0;
        self.0.store(standby, Ordering::Relaxed);
    }

    fn step_up(&self) {
        self.0.store(0, Ordering::Relaxed);
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
    // The key is ordered, and when the reply arrives the node may no longer write.
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
    // The key is neither searched for nor deleted here: what this node can still read may be outdated.
    let requests = world.openrouter.requests();
    assert_eq!(requests.to("GET", "/keys"), []);
    assert_eq!(requests.to("DELETE", "/keys/*"), []);
    assert_eq!(world.orders(), 1);
    assert_eq!(world.openrouter.account().keys().len(), 2);
    assert_eq!(world.intents().len(), 1);

    world.restart().await;
    world.pass(599).await;
    assert_eq!(
        world.version().await,
        2,
        "the rotation that became due meanwhile"
    );
    let alive = world.openrouter.account().keys().len();
    assert_eq!(alive, 3, "somebody may hold the key that was ordered");
    // In the first second in which it is due; later on a machine that is busy with other tests.
    world.pass(120).await;
    world.pass(120).await;
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_node_whose_storage_turns_read_only_orders_nothing() {
    let world = World::with_role().await;
    world.openrouter.requests().reset();
    world.node().storage.make_read_only();
    world.pass(7_200).await;
    assert_eq!(world.write(ROTATE, json!({})).await, Err(Error::ReadOnly));
    // The server says that the node may write: it starts again at each call, and compares.
    for request in world.openrouter.requests().all() {
        assert_eq!(request.endpoint(), "GET /keys");
    }
}

#[tokio::test]
async fn a_node_that_may_write_again_goes_on_and_compares_anew() {
    let world = World::with_role().await;
    let system = Changing::default();
    world.fail_over(system.clone()).await;
    world.quiet().await;
    system.step_down();
    world.pass(3_700).await;
    let role = world.role("app").await.unwrap();
    let version = &role["current_key"]["version"];
    assert_eq!(*version, 1, "a rotation was due, and not this node's");
    let node = world.node();
    let listed = node.call(Operation::List, "roles/", Value::Null).await;
    let details = listed.unwrap().unwrap().data.remove("key_info");
    assert_eq!(details, None, "others may have changed the role");
    world.openrouter.requests().reset();
    system.step_up();
    world.pass(120).await;
    assert_eq!(world.version().await, 2);
    let lists = world.openrouter.requests().to("GET", "/keys");
    assert_eq!(lists.len(), 1, "others may have worked meanwhile");
    assert_eq!(world.violations().await, [""; 0]);
}

/// What the other node did in the meantime is not lost when this one continues.
#[tokio::test]
async fn a_node_that_may_write_again_knows_the_leases_that_were_made_meanwhile() {
    let world = World::with_dynamic_role().await;
    world.write(CI, json!({"max_leases": 2})).await.unwrap();
    let system = Changing::default();
    world.fail_over(system.clone()).await;
    // A lease that the server never stored, so that something becomes due.
    world.read("creds/ci").await.unwrap();
    world.quiet().await;
    let first = world.node();
    system.step_down();
    world.pass(700).await;
    world.take_over().await;
    world.quiet().await;
    for _ in 0..2 {
        world.lease().await.unwrap();
    }
    world.quiet().await;
    world.node().life.end();
    system.step_up();
    first.tick().await.unwrap();
    let refusal = first.read("creds/ci").await.unwrap_err().to_string();
    assert!(refusal.contains("max_leases of 2"), "{refusal}");
}

/// The key was ordered before the node stepped down, and the answer arrives after that.
#[tokio::test]
async fn a_key_in_the_making_is_not_forgotten_by_a_node_that_may_not_write_for_a_while() {
    let world = World::with_role().await;
    let account = world.openrouter.account();
    let home = json!({"workspace_id": account.add_workspace()});
    world.write(ROLE, home).await.unwrap();
    let often = json!({"reconcile_interval": 60});
    world.write("config", often).await.unwrap();
    let system = Changing::default();
    world.fail_over(system.clone()).await;
    world.quiet().await;
    // The key cannot be found by its name in the expected place.
    let elsewhere = Fault::CreatedOtherwise(KeyChanges {
        workspace_id: Some(account.add_workspace()),
        ..KeyChanges::default()
    });
    let faults = world.openrouter.faults();
    faults.add(elsewhere.on("POST", "/keys"));
    faults.add(Fault::status(500).on("DELETE", "/keys/*"));
    let node = world.node();
    let announced = node.storage.hold_when_putting("wal/");
    let resigned = async {
        announced.has_come.cancelled().await;
        system.step_down();
        world.time.set(world.after(60));
        while world.role("app").await.unwrap()["unconfirmed_keys"] != Value::Null {
            tokio::task::yield_now().await;
        }
        system.step_up();
        announced.let_go.cancel();
    };
    let (rotated, ()) = tokio::join!(node.write(ROTATE, Value::Null), resigned);
    rotated.unwrap_err();
    assert_eq!(account.keys().len(), 2);
    world.pass(60).await;
    assert_eq!(account.keys().len(), 1, "its hash is known");
    assert_eq!(world.violations().await, [""; 0]);
}

/// No server is known to do that without creating a new instance.
#[tokio::test]
async fn a_standby_that_becomes_active_unheard_hands_out_leases_a_moment_later() {
    let world = World::with_role().await;
    let system = Changing::default();
    system.step_down();
    world.fail_over(system.clone()).await;
    world.quiet().await;
    assert_eq!(world.read("creds/app").await, Err(Error::ReadOnly));
    system.step_up();
    world.time.set(world.after(1));
    assert_eq!(
        world.read("creds/app").await,
        Err(Error::ReadOnly),
        "nobody waits"
    );
    world.quiet().await;
    world.read("creds/app").await.unwrap().unwrap();
}
