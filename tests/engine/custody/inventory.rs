//! The inventory: the owner of each key, in parts, with everything that is missing reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openrouter_simulator::{Fault, NewKey};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Operation;

use super::{FOREIGN, with_keys};
use crate::harness::World;

const KEYS: &str = "keys/default";

/// Owner and state of each key of a list, by hash.
async fn listed(world: &World) -> BTreeMap<String, (String, String)> {
    let node = world.node();
    let answer = node
        .call(Operation::List, "keys/default/", Value::Null)
        .await;
    let answer = answer.unwrap().expect("there are keys");
    assert_eq!(answer.data["complete"], true, "{:?}", answer.warnings);
    let named = answer.data["keys"].as_array().unwrap();
    let info = answer.data["key_info"].as_object().unwrap();
    assert_eq!(named.len(), info.len());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    info.iter()
        .map(|(hash, row)| (hash.clone(), (text(&row["owner"]), text(&row["state"]))))
        .collect()
}

/// The hashes in a read, and where it continues.
async fn part(world: &World, query: Value) -> (Vec<String>, Option<String>) {
    let answer = world.read_with(KEYS, query).await.unwrap().unwrap();
    let keys = answer.data["keys"].as_array().unwrap();
    let hashes = keys
        .iter()
        .map(|key| key["hash"].as_str().unwrap().to_owned());
    let next = answer.data["next"].as_str().map(str::to_owned);
    assert_eq!(answer.data["complete"], next.is_none());
    assert_eq!(answer.warnings.is_empty(), next.is_none());
    (hashes.collect(), next)
}

/// Reads to the end, in parts of this size, after this position.
async fn rest(world: &World, limit: usize, mut after: Option<String>) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let mut query = json!({"limit": limit});
        if let Some(after) = after {
            query["after"] = after.into();
        }
        let (hashes, next) = part(world, query).await;
        all.extend(hashes);
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

#[tokio::test]
async fn each_key_of_the_account_is_listed_with_its_owner_and_its_state() {
    let (world, keys) = with_keys().await;
    let account = world.openrouter.account();
    let elsewhere = account.add_workspace();
    let mut expected = BTreeMap::new();
    for (kind, owner, state) in [
        ("current", "role", "current"),
        ("superseded", "role", "superseded"),
        ("leased", "lease", "leased"),
        ("stray", "stray", "active"),
        ("foreign", "other_mount", "active"),
        ("unmanaged", "unmanaged", "active"),
    ] {
        expected.insert(keys[kind].clone(), (owner.to_owned(), state.to_owned()));
    }
    let other = account.create_key(NewKey {
        workspace_id: Some(elsewhere),
        ..NewKey::named("elsewhere")
    });
    let expired = account.create_key(NewKey::named("expired")).hash;
    account.set_expiry(&expired, Some(world.after(-1))).unwrap();
    let disabled = account.create_key(NewKey::named(FOREIGN)).hash;
    account.set_disabled(&disabled, true).unwrap();
    for (hash, owner, state) in [
        (other.hash, "unmanaged", "active"),
        (expired, "unmanaged", "expired"),
        (disabled, "other_mount", "disabled"),
    ] {
        expected.insert(hash, (owner.to_owned(), state.to_owned()));
    }
    assert_eq!(listed(&world).await, expected);

    account.set_disabled(&keys["current"], true).unwrap();
    let listed = listed(&world).await;
    assert_eq!(
        listed[&keys["current"]],
        ("role".to_owned(), "disabled".to_owned())
    );
}

#[tokio::test]
async fn a_key_in_the_making_and_one_whose_outcome_is_unknown_are_not_taken_for_strays() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::LostReply.on("POST", "/keys"));
    // The key cannot be searched for either.
    let away = Fault::ResetBeforeEffect.on("GET", "/keys").forever();
    world.openrouter.faults().add(away);
    world.write("rotate-role/app", json!({})).await.unwrap_err();
    // The keeper's first search has failed too, before it could find the key.
    world.quiet().await;
    world.openrouter.faults().clear();
    let owners: BTreeSet<_> = listed(&world).await.into_values().collect();
    let pair = |owner: &str, state: &str| (owner.to_owned(), state.to_owned());
    assert_eq!(
        owners,
        [pair("lost", "active"), pair("role", "current")].into()
    );
}

#[tokio::test]
async fn a_read_takes_filters() {
    let (world, keys) = with_keys().await;
    let elsewhere = world.openrouter.account().add_workspace();
    let here = world.openrouter.account().default_workspace();
    let table = [
        (json!({"owner": "role"}), vec!["current", "superseded"]),
        (json!({"state": "active", "owner": "stray"}), vec!["stray"]),
        (json!({"state": "leased"}), vec!["leased"]),
        (
            json!({"workspace_id": here, "owner": "unmanaged"}),
            vec!["unmanaged"],
        ),
        (json!({"workspace_id": elsewhere}), vec![]),
        (json!({"state": "expired"}), vec![]),
    ];
    for (query, kinds) in table {
        let (found, next) = part(&world, query.clone()).await;
        let wanted: BTreeSet<_> = kinds.iter().map(|kind| keys[kind].clone()).collect();
        assert_eq!(BTreeSet::from_iter(found), wanted, "{query}");
        assert_eq!(next, None);
    }
}

#[tokio::test]
async fn invalid_parameters_are_rejected_with_the_field() {
    let world = World::connected().await;
    let foreign = format!(
        "{}.1.{}",
        world.openrouter.account().default_workspace(),
        "a".repeat(64)
    );
    for (query, reason) in [
        (json!({"owner": "me"}), "owner must be one of: role"),
        (json!({"state": "dead"}), "state must be one of: current"),
        (json!({"workspace_id": "main"}), "workspace_id: "),
        (json!({"limit": 0}), "limit must be between 1 and 10000"),
        (json!({"limit": 10_001}), "limit must be between"),
        (json!({"limit": "many"}), "limit must be a whole number"),
        (json!({"after": "x"}), "after must be the value of next"),
        (
            json!({"after": foreign, "workspace_id": "0f8fad5b-d9cb-469f-a165-70867728950e"}),
            "after is of another workspace",
        ),
    ] {
        let refusal = world.read_with(KEYS, query.clone()).await.unwrap_err();
        assert!(refusal.to_string().contains(reason), "{query}: {refusal}");
    }
    let short = world.read("keys/default/abc").await.unwrap_err();
    assert!(short.to_string().starts_with("hash must be"), "{short}");
    let nowhere = world.read("keys/none").await.unwrap_err();
    assert!(
        nowhere.to_string().contains("no connection \"none\""),
        "{nowhere}"
    );
}

#[tokio::test]
async fn the_parts_of_a_listing_are_the_whole_and_each_key_is_shown_once() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.create_keys("many", 230);
    let elsewhere = account.add_workspace();
    for number in 0..7 {
        account.create_key(NewKey {
            workspace_id: Some(elsewhere.clone()),
            ..NewKey::named(format!("elsewhere {number}"))
        });
    }
    let all: BTreeSet<_> = account.keys().into_iter().map(|key| key.hash).collect();
    for limit in [1, 37, 100, 237, 10_000] {
        let shown = rest(&world, limit, None).await;
        assert_eq!(shown.len(), 237, "in parts of {limit}");
        assert_eq!(BTreeSet::from_iter(shown), all);
    }
}

#[tokio::test]
async fn a_key_is_not_missed_though_others_are_deleted_between_two_parts() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.create_keys("many", 300);
    let (first, next) = part(&world, json!({"limit": 150})).await;
    for hash in first.iter().take(60) {
        account.delete_key(hash).unwrap();
    }
    let second = rest(&world, 10_000, next).await;
    let shown: BTreeSet<_> = first.into_iter().chain(second).collect();
    let living = account.keys().into_iter().map(|key| key.hash);
    assert!(living.into_iter().all(|hash| shown.contains(&hash)));
}

#[tokio::test]
async fn an_incomplete_listing_says_so_and_can_be_continued() {
    let world = World::connected().await;
    world.openrouter.account().create_keys("many", 300);
    let second_page = Fault::status(503).on("GET", "/keys").nth(2).forever();
    world.openrouter.faults().add(second_page);
    let broken = world.read(KEYS).await.unwrap().unwrap();
    assert_eq!(broken.data["complete"], false);
    assert_eq!(broken.data["keys"].as_array().unwrap().len(), 100);
    assert!(
        broken.warnings[0].contains("broke off"),
        "{:?}",
        broken.warnings
    );
    assert!(broken.warnings[0].contains("503"), "{:?}", broken.warnings);
    world.openrouter.faults().clear();
    let next = broken.data["next"].as_str().unwrap().to_owned();
    assert_eq!(rest(&world, 10_000, Some(next)).await.len(), 200);

    // If nothing could be listed, the read fails.
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on_anything().forever());
    let refusal = world.read(KEYS).await.unwrap_err();
    assert!(
        refusal.to_string().contains("keys cannot be listed"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_listing_stops_after_45_seconds_and_says_where_it_goes_on() {
    let world = World::connected().await;
    world.openrouter.account().create_keys("many", 1_000);
    world.openrouter.set_latency(Duration::from_millis(10));
    let pages = || world.openrouter.requests().to("GET", "/keys").len();
    let time_passes = async {
        while pages() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.time.set(world.after(46));
    };
    let ((shown, next), ()) = tokio::join!(part(&world, json!({})), time_passes);
    assert!((100..1_000).contains(&shown.len()), "{}", shown.len());
    let rest = rest(&world, 10_000, next).await;
    assert_eq!(shown.len() + rest.len(), 1_000);
}

#[tokio::test]
async fn odd_names_are_shown_in_one_line_and_hide_no_key() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let odd = format!("\u{1b}[2J\r\n{}", "x".repeat(10_240));
    let hashes: BTreeSet<_> = [odd.as_str(), odd.as_str(), "twin", "twin", " "]
        .map(|name| account.create_key(NewKey::named(name)).hash)
        .into();
    let answer = world.read(KEYS).await.unwrap().unwrap();
    let keys = answer.data["keys"].as_array().unwrap();
    let shown: BTreeSet<_> = keys
        .iter()
        .map(|key| key["hash"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(shown, hashes);
    for key in keys {
        let name = key["name"].as_str().unwrap();
        assert!(!name.contains(char::is_control), "{name:?}");
        assert!(name.chars().count() <= 301);
    }
}

#[tokio::test]
async fn an_answer_shows_ten_thousand_keys_at_the_most() {
    let world = World::connected().await;
    world.openrouter.account().create_keys("many", 10_050);
    let (first, next) = part(&world, json!({})).await;
    assert_eq!(first.len(), 10_000);
    let second = rest(&world, 10_000, next).await;
    assert_eq!(second.len(), 50);
    let shown: BTreeSet<_> = first.into_iter().chain(second).collect();
    assert_eq!(shown.len(), 10_050);
}

#[tokio::test]
async fn one_key_is_read_with_all_that_is_known_of_it() {
    let (world, keys) = with_keys().await;
    let account = world.openrouter.account();
    account.set_usage(&keys["current"], 1.25).unwrap();
    account
        .set_last_used(&keys["current"], Some(world.after(-60)))
        .unwrap();
    let read = async |hash: &str| {
        let answer = world.read(&format!("{KEYS}/{hash}")).await.unwrap();
        answer.expect("there is the key").data
    };
    let current = read(&keys["current"]).await;
    assert_eq!(
        (&current["owner"], &current["role"]),
        (&json!("role"), &json!("app"))
    );
    assert_eq!(
        (&current["key_version"], current["limit"].as_f64()),
        (&json!(2), Some(5.0))
    );
    assert_eq!(current["usage"], 1.25);
    assert_eq!(current["last_used_at"], world.after(-60).to_string());
    let superseded = read(&keys["superseded"]).await;
    assert_eq!(superseded["key_version"], 1);
    assert_eq!(superseded["revoke_at"], world.after(600).to_string());
    let leased = read(&keys["leased"]).await;
    assert_eq!(leased["leased_until"], world.after(300).to_string());
    assert_eq!(leased["requester"]["at"], world.time.now().to_string());
    let none = world
        .read(&format!("{KEYS}/{}", "0".repeat(64)))
        .await
        .unwrap();
    assert!(none.is_none());
}
