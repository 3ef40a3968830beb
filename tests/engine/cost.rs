//! Costs: storage calls, and requests to OpenRouter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{
    Error, FixedSystemView, Operation, ReplicationState,
};

use crate::harness::{CI, Node, ROLE, ROTATE, World};

/// A lease of an hour: the entry of its role serves readers for a whole minute.
async fn with_an_hours_lease() -> World {
    let world = World::with_role().await;
    let role = json!({"ttl": 3_600, "rotation_grace_period": 7_200});
    world.write("roles/app", role).await.unwrap();
    world.quiet().await;
    world
}

#[tokio::test]
async fn a_read_of_a_key_that_was_read_within_a_minute_asks_nobody_for_anything() {
    let world = with_an_hours_lease().await;
    world.openrouter.requests().reset();
    let node = world.node();
    let calls = || (node.storage.calls(), node.system.calls());
    let before = calls();
    for path in ["creds/app", "static-creds/app"].repeat(50) {
        world.read(path).await.unwrap().unwrap();
        world.time.set(world.after(1));
        // A hundred seconds: it is read again after a minute.
    }
    assert_eq!(calls(), (before.0 + 2, before.1));
    // A read of the role itself shows what is stored.
    world.read("roles/app").await.unwrap().unwrap();
    assert_eq!(calls(), (before.0 + 3, before.1));
    assert!(world.openrouter.requests().all().is_empty());
}

/// The calls of a node to its server: storage calls, and calls about the mount and the node.
fn asked(node: &Node) -> (usize, usize) {
    (node.storage.calls(), node.system.calls())
}

/// It serves these reads itself.
#[tokio::test]
async fn an_unleased_read_on_a_standby_asks_nobody_for_anything() {
    let world = with_an_hours_lease().await;
    let standby = world.standby().await;
    let before = asked(&standby);
    for _ in 0..100 {
        world.key_from(&standby, "app").await;
    }
    assert_eq!(asked(&standby), (before.0 + 1, before.1));
}

/// It serves both kinds of reads itself, because it has its own leases.
#[tokio::test]
async fn a_read_on_a_performance_secondary_asks_nobody_for_anything() {
    let world = with_an_hours_lease().await;
    let secondary = FixedSystemView {
        replication_state: ReplicationState::PERFORMANCE_SECONDARY,
        ..FixedSystemView::default()
    };
    world.fail_over(secondary).await;
    world.quiet().await;
    let before = asked(&world.node());
    for path in ["creds/app", "static-creds/app"].repeat(50) {
        world.read(path).await.unwrap().unwrap();
    }
    assert_eq!(asked(&world.node()), (before.0 + 1, before.1));
}

/// The leader writes many roles, and readers of a standby need few of them.
#[tokio::test]
async fn a_standby_learns_of_changes_without_any_call() {
    let world = with_an_hours_lease().await;
    let standby = world.standby().await;
    world.key_from(&standby, "app").await;
    let before = asked(&standby);
    for key in [ROLE, "roles/other", "config/default"] {
        standby.backend.invalidate(key).await;
    }
    assert_eq!(asked(&standby), before);
    world.key_from(&standby, "app").await;
    assert_eq!(asked(&standby), (before.0 + 1, before.1));
}

#[tokio::test]
async fn a_short_lease_shortens_the_time_for_which_an_entry_is_used() {
    let world = World::with_role().await;
    let node = world.node();
    world.read("creds/app").await.unwrap();
    let before = node.storage.calls();
    // An eighteenth of five minutes.
    for (seconds, calls) in [(15, 0), (2, 1)] {
        world.time.set(world.after(seconds));
        world.read("creds/app").await.unwrap();
        assert_eq!(node.storage.calls() - before, calls, "{seconds}");
    }
}

#[tokio::test]
async fn a_node_learns_what_it_is_before_anybody_reads() {
    let world = World::with_role().await;
    world.restart().await;
    world.quiet().await;
    let before = world.node().system.calls();
    world.read("creds/app").await.unwrap().unwrap();
    assert_eq!(world.node().system.calls(), before);
}

/// It forwards the read according to the last known state, and checks the state in the background now and
/// then.
#[tokio::test]
async fn a_leased_read_on_a_standby_asks_the_server_for_nothing() {
    let world = World::with_role().await;
    let standby = world.standby().await;
    let before = asked(&standby);
    for _ in 0..100 {
        assert_eq!(standby.read("creds/app").await, Err(Error::ReadOnly));
    }
    standby.life.quiet().await;
    assert_eq!(asked(&standby), before);
    world.time.set(world.after(1));
    for _ in 0..100 {
        assert_eq!(standby.read("creds/app").await, Err(Error::ReadOnly));
    }
    standby.life.quiet().await;
    assert_eq!(
        asked(&standby),
        (before.0, before.1 + 1),
        "one for all of them"
    );
}

#[tokio::test]
async fn a_thousand_idle_roles_cost_nothing_at_all() {
    let world = World::with_role().await;
    world.copy_role(999).await;
    world.restart().await;
    world.quiet().await;
    world.openrouter.requests().reset();
    let before = world.node().storage.calls();
    for _ in 0..50 {
        world.time.set(world.after(60));
        world.node().tick().await.unwrap();
        world.quiet().await;
    }
    assert_eq!(world.node().storage.calls(), before);
    assert!(world.openrouter.requests().all().is_empty());
}

#[tokio::test]
async fn status_and_metrics_cost_no_more_with_ten_thousand_idle_roles_than_with_ten() {
    let world = World::with_role().await;
    let mut calls = Vec::new();
    for copies in [9, 9_999] {
        world.copy_role(copies).await;
        world.restart().await;
        world.quiet().await;
        world.openrouter.requests().reset();
        let before = world.node().storage.calls();
        let status = world.read("status").await.unwrap().unwrap();
        assert_eq!(status.data["roles"]["rotating"], copies + 1);
        assert_eq!(status.data["keys"]["current"], copies + 1);
        world.read("metrics").await.unwrap().unwrap();
        calls.push(world.node().storage.calls() - before);
        assert!(world.openrouter.requests().all().is_empty());
    }
    assert_eq!(calls[0], calls[1]);
}

#[tokio::test]
async fn a_detailed_list_of_roles_reads_none_of_them() {
    let world = World::with_role().await;
    world.copy_role(50).await;
    world.restart().await;
    world.quiet().await;
    let before = world.node().storage.calls();
    let node = world.node();
    let listed = node.call(Operation::List, "roles/", Value::Null).await;
    let listed = listed.unwrap().unwrap();
    assert_eq!(world.node().storage.calls() - before, 1);
    let info = &listed.data["key_info"]["copy-50"];
    assert_eq!(info["credential_type"], "rotating");
    assert_eq!(info["rotation_status"], "success");
    assert_eq!(info["next_vault_rotation"], world.after(3_600).to_string());
}

#[tokio::test]
async fn a_start_lists_the_keys_once_and_the_first_reads_ask_openrouter_nothing() {
    let world = World::with_role().await;
    world.copy_role(100).await;
    world.openrouter.requests().reset();
    world.restart().await;
    for number in 1..=100 {
        world.key(&format!("copy-{number}")).await.unwrap();
    }
    world.quiet().await;
    let requests = world.openrouter.requests().counts();
    assert_eq!(requests, [("GET /keys".to_owned(), 1)].into());
}

#[tokio::test]
async fn overdue_work_is_done_with_eight_concurrent_requests() {
    let world = World::with_role().await;
    world.copy_role(200).await;
    world.node().life.end();
    world.time.set(world.after(7_200));
    world.openrouter.requests().reset();
    world.openrouter.set_latency(Duration::from_millis(5));
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.orders(), 201);
    assert_eq!(world.openrouter.requests().high_water_mark(), 8);
    for number in 1..=200 {
        let key = world.key(&format!("copy-{number}")).await.unwrap();
        assert_eq!(key["key_version"], 2);
    }
    assert!(world.intents().is_empty());
}

#[tokio::test]
async fn at_most_sixteen_of_many_due_keys_are_created_at_once() {
    let world = World::with_role().await;
    world.copy_role(200).await;
    world.restart().await;
    world.quiet().await;
    world.openrouter.set_latency(Duration::from_millis(5));
    world.time.set(world.after(3_600));
    let mut most = 0;
    while world.orders() < 202 {
        most = most.max(world.intents().len());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!((8..=16).contains(&most), "{most}");
    world.quiet().await;
    assert_eq!(world.violations().await, [""; 0]);
}

/// Requests to OpenRouter, storage calls and system calls.
type Cost = (usize, usize, usize);

/// The cost until nothing more happens.
async fn cost(world: &World, work: impl AsyncFnOnce()) -> Cost {
    let calls = || (world.node().storage.calls(), world.node().system.calls());
    world.quiet().await;
    world.openrouter.requests().reset();
    let before = calls();
    work().await;
    world.quiet().await;
    let after = calls();
    let requests = world.openrouter.requests().all().len();
    (requests, after.0 - before.0, after.1 - before.1)
}

/// Exactly: budgets must not add a single call.
#[tokio::test]
async fn a_role_without_a_budget_costs_so_much_and_no_more() {
    let world = World::connected().await;
    let write = async |path: &str, body: Value| _ = world.write(path, body).await.unwrap();
    let role = json!({
        "rotation_period": "30d", "rotation_grace_period": 600, "ttl": 300, "limit": 5,
    });
    let ci = json!({"credential_type": "dynamic", "ttl": 300, "max_ttl": 3600, "limit": 5});
    let costs = [
        (
            "creation",
            cost(&world, async || write(ROLE, role).await).await,
        ),
        (
            "change",
            cost(&world, async || write(ROLE, json!({"limit": 6})).await).await,
        ),
        (
            "rotation",
            cost(&world, async || write(ROTATE, json!({})).await).await,
        ),
        (
            "end",
            cost(&world, async || world.pass_without_calls(601).await).await,
        ),
        ("dynamic", cost(&world, async || write(CI, ci).await).await),
        (
            "lease",
            cost(&world, async || _ = world.lease().await.unwrap()).await,
        ),
        (
            "renewal",
            cost(&world, async || _ = world.renew(300).await.unwrap()).await,
        ),
        (
            "revocation",
            cost(&world, async || world.revoke().await.unwrap()).await,
        ),
        (
            "comparison",
            cost(&world, async || world.pass_without_calls(3_660).await).await,
        ),
    ];
    let expected = [
        ("creation", (2, 6, 2)),
        ("change", (1, 5, 2)),
        ("rotation", (2, 5, 2)),
        ("end", (2, 5, 1)),
        ("dynamic", (0, 4, 3)),
        ("lease", (1, 3, 2)),
        ("renewal", (0, 1, 1)),
        ("revocation", (1, 1, 0)),
        ("comparison", (1, 8, 1)),
    ];
    assert_eq!(costs, expected);
}

/// Every stored field, without its value.
fn fields(entry: &Value, at: &str, into: &mut BTreeSet<String>) {
    match entry {
        Value::Object(object) => object
            .iter()
            .for_each(|(name, value)| fields(value, &format!("{at}/{name}"), into)),
        Value::Array(array) => array.iter().for_each(|value| fields(value, at, into)),
        _ => _ = into.insert(at.to_owned()),
    }
}

/// The last format without budgets.
const BEFORE: &str = include_str!("../data/stored/format-2.json");

#[tokio::test]
async fn a_role_without_a_budget_is_stored_as_before_there_were_budgets() {
    let world = World::with_role().await;
    world.write(ROTATE, json!({})).await.unwrap();
    let role = json!({"credential_type": "dynamic", "max_leases": 3, "ttl": 3_000});
    world.write(CI, role).await.unwrap();
    world.lease().await.unwrap();
    let before: BTreeMap<String, Value> = serde_json::from_str(BEFORE).unwrap();
    let mut known = BTreeSet::new();
    // The entries of the log have random names.
    let kind = |key: &str| match key.split_once('/') {
        Some(("wal", _)) => "wal".to_owned(),
        _ => key.to_owned(),
    };
    for (key, entry) in before {
        fields(&entry, &kind(&key), &mut known);
    }
    let mut stored = BTreeSet::new();
    let entries = world.snapshot().into_iter();
    for entry in entries.filter(|entry| !entry.key.starts_with("config/")) {
        let value: Value = serde_json::from_slice(&entry.value).unwrap();
        fields(&value, &kind(&entry.key), &mut stored);
    }
    let new: Vec<_> = stored.difference(&known).collect();
    let of_custody = [
        "roles/app/entry/rotating/superseded/leased_until",
        "wal/data/granted/include_byok_in_limit",
        "wal/data/granted/limit",
        "wal/data/granted/limit_reset",
        "wal/data/requester/at",
        "wal/data/requester/display_name",
        "wal/data/requester/entity_id",
        "wal/data/requester/request_id",
    ];
    assert_eq!(new, of_custody);
}
