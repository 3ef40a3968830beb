//! Holes that a hostile reader found: each of these fails until its hole is closed.

use std::sync::Arc;
use std::time::Duration;

use openrouter_simulator::{Fault, KeyChanges, NewKey, Options, Simulator};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Entry, Storage};

use crate::harness::{Answer, CI, Node, ROLE, ROTATE, World, role};

async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

async fn held(openrouter: &Simulator, so_many: usize) {
    for _ in 0..5_000 {
        if openrouter.faults().held() >= so_many {
            return;
        }
        a_moment().await;
    }
    panic!("nothing is held");
}

async fn stored(world: &World, key: &str) {
    for _ in 0..5_000 {
        if world.storage.get(key).await.unwrap().is_some() {
            return;
        }
        a_moment().await;
    }
    panic!("{key} is not stored");
}

fn writing(node: &Arc<Node>, path: &str, body: Value) -> tokio::task::JoinHandle<Answer> {
    let (node, path) = (Arc::clone(node), path.to_owned());
    tokio::spawn(async move { node.write(&path, body).await })
}

fn rename(world: &World, hash: &str, name: &str) {
    let changes = KeyChanges {
        name: Some(name.to_owned()),
        ..KeyChanges::default()
    };
    let account = world.openrouter.account();
    account.change_key(hash, &changes).unwrap();
}

async fn every_minute(world: &World) {
    let body = json!({"reconcile_interval": 60});
    world.write("config", body).await.unwrap();
}

/// A creation that is under way when the teardown's first pass begins, and over when that ends.
#[tokio::test]
async fn a_teardown_names_or_ends_the_key_of_a_role_that_was_being_created_when_it_began() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    // A role whose revocation takes a while, elsewhere.
    let elsewhere = Simulator::start(Options {
        clock: openrouter_simulator::Clock::standing_at(world.time.now()),
        seed: Some(2),
        ..Options::default()
    });
    let elsewhere = elsewhere.await.unwrap();
    let second = json!({
        "management_key": elsewhere.management_key(), "api_url": elsewhere.base_url(),
    });
    world.write("config/second", second).await.unwrap();
    let mut slow = role();
    slow["connection"] = json!("second");
    world.write("roles/slow", slow).await.unwrap();

    world.openrouter.faults().add(Fault::held().on("POST", "/keys"));
    let node = world.node();
    let creation = writing(&node, "roles/new", role());
    held(&world.openrouter, 1).await;
    elsewhere.faults().add(Fault::held().on("DELETE", "/keys/*"));
    let teardown = writing(&node, "teardown", json!({}));
    held(&elsewhere, 1).await;
    world.openrouter.faults().clear();
    let created = creation.await.unwrap();
    elsewhere.faults().clear();
    teardown.await.unwrap().unwrap();
    world.pass(60).await;
    let run = world.run("teardown").await;
    let living = world.openrouter.account().keys();
    let living: Vec<_> = living.into_iter().map(|key| key.hash).collect();
    println!("{created:?}\n{run:?}");
    assert_eq!(run["state"], "finished");
    assert_eq!(living, [""; 0], "a stray {stray} among them, and nothing names them: {run:?}");
}

/// `left_alive` is to name each key that may be alive.
#[tokio::test]
async fn a_teardown_names_a_role_of_which_not_even_the_hashes_can_be_read() {
    let world = World::connected().await;
    let key = world.openrouter.account().create_key(NewKey::named("chatbot"));
    let body = json!({"api_key": key.secret(), "rotation_grace_period": 600, "ttl": 300});
    world.write(ROLE, body).await.unwrap();
    let (entry, value) = (ROLE.to_owned(), b"{".to_vec());
    world.storage.put(Entry { key: entry, value }).await.unwrap();
    let told = world.told("teardown", json!({})).await;
    assert!(world.lives(&key.hash));
    assert_ne!(told["left_alive"], json!({}), "{told:?}");
}

/// A store whose answer was a failure takes effect after the next one of the same entry, as is provided for
/// roles (`context/unsure.rs`).
#[tokio::test]
async fn a_teardown_that_was_cancelled_does_not_come_back() {
    let world = World::with_role().await;
    world.cut_off_openrouter();
    let told = world.told("teardown", json!({})).await;
    assert_eq!(told["state"], "running");
    world.node().storage.late_when_putting("runs/teardown");
    world.time.set(world.after(30));
    world.quiet().await;
    world.openrouter.faults().clear();
    let cancelled = world.node().delete("teardown", Value::Null).await;
    assert_eq!(cancelled.unwrap().unwrap().data["state"], "cancelled");
    world.node().storage.commit_what_is_late().await;
    world.pass(900).await;
    assert_eq!(world.run("teardown").await["state"], "cancelled");
    let before = world.key_hash("app").await;
    world.restart().await;
    world.pass(60).await;
    assert!(world.lives(&before), "the next node tears the mount down");
}

/// The server refuses `teardown` without sudo, and knows nothing of `teardown/`.
#[tokio::test]
async fn a_teardown_is_not_cancelled_by_a_path_that_is_not_root_protected() {
    let world = World::with_role().await;
    world.told("teardown", json!({})).await;
    let answer = world.delete("teardown/", Value::Null).await;
    assert!(answer.is_err(), "{answer:?}");
}

/// Two copies are found between the dry run and the removal.
#[tokio::test]
async fn nothing_is_removed_while_another_copy_of_the_storage_is_at_work() {
    let world = World::connected().await;
    let role = json!({"credential_type": "dynamic", "ttl": 3600, "max_ttl": 3600});
    world.write(CI, role).await.unwrap();
    every_minute(&world).await;
    let copy = world.copy().await;
    world.pass(300).await;
    let leased = copy.read("creds/ci").await.unwrap().unwrap();
    let hash = leased.data["key_hash"].as_str().unwrap().to_owned();
    let told = world.told("tidy/default", json!({})).await;
    let listed = told["keys"].to_string();
    assert!(listed.contains(&hash), "{told:?}");
    world.pass(120).await;
    let status = world.run("status").await;
    assert_ne!(status["two_copies"], Value::Null, "it is found by now");
    let told = world.told("tidy/default", json!({"dry_run": false})).await;
    assert!(world.lives(&hash), "somebody uses it: {told:?}");
}

/// A workspace that nobody needs any more was deleted at OpenRouter.
#[tokio::test]
async fn one_place_that_cannot_be_listed_keeps_no_other_from_being_compared() {
    let world = World::with_role().await;
    let account = world.openrouter.account();
    let workspace = account.add_workspace();
    let body = json!({"credential_type": "dynamic", "ttl": 300, "max_ttl": 3600,
        "workspace_id": workspace});
    world.write(CI, body).await.unwrap();
    world.write(ROLE, json!({"rotation_period": "30d"})).await.unwrap();
    account.delete_workspace(&workspace).unwrap();
    world.pass(2 * 3_600).await;
    let current = world.current().await;
    account.set_disabled(&current, true).unwrap();
    world.pass(24 * 3_600).await;
    let role = world.role("app").await.unwrap();
    assert!(
        role["drift"].to_string().contains("current_key_disabled"),
        "a day later: {}",
        role["drift"]
    );
}

#[tokio::test]
async fn what_lookup_says_to_do_can_be_done_where_two_connections_see_the_key() {
    let world = World::with_role().await;
    let another = json!({
        "management_key": world.openrouter.management_key(), "api_url": world.gate_url(),
    });
    world.write("config/another", another).await.unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    let hash = world.superseded().await;
    let found = world.told("lookup", json!({"key_hash": hash})).await;
    let command = found["commands"][0].as_str().unwrap();
    let path = command.split_whitespace().find_map(|word| word.strip_prefix("openrouter/"));
    let done = world.write(path.unwrap(), json!({"force": true})).await;
    assert!(done.is_ok(), "{command}: {done:?}");
}

#[tokio::test]
async fn a_role_whose_key_has_expired_needs_a_person() {
    let world = World::connected().await;
    let mut manual = role();
    manual["disable_automated_rotation"] = json!(true);
    manual["key_max_lifetime"] = json!(7_200);
    world.write(ROLE, manual).await.unwrap();
    world.pass(8_000).await;
    world.read("creds/app").await.unwrap_err();
    let status = world.run("status").await;
    let read = world.role("app").await.unwrap();
    assert_ne!(
        (&status["attention"]["count"], &read["rotation_status"]),
        (&json!(0), &json!("success"))
    );
}

#[tokio::test]
async fn an_order_that_was_lost_during_a_listing_is_not_shown_as_a_stray() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on("GET", "/workspaces"));
    let node = world.node();
    let listing = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.read("keys/default").await }
    });
    held(&world.openrouter, 1).await;
    faults.add(Fault::LostReply.on("POST", "/keys"));
    faults.add(Fault::ResetBeforeEffect.on("GET", "/keys").times(2));
    node.write(ROTATE, json!({})).await.unwrap_err();
    // The keeper's first look has failed by then, before it could find the key.
    for _ in 0..50 {
        a_moment().await;
    }
    assert_eq!(world.openrouter.account().keys().len(), 2);
    faults.clear();
    let answer = listing.await.unwrap().unwrap().unwrap();
    let keys = answer.data["keys"].as_array().unwrap().iter();
    let owners: Vec<_> = keys.map(|key| key["owner"].as_str().unwrap()).collect();
    assert_eq!(owners.len(), 2, "{answer:?}");
    assert!(!owners.contains(&"stray"), "{owners:?}");
}

#[tokio::test]
async fn a_key_that_is_being_revoked_is_not_adopted() {
    let world = World::connected().await;
    let key = world.openrouter.account().create_key(NewKey::named("chatbot"));
    world.openrouter.faults().add(Fault::held().on("DELETE", "/keys/*"));
    let node = world.node();
    let revocation = writing(&node, &format!("revoke-key/default/{}", key.hash), json!({}));
    held(&world.openrouter, 1).await;
    let body = json!({"api_key": key.secret(), "rotation_grace_period": 600, "ttl": 300});
    let adoption = writing(&node, ROLE, body);
    for _ in 0..50 {
        a_moment().await;
    }
    world.openrouter.faults().clear();
    let (revoked, adopted) = (revocation.await.unwrap(), adoption.await.unwrap());
    assert!(
        adopted.is_err() || world.lives(&key.hash),
        "{adopted:?} and {revoked:?}"
    );
}

/// A key that a restored snapshot does not know is adopted by another role while the comparison is under way.
#[tokio::test]
async fn a_key_that_was_adopted_during_a_comparison_is_not_taken_in_and_revoked() {
    let world = World::with_role().await;
    let snapshot = world.snapshot().await;
    world.write(ROTATE, json!({})).await.unwrap();
    let served = world.key("app").await.unwrap();
    let hash = served["key_hash"].as_str().unwrap().to_owned();
    world.restore(snapshot).await;
    world.openrouter.faults().add(Fault::held().on("GET", "/keys"));
    world.restart().await;
    held(&world.openrouter, 1).await;
    let body = json!({"api_key": served["api_key"], "rotation_grace_period": 600, "ttl": 300});
    world.node().write("roles/other", body).await.unwrap();
    world.openrouter.faults().clear();
    world.pass(1_000).await;
    assert_eq!(world.role("other").await.unwrap()["current_key"]["hash"], *hash);
    assert!(world.lives(&hash), "it is the current key of role other");
}

#[tokio::test]
async fn a_name_at_openrouter_puts_no_secret_into_an_answer() {
    let world = World::with_role().await;
    every_minute(&world).await;
    let served = world.key("app").await.unwrap();
    let secret = served["api_key"].as_str().unwrap();
    rename(&world, &world.current().await, secret);
    world.pass(120).await;
    let read = Value::from(world.role("app").await.unwrap()).to_string();
    assert!(read.contains("key_renamed"), "{read}");
    assert!(!read.contains(secret), "renamed: {read}");
}

#[tokio::test]
async fn the_name_of_an_adopted_key_puts_no_secret_into_a_role() {
    let world = World::connected().await;
    let key = world.openrouter.account().create_key(NewKey::named("chatbot"));
    rename(&world, &key.hash, key.secret());
    let body = json!({"api_key": key.secret(), "rotation_grace_period": 600, "ttl": 300});
    world.write(ROLE, body).await.unwrap();
    let read = Value::from(world.role("app").await.unwrap()).to_string();
    assert!(!read.contains(key.secret()), "{read}");
}

/// Of a mount with one role.
#[tokio::test]
async fn a_key_that_was_moved_is_said_to_be_although_no_other_is_managed() {
    let world = World::with_role().await;
    every_minute(&world).await;
    let account = world.openrouter.account();
    account.create_key(NewKey::named("somebody's"));
    let changes = KeyChanges {
        workspace_id: Some(account.add_workspace()),
        ..KeyChanges::default()
    };
    account.change_key(&world.current().await, &changes).unwrap();
    world.pass(600).await;
    let read = world.role("app").await.unwrap();
    assert!(read["drift"].to_string().contains("key_moved"), "{}", read["drift"]);
}

#[tokio::test]
async fn an_emergency_leaves_no_key_alive_that_was_ordered_before_it_began() {
    let world = World::with_role().await;
    world.openrouter.faults().add(Fault::held().after_the_effect().on("POST", "/keys"));
    let node = world.node();
    let rotation = writing(&node, ROTATE, json!({}));
    held(&world.openrouter, 1).await;
    world.time.set(world.after(10));
    let run = writing(&node, "rotate-all/default", json!({"rotation_grace_period": 0}));
    stored(&world, "runs/rotate-all.default").await;
    world.time.set(world.after(10));
    world.openrouter.faults().clear();
    rotation.await.unwrap().unwrap();
    run.await.unwrap().unwrap();
    world.pass(60).await;
    let run = world.run("rotate-all/default").await;
    assert_eq!(run["state"], "finished", "{run:?}");
    let began: jiff::Timestamp = run["began_at"].as_str().unwrap().parse().unwrap();
    let older = world.openrouter.account().keys();
    let older: Vec<_> = older.into_iter().filter(|key| key.created_at < began).collect();
    let older: Vec<_> = older.into_iter().map(|key| key.name).collect();
    assert_eq!(older, [""; 0], "and it is not named: {run:?}");
}

/// Each request takes ten seconds.
#[tokio::test]
async fn a_listing_that_shows_nothing_ends_after_45_seconds_all_the_same() {
    let world = World::with_role().await;
    let account = world.openrouter.account();
    for _ in 0..20 {
        account.add_workspace();
    }
    world.openrouter.set_latency(Duration::from_millis(5));
    world.openrouter.requests().reset();
    let began = world.time.now();
    let node = world.node();
    let listing = tokio::spawn(async move {
        let query = json!({"state": "expired"});
        let operation = vault_plugin_secrets_openrouter::logical::Operation::Read;
        node.call(operation, "keys/default", query).await
    });
    let mut seen = 0;
    while !listing.is_finished() {
        let requests = world.openrouter.requests().all().len();
        if requests > seen {
            seen = requests;
            world.time.set(world.after(10));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = listing.await.unwrap().unwrap().unwrap();
    let took = world.time.now().duration_since(began).as_secs();
    assert!(took <= 75, "{took} seconds: {answer:?}");
}

#[tokio::test]
async fn what_a_comparison_finds_is_in_the_status_of_the_mount() {
    let world = World::with_dynamic_role().await;
    every_minute(&world).await;
    let leased = world.lease().await.unwrap();
    let hash = leased["key_hash"].as_str().unwrap();
    world.openrouter.account().set_disabled(hash, true).unwrap();
    world.delete(CI, Value::Null).await.unwrap();
    world.pass(120).await;
    let status = Value::from(world.run("status").await).to_string();
    assert!(status.contains("leased_key_disabled"), "{status}");
}
