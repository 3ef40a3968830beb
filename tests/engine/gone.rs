//! If OpenRouter reports that a current key is gone, and nothing replaces it automatically, the engine asks
//! again: the answer may have been wrong.

use openrouter_simulator::{Fault, ListDelay};
use serde_json::json;

use crate::harness::{ROLE, World};

/// A role that is rotated only manually, whose living key OpenRouter denies in this many lookups.
async fn denied(lookups: u32) -> (World, String) {
    let world = World::connected().await;
    let body = json!({"disable_automated_rotation": true});
    world.write(ROLE, body).await.unwrap();
    let hash = world.key_hash("app").await;
    let hidden = world
        .openrouter
        .account()
        .hide_key_from_lists(&hash, ListDelay::Listings(u32::MAX));
    hidden.unwrap();
    let faults = world.openrouter.faults();
    faults.add(Fault::status(404).on("GET", "/keys/*").times(lookups));
    faults.add(Fault::status(401).on("GET", "/key").times(lookups));
    world.openrouter.requests().reset();
    world.restart().await;
    world.quiet().await;
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("gone at OpenRouter"), "{refusal}");
    (world, hash)
}

#[tokio::test]
async fn a_key_that_was_denied_by_mistake_is_handed_out_again_a_minute_later() {
    let (world, hash) = denied(1).await;
    world.pass(59).await;
    world.key("app").await.unwrap_err();
    world.pass(1).await;
    let key = world.key("app").await.unwrap();
    assert_eq!(key["key_hash"], hash.as_str());
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.orders(), 0);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn it_is_checked_at_growing_intervals_for_as_long_as_it_takes() {
    let (world, hash) = denied(30).await;
    world.pass(24 * 60 * 60).await;
    let asked = world.openrouter.requests().to("GET", "/keys/*").len();
    assert!((20..=31).contains(&asked), "{asked} times in a day");
    // The comparisons, of which there is one an hour, do not ask in addition.
    world.key("app").await.unwrap_err();
    world.pass(12 * 60 * 60).await;
    let key = world.key("app").await.unwrap();
    assert_eq!(key["key_hash"], hash.as_str());
    assert_eq!(world.violations().await, [""; 0]);
}

/// An answer without information changes nothing.
#[tokio::test]
async fn while_openrouter_cannot_be_asked_it_stays_as_it_is() {
    let (world, hash) = denied(1).await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("GET", "/keys/*").times(2));
    world.pass(90).await;
    world.key("app").await.unwrap_err();
    world.pass(3_600).await;
    let key = world.key("app").await.unwrap();
    assert_eq!(key["key_hash"], hash.as_str());
}

#[tokio::test]
async fn a_key_that_turns_out_to_be_disabled_is_so_since_that_was_found() {
    let (world, hash) = denied(1).await;
    let gone_since = world.time.now().to_string();
    let complaints = world.complaints().await;
    assert!(complaints[0].contains(&gone_since), "{complaints:?}");
    world
        .openrouter
        .account()
        .set_disabled(&hash, true)
        .unwrap();
    world.pass(60).await;
    let found = format!(
        "at {} the current key was found to be disabled",
        world.time.now()
    );
    let complaints = world.complaints().await;
    assert!(complaints[0].contains(&found), "{complaints:?}");
    // When asked again, it is still disabled, and since the earlier time.
    world.pass(60).await;
    let complaints = world.complaints().await;
    assert!(complaints[0].contains(&found), "{complaints:?}");
}

/// OpenRouter contradicts itself: its list shows the key, and nothing else does.
#[tokio::test]
async fn a_key_that_is_denied_although_it_is_listed_is_reported_as_gone_once() {
    let (world, hash) = denied(1_000).await;
    let account = world.openrouter.account();
    let listed = ListDelay::Listings(0);
    account.hide_key_from_lists(&hash, listed).unwrap();
    let complaints = world.complaints().await;
    world.pass(3 * 60 * 60).await;
    let role = world.role("app").await.unwrap();
    let drift = role["drift"].as_array().unwrap();
    let drift: Vec<_> = drift.iter().map(|noted| &noted["drift"]).collect();
    assert_eq!(drift, ["current_key_gone"]);
    assert_eq!(world.complaints().await, complaints, "since the same time");
}
