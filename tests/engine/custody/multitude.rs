//! An account with a hundred thousand foreign keys, some of them unusual. Every operation over all keys
//! completes, shows each in one line, and finds the few that matter.
//!
//! In a debug build that takes minutes; `scripts/test` does it with ten thousand.

use std::collections::BTreeSet;

use openrouter_simulator::{Fault, KeyChanges, NewKey};
use serde_json::{Value, json};

use super::FOREIGN;
use crate::harness::{ROLE, World, role};

const MANY: usize = 10_000;
const VERY_MANY: usize = 100_000;

/// Control characters, and ten kilobytes.
fn odd() -> String {
    format!("\u{1b}[2J\r\n\u{202e}{}", "x\u{7}".repeat(5_120))
}

/// A role, and foreign keys before and after its key: duplicates, unusual names, and the mark of another
/// mount. Returns the hashes of the unusual keys.
async fn crowded(many: usize) -> (World, BTreeSet<String>) {
    let world = World::connected().await;
    let account = world.openrouter.account().clone();
    account.create_keys("before", many / 2);
    world.write(ROLE, role()).await.unwrap();
    world.quiet().await;
    let odd = odd();
    let names = [odd.as_str(), odd.as_str(), "twin", "twin", FOREIGN, FOREIGN];
    let odd = names.map(|name| account.create_key(NewKey::named(name)).hash);
    account.create_keys("after", many / 2);
    (world, odd.into())
}

/// The fields shown for a key.
fn is_one_line(key: &Value) {
    let name = key["name"].as_str().unwrap();
    assert!(!name.contains(char::is_control), "{name:?}");
    assert!(name.chars().count() <= 301, "{}", name.len());
}

#[tokio::test]
async fn every_read_completes_among_thousands_of_foreign_keys() {
    every_read_completes(MANY).await;
}

#[tokio::test]
#[ignore = "takes minutes: cargo test --test engine multitude -- --ignored"]
async fn every_read_completes_among_a_hundred_thousand_foreign_keys() {
    every_read_completes(VERY_MANY).await;
}

#[tokio::test]
async fn among_thousands_of_keys_of_others_a_comparison_finds_what_was_changed() {
    a_comparison_finds_what_was_changed(MANY).await;
}

#[tokio::test]
#[ignore = "takes minutes: cargo test --test engine multitude -- --ignored"]
async fn among_a_hundred_thousand_keys_of_others_a_comparison_finds_what_was_changed() {
    a_comparison_finds_what_was_changed(VERY_MANY).await;
}

async fn every_read_completes(many: usize) {
    let (world, odd) = crowded(many).await;
    let current = world.current().await;

    // One key, however many others there are.
    world.openrouter.requests().reset();
    for hash in odd.iter().chain([&current]) {
        let found = world.told("lookup", json!({"key_hash": hash})).await;
        assert_eq!(found["key_hash"], json!(hash));
    }
    assert!(world.openrouter.requests().all().len() <= odd.len() + 1);

    // A part shows at most this many keys, and each key once.
    let part = async |query: Value| {
        let answer = world.read_with("keys/default", query).await.unwrap();
        answer.expect("there are keys").data
    };
    let first = part(json!({"limit": many / 10})).await;
    assert_eq!(first["complete"], false);
    let second = part(json!({"limit": many / 10, "after": first["next"]})).await;
    let shown = [&first, &second].map(|part| part["keys"].as_array().unwrap());
    let hashes = shown.iter().flat_map(|keys| keys.iter());
    let hashes: BTreeSet<_> = hashes.map(|key| key["hash"].to_string()).collect();
    assert_eq!(hashes.len(), 2 * (many / 10));

    // A filter visits all keys. One page in the middle has an unknown format.
    let Value::Object(data) = json!({
        "limit": {"odd": [1]}, "limit_reset": 7, "created_at": "yesterday", "expires_at": [],
        "usage": "much", "disabled": "perhaps", "label": null, "workspace_id": 0,
    }) else {
        unreachable!()
    };
    let shape = Fault::EditedReply { data };
    world.openrouter.faults().add(
        shape
            .on("GET", "/keys")
            .nth(u32::try_from(many / 200).unwrap()),
    );
    world.openrouter.requests().reset();
    let found = part(json!({"owner": "role"})).await;
    assert_eq!(
        (&found["complete"], &found["next"]),
        (&json!(true), &Value::Null)
    );
    let keys = found["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["hash"]), (1, &json!(current)));
    let pages = world.openrouter.requests().to("GET", "/keys").len();
    let expected = (many + odd.len()).div_ceil(99);
    assert!(pages.abs_diff(expected) <= 1, "{pages} of {expected}");

    // The unusual keys are near the key that was created just before them.
    let unmanaged = part(json!({"owner": "other_mount"})).await;
    let keys = unmanaged["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "two keys of one name");
    for hash in &odd {
        let path = format!("keys/default/{hash}");
        let key = world.read(&path).await.unwrap().unwrap().data;
        is_one_line(&Value::from(key));
    }
}

async fn a_comparison_finds_what_was_changed(many: usize) {
    let (world, _) = crowded(many).await;
    let current = world.current().await;
    let raised = KeyChanges {
        limit: Some(Some(500.0)),
        ..KeyChanges::default()
    };
    let account = world.openrouter.account();
    account.change_key(&current, &raised).unwrap();
    world.openrouter.requests().reset();
    let calls = world.node().storage.calls();
    world.time.set(world.after(3_599));
    world.quiet().await;
    assert_eq!(world.seen(&current).limit, Some(5.0));
    let pages = world.openrouter.requests().to("GET", "/keys").len();
    assert!(pages <= many.div_ceil(99) + 2, "{pages}");
    let calls = world.node().storage.calls() - calls;
    assert!(calls < 20, "{calls} storage calls");
    let status = world.read("status").await.unwrap().unwrap().data;
    assert_eq!(status["attention"]["count"], 0, "{status:?}");
    assert_eq!(status["connections"]["default"]["stray_keys"], 0);
    assert_eq!(account.keys().len(), many + 7, "none was touched");
}
