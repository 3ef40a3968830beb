//! Creations with an unknown outcome, and creations that were rejected.

use std::time::Duration;

use openrouter_simulator::{Fault, ListDelay, NewKey};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Error;

use crate::harness::{Answer, ROLE, ROTATE, World, hashes};

/// Each fault during the creation of the second key.
fn unclear() -> Vec<Fault> {
    let mut faults = vec![
        Fault::LostReply,
        Fault::ResetBeforeEffect,
        Fault::TruncatedBody,
        Fault::NonsenseJson,
        Fault::Redirect {
            location: "https://elsewhere.example/".to_owned(),
        },
    ];
    for status in [408, 500, 502, 503, 504, 524, 529] {
        faults.push(Fault::status(status));
        faults.push(Fault::status(status).after_the_effect());
    }
    for status in [200, 201, 403, 404, 502] {
        let after_effect = true;
        faults.push(Fault::Html {
            status,
            after_effect,
        });
    }
    faults
}

#[tokio::test]
async fn an_unclear_creation_leaves_the_current_key_and_in_the_end_no_other() {
    for fault in unclear() {
        let world = World::with_role().await;
        world
            .openrouter
            .faults()
            .add(fault.clone().on("POST", "/keys"));
        let answer = world.write(ROTATE, Value::Null).await;
        assert_eq!(status(&answer), Some(502), "{fault:?}: {answer:?}");
        assert_eq!(world.version().await, 1, "{fault:?}");
        recovers(&world, &format!("{fault:?}")).await;
    }
}

#[tokio::test]
async fn an_unclear_first_creation_leaves_neither_role_nor_key() {
    for fault in [Fault::LostReply, Fault::NonsenseJson, Fault::status(503)] {
        let world = World::connected().await;
        world
            .openrouter
            .faults()
            .add(fault.clone().on("POST", "/keys"));
        let answer = world.write(ROLE, json!({})).await;
        assert_eq!(status(&answer), Some(502), "{fault:?}: {answer:?}");
        assert!(world.role("app").await.is_none());
        world.pass(700).await;
        assert!(world.openrouter.account().keys().is_empty(), "{fault:?}");
        assert!(world.intents().is_empty(), "{fault:?}");
        world.write(ROLE, json!({})).await.unwrap();
        assert_eq!(world.violations().await, [""; 0], "{fault:?}");
    }
}

#[tokio::test]
async fn a_creation_that_outlasts_its_request_is_undone_when_it_takes_effect() {
    let world = World::with_role().await;
    let allow = |seconds| json!({"request_timeout": seconds});
    let slow = |after_effect| Fault::Slow {
        milliseconds: 1_300,
        after_effect,
    };
    for fault in [slow(false), slow(true)] {
        world.write("config", allow(1)).await.unwrap();
        world
            .openrouter
            .faults()
            .add(fault.clone().on("POST", "/keys"));
        // Not the world's own way to write: the clock stands still until the answer has arrived.
        let answer = world.node().write(ROTATE, Value::Null).await;
        assert_eq!(status(&answer), Some(502), "{answer:?}");
        world.write("config", allow(30)).await.unwrap();
        recovers(&world, &format!("{fault:?}")).await;
    }
}

#[tokio::test]
async fn an_unconfirmed_key_is_found_among_hundreds_in_its_workspace_and_disabled() {
    let world = World::with_role().await;
    let account = world.openrouter.account();
    let workspace = account.add_workspace();
    world
        .write(ROLE, json!({"workspace_id": workspace}))
        .await
        .unwrap();
    world.die_during_a_rotation("after POST /keys").await;
    let lost = account.keys().pop().unwrap();
    account.set_disabled(&lost.hash, true).unwrap();
    for number in 0..250 {
        let mut other = NewKey::named(format!("somebody else's {number}"));
        other.workspace_id = Some(workspace.clone());
        account.create_key(other);
    }
    world.restart().await;
    world.pass(599).await;
    assert!(account.key(&lost.hash).unwrap().deleted_at.is_none());
    world.pass(1).await;
    assert!(account.key(&lost.hash).unwrap().deleted_at.is_some());
    assert_eq!(account.keys().len(), 251, "nobody else's key is touched");
    assert!(world.intents().is_empty());
}

#[tokio::test]
async fn a_key_that_lists_show_only_later_is_still_caught_before_its_intent_is_dropped() {
    for seconds in [3, 20, 100, 590] {
        let world = World::with_role().await;
        let delay = ListDelay::For(Duration::from_secs(seconds));
        world
            .openrouter
            .account()
            .hide_new_keys_from_lists(Some(delay));
        world
            .openrouter
            .faults()
            .add(Fault::LostReply.on("POST", "/keys"));
        world.write(ROTATE, Value::Null).await.unwrap_err();
        assert_eq!(world.intents().len(), 1, "the first search finds nothing");
        recovers(&world, &format!("after {seconds} s")).await;
    }
}

#[tokio::test]
async fn a_recovery_goes_on_until_openrouter_can_be_asked() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::LostReply.on("POST", "/keys"));
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on("GET", "/keys").times(5));
    world
        .openrouter
        .faults()
        .add(Fault::status(500).on("DELETE", "/keys/*").times(2));
    world.write(ROTATE, Value::Null).await.unwrap_err();
    recovers(&world, "after 7 failures").await;
}

#[tokio::test]
async fn a_refusal_leaves_no_intent_and_a_manual_rotation_is_not_tried_again() {
    for status in [400, 401, 402, 403, 404, 409, 422, 429] {
        let world = World::with_role().await;
        world
            .openrouter
            .faults()
            .add(Fault::status(status).on("POST", "/keys"));
        let refusal = world.write(ROTATE, Value::Null).await.unwrap_err();
        assert!(
            refusal.to_string().contains(&status.to_string()),
            "{refusal}"
        );
        assert!(world.intents().is_empty(), "{status}");
        assert_eq!(world.openrouter.requests().to("GET", "/keys").len(), 0);
        world.pass(1_800).await;
        assert_eq!(world.orders(), 2, "{status}");
        assert_eq!(world.version().await, 1);
        let role = world.role("app").await.unwrap();
        assert_eq!(role["rotation_status"], "failed", "{status}");
        world.write(ROTATE, Value::Null).await.unwrap();
        assert_eq!(world.complaints().await, [""; 0], "{status}");
    }
}

#[tokio::test]
async fn a_refused_first_key_leaves_nothing_at_all() {
    let world = World::connected().await;
    let before = world.storage.keys();
    world
        .openrouter
        .faults()
        .add(Fault::status(402).on("POST", "/keys"));
    world.write(ROLE, json!({})).await.unwrap_err();
    assert_eq!(world.storage.keys(), before);
}

#[tokio::test]
async fn an_order_that_arrived_twice_leaves_a_key_that_dies_after_its_grace_period() {
    let world = World::with_role().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let current = world.key("app").await.unwrap();
    let account = world.openrouter.account();
    let name = current["key_name"].as_str().unwrap();
    let twin = account.create_key(NewKey::named(name.to_owned())).hash;
    // The next comparison finds it, by the same mark as that of the current key.
    world.restart().await;
    world.quiet().await;
    let role = world.role("app").await.unwrap();
    assert!(hashes(&role).contains(&twin), "{role:?}");
    world.pass(599).await;
    assert_eq!(account.key(&twin).unwrap().deleted_at, None);
    world.pass(1).await;
    assert!(account.key(&twin).unwrap().deleted_at.is_some());
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn both_keys_of_an_order_that_arrived_twice_unheard_are_found() {
    let world = World::with_role().await;
    let (account, faults) = (world.openrouter.account(), world.openrouter.faults());
    faults.add(Fault::LostReply.on("POST", "/keys"));
    faults.add(Fault::status(503).on("GET", "/keys"));
    world.write(ROTATE, Value::Null).await.unwrap_err();
    let lost = account.keys();
    let lost = lost.iter().max_by_key(|key| key.created_at).unwrap();
    let twin = account.create_key(NewKey::named(lost.name.clone())).hash;
    recovers(&world, "twice").await;
    for hash in [&lost.hash, &twin] {
        assert!(account.key(hash).unwrap().deleted_at.is_some());
    }
}

/// The order was given up when it had not been listed for ten minutes. The key was never in service.
#[tokio::test]
async fn a_key_of_an_order_that_was_given_up_is_superseded_and_replaces_nothing() {
    let world = World::with_role().await;
    let monthly = json!({"rotation_period": "30d"});
    world.write(ROLE, monthly).await.unwrap();
    let (account, faults) = (world.openrouter.account(), world.openrouter.faults());
    let delay = ListDelay::For(Duration::from_secs(700));
    account.hide_new_keys_from_lists(Some(delay));
    faults.add(Fault::LostReply.on("POST", "/keys"));
    world.write(ROTATE, Value::Null).await.unwrap_err();
    world.pass(600).await;
    assert!(world.intents().is_empty(), "it is given up");
    assert_eq!(account.keys().len(), 2);
    world.pass(3_600).await;
    assert_eq!(account.keys().len(), 1, "after its grace period");
    let role = world.role("app").await.unwrap();
    assert!(
        role["drift"].to_string().contains("unknown_key"),
        "{role:?}"
    );
    assert_eq!(world.version().await, 1);
    assert_eq!(world.orders(), 2);
    assert_eq!(world.violations().await, [""; 0]);
}

/// In the end there is no unknown key, and the next rotation works.
async fn recovers(world: &World, what: &str) {
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0], "{what}");
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.violations().await, [""; 0], "{what}");
    assert_eq!(world.complaints().await, [""; 0], "{what}");
}

/// The HTTP status of a refusal, if it has its own.
fn status(answer: &Answer) -> Option<u16> {
    match answer {
        Err(Error::Status { code, .. }) => Some(*code),
        _ => None,
    }
}
