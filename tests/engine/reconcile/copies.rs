//! Two live copies of one storage: each detects the other, and neither revokes keys of the other's users.

use std::collections::BTreeSet;

use openrouter_simulator::{Fault, Key, NewKey};
use serde_json::json;

use super::HOUR;
use crate::harness::{Node, ROLE, World};

/// Lets both copies live until then, and calls `judge` whenever time stops.
async fn live(world: &World, copy: &Node, seconds: i64, mut judge: impl AsyncFnMut()) {
    let (original, end) = (world.node(), world.after(seconds));
    loop {
        for node in [&*original, copy] {
            node.tick().await.unwrap();
            node.life.quiet().await;
        }
        original.life.quiet().await;
        judge().await;
        let now = world.time.now();
        if now == end {
            return;
        }
        let wakes = [original.clock.next_wake(), copy.clock.next_wake()];
        let next = wakes.into_iter().flatten().filter(|next| *next > now).min();
        world.time.set(next.map_or(end, |next| next.min(end)));
    }
}

async fn role(node: &Node) -> (String, Vec<String>) {
    let answer = node.read(ROLE).await.unwrap().unwrap();
    let hash = answer.data["current_key"]["hash"]
        .as_str()
        .unwrap()
        .to_owned();
    (hash, answer.warnings)
}

fn is_warned(warnings: &[String]) -> bool {
    warnings
        .iter()
        .any(|warning| warning.contains("another copy of this storage is active"))
}

#[tokio::test]
async fn two_live_copies_of_one_storage_notice_each_other_and_take_no_key_away_in_a_week() {
    let world = World::connected().await;
    let body = json!({"rotation_period": "12h", "rotation_grace_period": "2h", "ttl": "1h"});
    world.write(ROLE, body).await.unwrap();
    world.pass(HOUR).await;
    let copy = world.copy().await;
    let shared = role(&copy).await.0;
    live(&world, &copy, 10 * HOUR, async || {}).await;
    for node in [&*world.node(), &copy] {
        assert!(!is_warned(&role(node).await.1), "nobody has rotated yet");
    }
    // Both rotate, and both compare within an hour after that.
    live(&world, &copy, 3 * HOUR, async || {}).await;
    assert!(is_warned(&role(&world.node()).await.1));
    let status = world.read("status").await.unwrap().unwrap().data;
    assert!(
        is_warned(&[status["two_copies"]["message"].to_string()]),
        "{status:?}"
    );
    assert!(is_warned(&role(&copy).await.1));

    let mut served = BTreeSet::new();
    live(&world, &copy, 7 * 24 * HOUR, async || {
        for node in [&*world.node(), &copy] {
            let (hash, warnings) = role(node).await;
            assert!(is_warned(&warnings), "the warning stands");
            let key = world.openrouter.account().key(&hash).unwrap();
            assert!(
                key.deleted_at.is_none() && !key.disabled,
                "{hash} is served and dead"
            );
            served.insert(hash);
        }
    })
    .await;
    assert!(
        served.len() >= 28,
        "both went on rotating: {}",
        served.len()
    );
    assert!(!served.contains(&shared));

    // One of the two is stopped. When the other begins its work again, it adds the keys of the stopped one.
    copy.life.end();
    world.restart().await;
    world.quiet().await;
    assert!(!is_warned(&role(&world.node()).await.1));
    world.pass(3 * HOUR).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn what_was_taken_in_is_not_revoked_while_another_copy_is_at_work() {
    let world = World::connected().await;
    let body = json!({"rotation_period": "30d", "rotation_grace_period": "5h", "ttl": "1h"});
    world.write(ROLE, body).await.unwrap();
    let copy = world.copy().await;
    // Created before the work of the next node begins: the copy's key counts as a forgotten one.
    copy.write("rotate-role/app", json!({})).await.unwrap();
    let theirs = role(&copy).await.0;
    world.time.set(world.after(600));
    world.restart().await;
    world.quiet().await;
    live(&world, &copy, HOUR, async || {}).await;
    copy.write("rotate-role/app", json!({})).await.unwrap();
    let newest = role(&copy).await.0;
    // Half an hour after it would have been revoked, and before the copy revokes it.
    live(&world, &copy, 4 * HOUR + HOUR / 2, async || {}).await;
    assert!(is_warned(&role(&world.node()).await.1));
    let key = |hash: &str| world.openrouter.account().key(hash).unwrap();
    assert_eq!(key(&theirs).deleted_at, None);
    let known = world.role("app").await.unwrap();
    let known = serde_json::to_string(&known["superseded_keys"]).unwrap();
    assert!(
        known.contains(&theirs),
        "taken in before the copy was noticed: {known}"
    );
    assert!(!known.contains(&newest), "not taken in after that: {known}");
    assert_eq!(key(&newest).deleted_at, None);
}

/// A role that is compared every minute, and a key that nobody knows. It is named like the role's keys, and was
/// made when the node had worked for this many seconds.
async fn with_an_unknown_key(seconds: i64) -> (World, Key) {
    let world = World::with_role().await;
    let often = json!({"reconcile_interval": 60});
    world.write("config", often).await.unwrap();
    let own = world.key("app").await.unwrap()["key_name"].clone();
    world.restart().await;
    world.quiet().await;
    world.pass(seconds).await;
    let own = own.as_str().unwrap();
    let other = format!("{}{:016x}", &own[..own.len() - 16], 7);
    let key = world.openrouter.account().create_key(NewKey::named(other));
    (world, key)
}

/// A deposed leader may continue for a while, and clocks differ.
#[tokio::test]
async fn a_key_that_was_made_in_the_first_minutes_of_the_work_shows_no_copy() {
    for (seconds, is_a_copys) in [(60, false), (120, false), (121, true)] {
        let (world, key) = with_an_unknown_key(seconds).await;
        world.pass(60).await;
        let status = world.read("status").await.unwrap().unwrap().data;
        assert_eq!(status["two_copies"].is_object(), is_a_copys, "{seconds}");
        let role = world.role("app").await.unwrap();
        let is_taken_in = role["superseded_keys"].to_string().contains(&key.hash);
        assert_eq!(is_taken_in, !is_a_copys, "{seconds}");
    }
}

/// Nothing but a comparison finds out that the other copy is gone, and until then no key that was found is revoked.
#[tokio::test]
async fn a_copy_that_is_gone_is_noticed_also_without_an_interval() {
    let (world, key) = with_an_unknown_key(121).await;
    world.pass(60).await;
    let status = world.read("status").await.unwrap().unwrap().data;
    assert!(status["two_copies"].is_object(), "{status:?}");
    let never = json!({"reconcile_interval": 0});
    world.write("config", never).await.unwrap();
    world.openrouter.account().delete_key(&key.hash).unwrap();
    world.pass(HOUR + 60).await;
    let status = world.read("status").await.unwrap().unwrap().data;
    assert!(status["two_copies"].is_null(), "{status:?}");
    // From then on it is left at that.
    world.openrouter.requests().reset();
    world.pass(HOUR / 2).await;
    assert_eq!(world.openrouter.requests().to("GET", "/keys"), []);
}

/// Whoever made it: from then on it is a role's key.
#[tokio::test]
async fn a_key_that_a_role_adopts_while_the_comparison_asks_about_it_shows_no_copy() {
    let (world, key) = with_an_unknown_key(121).await;
    let faults = world.openrouter.faults();
    let path = format!("/keys/{}", key.hash);
    faults.add(Fault::held().on("GET", &path));
    world.time.set(world.after(60));
    world.holding(1).await;
    let adopted = json!({"api_key": key.secret()});
    world.node().write("roles/other", adopted).await.unwrap();
    faults.clear();
    world.quiet().await;
    let status = world.read("status").await.unwrap().unwrap().data;
    assert!(status["two_copies"].is_null(), "{status:?}");
    assert_eq!(world.key_hash("other").await, key.hash);
}
