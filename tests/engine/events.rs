//! Events for the server's event bus: each event of the reference is sent, with the metadata in the
//! reference, and without a secret.

use std::collections::{BTreeMap, BTreeSet};

use openrouter_simulator::{Fault, KeyChanges, NewKey};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Event;

use crate::harness::{FORGET, ROLE, ROTATE, World, role};

/// The fields of each event's metadata, according to the reference.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let root = env!("CARGO_MANIFEST_DIR");
    let page = std::fs::read_to_string(format!("{root}/docs/reference.md")).unwrap();
    let (_, section) = page.split_once("\n## Events\n").expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let quoted = |cell: &str| -> BTreeSet<String> {
            let words = cell.split('`').skip(1).step_by(2);
            words.map(str::to_owned).collect()
        };
        let name = quoted(cells[0]).pop_first().unwrap();
        let mut fields = quoted(cells[2]);
        fields.extend(["path", "operation"].map(str::to_owned));
        (name, fields)
    })
    .collect()
}

/// The events that are sent while `doing` runs, and until nothing more happens.
async fn sent(world: &World, doing: impl AsyncFnOnce()) -> Vec<Event> {
    world.quiet().await;
    world.node().events.take();
    doing().await;
    world.quiet().await;
    world.node().events.take()
}

/// The only event with this name.
fn one<'a>(events: &'a [Event], name: &str) -> &'a BTreeMap<&'static str, String> {
    let named: Vec<_> = events.iter().filter(|event| event.kind == name).collect();
    assert_eq!(named.len(), 1, "{name}: {events:?}");
    &named[0].metadata
}

fn has(metadata: &BTreeMap<&'static str, String>, fields: &[(&str, &str)]) {
    for (field, value) in fields {
        assert_eq!(
            metadata.get(field).map(String::as_str),
            Some(*value),
            "{field}: {metadata:?}"
        );
    }
}

/// Every event, once.
async fn everything() -> (World, Vec<Event>) {
    let world = World::with_role().await;
    let mut all = Vec::new();

    let current = world.key_hash("app").await;
    let events = sent(&world, async || {
        world.write(ROTATE, json!({})).await.unwrap();
    })
    .await;
    has(
        one(&events, "openrouter/rotate"),
        &[
            ("path", "roles/app"),
            ("connection", "default"),
            ("key_version", "2"),
            ("modified", "true"),
        ],
    );
    all.extend(events);

    // The previous key is used after its last lease.
    let late = world.after(550);
    world.pass(550).await;
    world
        .openrouter
        .account()
        .set_last_used(&current, Some(late))
        .unwrap();
    let events = sent(&world, async || world.pass(60).await).await;
    has(
        one(&events, "openrouter/superseded-key-used"),
        &[
            ("operation", "revoke"),
            ("key_hash", &current),
            ("key_version", "1"),
            ("last_used_at", &late.to_string()),
            ("revoked", "true"),
        ],
    );
    all.extend(events);

    let refused = Fault::status(403).on("POST", "/keys");
    world.openrouter.faults().add(refused);
    let events = sent(&world, async || {
        world.write(ROTATE, json!({})).await.unwrap_err();
    })
    .await;
    has(
        one(&events, "openrouter/rotate-fail"),
        &[("operation", "rotate"), ("attempts", "1")],
    );
    all.extend(events);

    let current = world.key_hash("app").await;
    let raised = KeyChanges {
        limit: Some(Some(500.0)),
        ..KeyChanges::default()
    };
    world
        .openrouter
        .account()
        .change_key(&current, &raised)
        .unwrap();
    world.restart().await;
    world.quiet().await;
    let events = world.node().events.take();
    has(
        one(&events, "openrouter/drift"),
        &[
            ("operation", "reconcile"),
            ("drift", "limits_changed"),
            ("key_hash", &current),
        ],
    );
    all.extend(events);

    all.extend(of_a_budget(&world).await);
    all.extend(of_one_key(&world).await);
    all.extend(of_runs(&world).await);
    (world, all)
}

async fn of_a_budget(world: &World) -> Vec<Event> {
    let body = json!({"budget": 10, "budget_reset": "daily"});
    world.write(ROLE, body).await.unwrap();
    world.quiet().await;
    let current = world.key_hash("app").await;
    let account = world.openrouter.account();
    account.set_usage(&current, 8.5).unwrap();
    let events = sent(world, async || {
        world.read("usage/app").await.unwrap();
    })
    .await;
    has(
        one(&events, "openrouter/budget-alert"),
        &[
            ("path", "roles/app"),
            ("operation", "budget-alert"),
            ("level", "nearly_spent"),
            ("budget", "10"),
            ("spent", "8.5"),
        ],
    );
    world.write(ROLE, json!({"budget": null})).await.unwrap();
    world.quiet().await;
    events
}

async fn of_one_key(world: &World) -> Vec<Event> {
    let mut all = Vec::new();
    let by_hand = NewKey::named("somebody's");
    let by_hand = world.openrouter.account().create_key(by_hand).hash;
    let current = world.key_hash("app").await;
    for (operation, event, hash, owner, body) in [
        (
            "disable-key",
            "openrouter/disable-key",
            &current,
            "role",
            json!({"disabled": true, "force": true}),
        ),
        (
            "disable-key",
            "openrouter/enable-key",
            &current,
            "role",
            json!({"disabled": false}),
        ),
        (
            "revoke-key",
            "openrouter/revoke-key",
            &by_hand,
            "unmanaged",
            json!({}),
        ),
    ] {
        let path = format!("{operation}/default/{hash}");
        let events = sent(world, async || {
            world.write(&path, body).await.unwrap();
        })
        .await;
        let metadata = one(&events, event);
        has(
            metadata,
            &[("key_hash", hash), ("owner", owner), ("modified", "true")],
        );
        let role = (owner == "role").then_some("app");
        assert_eq!(metadata.get("role").map(String::as_str), role);
        all.extend(events);
    }
    // A rejected request sends no event.
    let path = format!("revoke-key/default/{current}");
    let events = sent(world, async || {
        world.write(&path, json!({})).await.unwrap_err();
    })
    .await;
    assert_eq!(events, []);
    all
}

async fn of_runs(world: &World) -> Vec<Event> {
    let mut all = Vec::new();
    let stray = world.key_hash("app").await;
    world
        .write(FORGET, json!({"revoke_keys": false}))
        .await
        .unwrap();
    world.write(ROLE, role()).await.unwrap();
    for (path, event, total) in [
        ("tidy/default", "openrouter/tidy", "1"),
        ("rotate-all/default", "openrouter/rotate-all", "1"),
        ("teardown", "openrouter/teardown", "1"),
    ] {
        let events = sent(world, async || {
            world.write(path, json!({})).await.unwrap();
        })
        .await;
        let (_, operation) = event.split_once('/').unwrap();
        has(
            one(&events, event),
            &[
                ("path", path),
                ("operation", operation),
                ("total", total),
                ("left", "0"),
            ],
        );
        all.extend(events);
    }
    let account = world.openrouter.account();
    assert!(account.keys().iter().all(|key| key.hash != stray));
    all
}

/// Two servers with one storage.
async fn of_copies() -> Vec<Event> {
    let world = World::with_role().await;
    let copy = world.copy().await;
    world.pass(300).await;
    copy.write(ROTATE, Value::Null).await.unwrap();
    let theirs = copy.read(ROLE).await.unwrap().unwrap().data;
    let theirs = theirs["current_key"]["hash"].as_str().unwrap();
    let events = sent(&world, async || world.pass(3_600).await).await;
    let copies: Vec<_> = events
        .iter()
        .filter(|event| event.kind == "openrouter/two-copies")
        .collect();
    assert!(!copies.is_empty(), "{events:?}");
    has(
        &copies[0].metadata,
        &[
            ("operation", "reconcile"),
            ("connection", "default"),
            ("key_hashes", theirs),
        ],
    );
    events
}

#[tokio::test]
async fn each_event_of_the_reference_is_sent_with_what_it_says_and_no_other() {
    let (world, mut events) = everything().await;
    let ids: BTreeSet<_> = events.iter().map(|event| event.id.clone()).collect();
    assert_eq!(ids.len(), events.len());
    events.extend(of_copies().await);
    let documented = documented();
    assert!(documented.len() > 10, "{documented:?}");
    let mut seen = BTreeMap::<String, BTreeSet<String>>::new();
    for event in &events {
        let fields = event.metadata.keys().map(|field| (*field).to_owned());
        seen.entry(event.kind.to_owned())
            .or_default()
            .extend(fields);
        let told = format!("{event:?}");
        for key in world.openrouter.account().all_keys() {
            assert!(!told.contains(key.secret()), "{told}");
        }
    }
    // `revoke-key` of a key that belongs to no role.
    let revoked = seen.get_mut("openrouter/revoke-key").unwrap();
    revoked.insert("role".to_owned());
    assert_eq!(seen, documented);
}
