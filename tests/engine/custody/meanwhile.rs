//! Changes during an operation that began with the earlier state: none of them is missed.

use std::sync::Arc;
use std::time::Duration;

use openrouter_simulator::{Fault, NewKey, Options, Simulator};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Operation, Storage};

use crate::harness::{Answer, Node, ROLE, ROTATE, World, role};

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

/// A creation that is in progress when the teardown's first pass begins, and has finished when that ends.
#[tokio::test]
async fn a_teardown_names_or_ends_the_key_of_a_role_that_was_being_created_when_it_began() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    // A role in another place, whose revocation takes a while.
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

    world
        .openrouter
        .faults()
        .add(Fault::held().on("POST", "/keys"));
    let node = world.node();
    let creation = writing(&node, "roles/new", role());
    held(&world.openrouter, 1).await;
    elsewhere
        .faults()
        .add(Fault::held().on("DELETE", "/keys/*"));
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
    created.unwrap();
    assert_eq!(run["state"], "finished");
    assert_eq!(
        living, [""; 0],
        "a stray {stray} among them, and nothing names them: {run:?}"
    );
}

#[tokio::test]
async fn an_emergency_leaves_no_key_alive_that_was_ordered_before_it_began() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::held().after_the_effect().on("POST", "/keys"));
    let node = world.node();
    let rotation = writing(&node, ROTATE, json!({}));
    held(&world.openrouter, 1).await;
    world.time.set(world.after(10));
    let run = writing(
        &node,
        "rotate-all/default",
        json!({"rotation_grace_period": 0}),
    );
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
    let older: Vec<_> = older
        .into_iter()
        .filter(|key| key.created_at < began)
        .collect();
    let older: Vec<_> = older.into_iter().map(|key| key.name).collect();
    assert_eq!(older, [""; 0], "and it is not named: {run:?}");
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
    // The keeper's first search has failed by then, before it could find the key.
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

/// The filter applies to the final state of the keys.
#[tokio::test]
async fn a_key_that_changes_during_a_listing_is_shown_as_what_it_has_become() {
    for state in ["current", "superseded"] {
        let world = World::with_role().await;
        let before = world.current().await;
        let faults = world.openrouter.faults();
        faults.add(Fault::held().on("GET", "/workspaces"));
        let node = world.node();
        let listing = tokio::spawn(async move {
            let query = json!({"owner": "role", "state": state});
            node.call(Operation::Read, "keys/default", query).await
        });
        held(&world.openrouter, 1).await;
        world.write(ROTATE, json!({})).await.unwrap();
        faults.clear();
        let answer = listing.await.unwrap().unwrap().unwrap();
        let shown = answer.data["keys"].as_array().unwrap();
        assert_eq!(shown.len(), 1, "{state}: {answer:?}");
        let expected = match state {
            "current" => world.current().await,
            _ => before,
        };
        assert_eq!(shown[0]["hash"], json!(expected));
        assert_eq!(answer.data["complete"], true);
    }
}

#[tokio::test]
async fn a_part_has_no_more_keys_than_were_asked_for_although_some_change_meanwhile() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on("GET", "/workspaces"));
    let node = world.node();
    let listing = tokio::spawn(async move {
        let query = json!({"owner": "role", "limit": 1});
        node.call(Operation::Read, "keys/default", query).await
    });
    held(&world.openrouter, 1).await;
    world.write(ROTATE, json!({})).await.unwrap();
    faults.clear();
    let first = listing.await.unwrap().unwrap().unwrap().data;
    assert_eq!(first["keys"].as_array().unwrap().len(), 1);
    assert_eq!(first["keys"][0]["hash"], json!(world.current().await));
    assert_eq!(first["complete"], false);
    let query = json!({"owner": "role", "after": first["next"]});
    let rest = world.read_with("keys/default", query).await.unwrap();
    let rest = rest.unwrap().data;
    assert_eq!(rest["keys"][0]["hash"], json!(world.superseded().await));
    assert_eq!(rest["complete"], true);
}

#[tokio::test]
async fn a_key_that_is_being_revoked_is_not_adopted() {
    let world = World::connected().await;
    let key = world
        .openrouter
        .account()
        .create_key(NewKey::named("chatbot"));
    world
        .openrouter
        .faults()
        .add(Fault::held().on("DELETE", "/keys/*"));
    let node = world.node();
    let revocation = writing(
        &node,
        &format!("revoke-key/default/{}", key.hash),
        json!({}),
    );
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

/// Another role adopts a key that a restored snapshot does not know, during the comparison.
#[tokio::test]
async fn a_key_that_was_adopted_during_a_comparison_is_not_taken_in_and_revoked() {
    let world = World::with_role().await;
    let snapshot = world.snapshot();
    world.write(ROTATE, json!({})).await.unwrap();
    let served = world.key("app").await.unwrap();
    let hash = served["key_hash"].as_str().unwrap().to_owned();
    world.restore(snapshot).await;
    world
        .openrouter
        .faults()
        .add(Fault::held().on("GET", "/keys"));
    world.restart().await;
    held(&world.openrouter, 1).await;
    let body = json!({"api_key": served["api_key"], "rotation_grace_period": 600, "ttl": 300});
    world.node().write("roles/other", body).await.unwrap();
    world.openrouter.faults().clear();
    world.pass(1_000).await;
    assert_eq!(
        world.role("other").await.unwrap()["current_key"]["hash"],
        *hash
    );
    assert!(world.lives(&hash), "it is the current key of role other");
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
        node.call(Operation::Read, "keys/default", query).await
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

fn hold_a_lookup(openrouter: &Simulator) {
    openrouter.requests().reset();
    openrouter.faults().add(Fault::held().on("GET", "/keys/*"));
}

async fn arrived(openrouter: &Simulator) {
    while openrouter.requests().to("GET", "/keys/*").is_empty() {
        a_moment().await;
    }
}

/// A connection that never answers does not hide what storage and the other connections know.
#[tokio::test]
async fn a_lookup_ends_after_45_seconds_and_says_which_connection_has_not_answered() {
    let world = World::with_role().await;
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
    let other = json!({"connection": "second"});
    world.write("roles/other", other).await.unwrap();
    let other = world.role("other").await.unwrap()["current_key"]["hash"].clone();
    let current = json!(world.current().await);
    for (hash, is_seen) in [(&current, true), (&other, false)] {
        hold_a_lookup(&elsewhere);
        let (node, body) = (world.node(), json!({"key_hash": hash}));
        let lookup = tokio::spawn(async move { node.write("lookup", body).await });
        arrived(&elsewhere).await;
        // The other connection answers.
        for _ in 0..50 {
            a_moment().await;
        }
        world.time.set(world.after(45));
        let found = lookup.await.unwrap().unwrap().unwrap().data;
        assert_eq!(found["owner"], "role");
        assert_eq!(found["key"].is_object(), is_seen, "{found:?}");
        let not_asked = found["not_asked"].as_object().unwrap();
        assert_eq!(not_asked.len(), 1);
        let why = not_asked["second"].as_str().unwrap();
        assert!(why.contains("longer than 45 seconds"), "{why}");
        elsewhere.faults().clear();
    }
    hold_a_lookup(&elsewhere);
    let (node, path) = (
        world.node(),
        format!("keys/second/{}", other.as_str().unwrap()),
    );
    let read = tokio::spawn(async move { node.read(&path).await });
    arrived(&elsewhere).await;
    world.time.set(world.after(45));
    let refusal = read.await.unwrap().unwrap_err().to_string();
    assert!(refusal.contains("longer than 45 seconds"), "{refusal}");
}

/// The decision depends on the key's state when its turn comes.
#[tokio::test]
async fn a_held_key_that_is_restored_meanwhile_is_not_revoked_without_force() {
    let world = World::connected().await;
    let mut held_for_a_day = role();
    held_for_a_day["revocation_hold"] = json!(86_400);
    world.write(ROLE, held_for_a_day).await.unwrap();
    world.key("app").await.unwrap();
    let hash = world.current().await;
    let rotate = json!({"rotation_grace_period": 0});
    world.write(ROTATE, rotate).await.unwrap();
    world.quiet().await;
    assert!(world.openrouter.account().key(&hash).unwrap().disabled);
    let enabling = Fault::held().on("PATCH", "/keys/*");
    world.openrouter.faults().add(enabling);
    let node = world.node();
    let body = json!({"key_version": 1, "force": true});
    let restoration = writing(&node, "restore-key/app", body);
    held(&world.openrouter, 1).await;
    let revocation = writing(&node, &format!("revoke-key/default/{hash}"), json!({}));
    for _ in 0..50 {
        a_moment().await;
    }
    world.openrouter.faults().clear();
    restoration.await.unwrap().unwrap();
    revocation.await.unwrap().unwrap_err();
    assert!(world.lives(&hash));
}

/// `forget-role` leaves the key alive. The order to revoke the key has read its owner before that.
#[tokio::test]
async fn a_key_whose_role_is_forgotten_meanwhile_is_not_said_to_be_revoked() {
    let world = World::with_role().await;
    let hash = world.current().await;
    world.write(ROTATE, json!({})).await.unwrap();
    world.quiet().await;
    let storing = world.node().storage.hold_when_putting(ROLE);
    let node = world.node();
    // It has the role's lock.
    let change = writing(&node, ROLE, json!({"description": "slow"}));
    storing.has_come.cancelled().await;
    let forgetting = writing(&node, "forget-role/app", json!({"revoke_keys": false}));
    for _ in 0..20 {
        a_moment().await;
    }
    let path = format!("revoke-key/default/{hash}");
    let revocation = writing(&node, &path, json!({"force": true}));
    for _ in 0..20 {
        a_moment().await;
    }
    storing.let_go.cancel();
    change.await.unwrap().unwrap();
    forgetting.await.unwrap().unwrap();
    let refusal = revocation.await.unwrap().unwrap_err().to_string();
    assert!(
        refusal.contains("no longer belongs to role app"),
        "{refusal}"
    );
    assert!(world.lives(&hash));
}
