//! The stored form of everything: what this build writes, and what earlier builds wrote, which stays
//! readable. The files are in `tests/data/stored`, one for each format. A released file is never changed.

use std::collections::BTreeMap;

use openrouter_simulator::{NewGuardrail, NewKey};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Entry, Storage};

use crate::harness::{CI, FORGET, ROLE, ROTATE, World, role};

/// What the build that introduced the format stored in [`lived_in`].
const FORMATS: [(u32, &str); 3] = [
    (1, include_str!("../data/stored/format-1.json")),
    (2, include_str!("../data/stored/format-2.json")),
    (3, include_str!("../data/stored/format-3.json")),
];

/// What was stored for a role with a budget when format 3 introduced it.
const BUDGET: &str = include_str!("../data/stored/budget-3.json");

#[tokio::test]
async fn this_build_writes_the_newest_format_as_it_was_introduced() {
    let (number, newest) = FORMATS[FORMATS.len() - 1];
    let newest: BTreeMap<String, Value> = serde_json::from_str(newest).unwrap();
    let stored = stored(&lived_in().await).await;
    assert_eq!(
        stored,
        newest,
        "format {number} is another now: {}",
        serde_json::to_string_pretty(&stored).unwrap()
    );
}

/// The same for runs, which have a separate version.
const RUNS: &str = include_str!("../data/stored/runs-1.json");

#[tokio::test]
async fn this_build_writes_runs_as_they_were_introduced() {
    let world = World::with_role().await;
    world
        .write(FORGET, json!({"revoke_keys": false}))
        .await
        .unwrap();
    world.write(ROLE, json!({})).await.unwrap();
    world.time.set(world.after(60));
    for path in ["tidy/default", "rotate-all/default", "teardown"] {
        world.write(path, json!({})).await.unwrap();
    }
    let mut written = stored(&world).await;
    written.retain(|key, _| key.starts_with("runs/"));
    let introduced: BTreeMap<String, Value> = serde_json::from_str(RUNS).unwrap();
    assert_eq!(
        written,
        introduced,
        "{}",
        serde_json::to_string_pretty(&written).unwrap()
    );
}

#[tokio::test]
async fn runs_that_earlier_builds_wrote_are_read() {
    let world = World::with_role().await;
    let entries: BTreeMap<String, Value> = serde_json::from_str(RUNS).unwrap();
    for (key, entry) in entries {
        let value = entry.to_string().into_bytes();
        world.storage.put(Entry { key, value }).await.unwrap();
    }
    world.restart().await;
    world.quiet().await;
    for path in ["tidy/default", "rotate-all/default", "teardown"] {
        let run = world.read(path).await.unwrap().unwrap();
        assert_eq!(run.data["state"], "finished", "{path}");
    }
    let reason = world.read("creds/app").await.unwrap_err().to_string();
    assert!(reason.contains("torn down"), "{reason}");
}

#[tokio::test]
async fn a_run_of_a_newer_build_costs_only_itself() {
    let world = World::with_role().await;
    let (key, value) = ("runs/tidy.default".to_owned(), br#"{"version":2}"#.to_vec());
    world.storage.put(Entry { key, value }).await.unwrap();
    world.restart().await;
    world.quiet().await;
    world.key("app").await.unwrap();
    for dry_run in [true, false] {
        let refusal = world
            .write("tidy/default", json!({"dry_run": dry_run}))
            .await;
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains("newer version"), "{refusal}");
    }
    world.write("rotate-all/default", json!({})).await.unwrap();
}

#[tokio::test]
async fn entries_of_earlier_builds_are_read_and_tended() {
    for (number, entries) in FORMATS {
        let world = lived_in().await;
        for key in world.storage.keys() {
            world.storage.delete(&key).await.unwrap();
        }
        let entries: BTreeMap<String, Value> = serde_json::from_str(entries).unwrap();
        for (key, entry) in entries {
            let entry = entry.to_string().replace("GATE", &world.gate_url());
            let value = entry.into_bytes();
            world.storage.put(Entry { key, value }).await.unwrap();
        }
        as_that_build_called_it(&world).await;
        world.restart().await;
        world.pass(599).await;
        let alive = world.openrouter.account().keys().len();
        assert_eq!(
            alive, 4,
            "the unconfirmed key may be in use, format {number}"
        );
        // At the same time the superseded key is revoked, under the same lock.
        world.pass(11).await;
        assert_eq!(world.violations().await, [""; 0], "format {number}");
        assert_eq!(world.version().await, 2);
        world.revoke().await.unwrap();
        world.write(ROTATE, json!({})).await.unwrap();
        world.delete(ROLE, json!({})).await.unwrap();
        assert!(world.openrouter.account().keys().is_empty());
        assert!(world.intents().is_empty());
    }
}

/// Stores an entry in the form of an earlier format.
async fn rewrite(world: &World, key: &str, change: impl FnOnce(&mut Value)) {
    let value = world.storage.get(key).await.unwrap().unwrap();
    let mut entry: Value = serde_json::from_slice(&value).unwrap();
    change(&mut entry);
    let (key, value) = (key.to_owned(), entry.to_string().into_bytes());
    world.storage.put(Entry { key, value }).await.unwrap();
}

/// Creates a guardrail in the workspace `team`. The second result is its id.
fn guardrail_of_a_team(world: &World) -> (String, String) {
    let account = world.openrouter.account();
    let team = account.add_named_workspace("Team", "team").unwrap();
    let there = account.add_guardrail(NewGuardrail {
        workspace_id: Some(team.clone()),
        ..NewGuardrail::named("there")
    });
    (there, team)
}

#[tokio::test]
async fn a_key_of_format_2_is_where_its_entry_says_and_not_where_the_next_one_will_be() {
    let world = World::with_role().await;
    let (there, team) = guardrail_of_a_team(&world);
    let body = json!({"workspace_id": team});
    world.write(ROLE, body).await.unwrap();
    rewrite(&world, ROLE, |entry| entry["version"] = json!(2)).await;
    world.restart().await;
    let answer = world.write(ROLE, json!({"guardrail": "there"})).await;
    let warnings = answer.unwrap().unwrap().warnings;
    assert!(warnings[0].contains("next rotation"), "{warnings:?}");
    world.key("app").await.unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    let account = world.openrouter.account();
    let held = account.keys().into_iter();
    let held: Vec<_> = held.map(|key| account.guardrail_of(&key.hash)).collect();
    assert_eq!(held, [None, Some(there)]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_lease_of_the_first_format_is_in_the_workspace_that_its_role_had() {
    for is_moved in [false, true] {
        let world = World::connected().await;
        let (there, team) = guardrail_of_a_team(&world);
        let account = world.openrouter.account();
        let here = account.add_guardrail(NewGuardrail::named("here"));
        let body = json!({"credential_type": "dynamic", "workspace_id": team, "ttl": 3_000});
        world.write(CI, body).await.unwrap();
        let old = world.lease_hash().await;
        let record = world.intents().remove(0);
        rewrite(&world, &record, |entry| {
            entry["version"] = json!(1);
            let data = entry["data"].as_object_mut().unwrap();
            data.retain(|field, _| field != "workspace_id" && field != "requester");
        })
        .await;
        world.restart().await;
        let held = || account.guardrail_of(&old);
        if is_moved {
            let away = json!({"workspace_id": "", "guardrail": "here"});
            world.write(CI, away).await.unwrap();
            world.restart().await;
            world.pass(60).await;
            assert_eq!(held(), None, "it is not there");
            let new = world.lease_hash().await;
            let new = account.guardrail_of(&new);
            assert_eq!(new, Some(here));
            let back = json!({"workspace_id": team, "guardrail": "there"});
            world.write(CI, back).await.unwrap();
        } else {
            world
                .write(CI, json!({"guardrail": "there"}))
                .await
                .unwrap();
        }
        assert_eq!(held(), Some(there), "{is_moved}");
        assert_eq!(world.renew(600).await.unwrap().as_secs(), 600);
        world.revoke().await.unwrap();
    }
}

#[tokio::test]
async fn a_budget_is_stored_as_it_was_introduced_and_is_kept() {
    let world = with_budget().await;
    let introduced: Value = serde_json::from_str(BUDGET).unwrap();
    let stored = stored(&world).await.remove(ROLE).unwrap();
    assert_eq!(stored, introduced, "{stored:#}");
    let (key, value) = (ROLE.to_owned(), introduced.to_string().into_bytes());
    world.storage.put(Entry { key, value }).await.unwrap();
    world.restart().await;
    // The end of the second key, and its final reading.
    world.pass(1_300).await;
    assert_eq!(world.violations().await, [""; 0]);
    let keys = world.openrouter.account().keys();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].limit, Some(60.0));
}

#[tokio::test]
async fn an_entry_that_makes_no_sense_costs_only_itself_and_is_left_as_it_is() {
    let world = World::with_role().await;
    world.copy_role(2).await;
    let newer = json!({"version": 4, "entry": {"rotating": {}}}).to_string();
    let broken = [
        ("roles/copy-1", "{"),
        ("roles/copy-2", newer.as_str()),
        ("wal/x", "[]"),
    ];
    for (key, value) in broken {
        let (key, value) = (key.to_owned(), value.as_bytes().to_vec());
        world.storage.put(Entry { key, value }).await.unwrap();
    }
    world.restart().await;
    world.pass(4_000).await;
    for (role, reason) in [("copy-1", "cannot be read"), ("copy-2", "newer version")] {
        for path in [
            format!("roles/{role}"),
            format!("creds/{role}"),
            format!("static-creds/{role}"),
        ] {
            let refusal = world.read(&path).await.unwrap_err().to_string();
            assert!(refusal.contains(&format!("roles/{role}")), "{refusal}");
            assert!(refusal.contains(reason), "{refusal}");
        }
        let written = world
            .write(&format!("roles/{role}"), json!({"limit": 9}))
            .await;
        written.expect_err("it is not overwritten");
        let deleted = world.delete(&format!("roles/{role}"), json!({})).await;
        deleted.expect_err("nor deleted, since it may know of keys");
    }
    assert_eq!(world.version().await, 2, "the others go on");
    for (key, value) in broken {
        let stored = world.storage.get(key).await.unwrap();
        assert_eq!(stored.as_deref(), Some(value.as_bytes()), "{key}");
    }
}

/// A world with one of everything that is stored: a connection, a role with a superseded key, a dynamic role
/// with a lease, and an order with an unknown outcome.
async fn lived_in() -> World {
    let world = World::with_role().await;
    world.write(ROTATE, json!({})).await.unwrap();
    let role = json!({"credential_type": "dynamic", "max_leases": 3, "ttl": 3_000});
    world.write(CI, role).await.unwrap();
    world.lease().await.unwrap();
    bind(&world).await;
    world.die_during_a_rotation("after POST /keys").await;
    world
}

/// Adds everything that format 3 introduced. Called last, so that OpenRouter's keys are those of the earlier
/// formats.
async fn bind(world: &World) {
    let account = world.openrouter.account();
    account.add_guardrail(NewGuardrail::named("strict"));
    for role in [ROLE, CI] {
        let body = json!({"guardrail": "strict", "creator_user_id": "user_one"});
        world.write(role, body).await.unwrap();
    }
    world
        .write(ROLE, json!({"revocation_hold": 7_000}))
        .await
        .unwrap();
    let bounds = json!({"allowed_roles": "app,ci", "max_key_lifetime": "3d",
        "reconcile_interval": 1_800});
    world.write("config", bounds).await.unwrap();
}

/// A role with a budget whose first key has ended, and whose second key has been replaced.
async fn with_budget() -> World {
    let world = World::connected().await;
    let mut body = role();
    body["limit"] = Value::Null;
    body["budget"] = json!(100);
    body["budget_reset"] = json!("daily");
    world.write(ROLE, body).await.unwrap();
    let account = world.openrouter.account();
    let first = &account.keys()[0].hash;
    account.set_usage(first, 40.0).unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(1_300).await;
    world.write(ROTATE, json!({})).await.unwrap();
    world.quiet().await;
    world
}

/// This build chooses other names for its keys and leases than the earlier one. The newest key is that of the
/// unconfirmed order, and gets the name in its intent; the server's lease gets the nonce that is stored.
async fn as_that_build_called_it(world: &World) {
    let entries = stored(world).await;
    let of_type = |kind| {
        let mut entries = entries.values();
        let entry = entries.find(|entry| entry["type"] == kind);
        &entry.expect("there is one")["data"]
    };
    world.call_lease(of_type("lease")["nonce"].as_str().unwrap());
    let name = of_type("create-key")["key_name"].as_str().unwrap();
    let account = world.openrouter.account();
    let newest = account.keys().pop().expect("it was made");
    account.delete_key(&newest.hash).unwrap();
    account.create_key(NewKey::named(name));
}

async fn stored(world: &World) -> BTreeMap<String, Value> {
    let mut entries = BTreeMap::new();
    for key in world.storage.keys() {
        let value = world.storage.get(&key).await.unwrap().unwrap();
        let text = String::from_utf8(value).unwrap();
        let text = text.replace(&world.gate_url(), "GATE");
        entries.insert(key, serde_json::from_str(&text).unwrap());
    }
    entries
}
