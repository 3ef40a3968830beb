//! Reconciliation: every change of the keys outside the engine is found within an interval, reported, and
//! repaired if that is the engine's responsibility.

#[cfg(test)]
mod again;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod leased;
#[cfg(test)]
mod moved;
#[cfg(test)]
mod pace;

use openrouter_simulator::{Fault, KeyChanges};
use serde_json::{Value, json};

use crate::custody::metric;
use crate::harness::{CI, ROLE, ROTATE, World};

/// In seconds: the default interval.
const HOUR: i64 = 3_600;

/// A role that is rotated once a month, with a grace period of a day.
async fn monthly(more: Value) -> World {
    let world = World::connected().await;
    let mut body = json!({"limit": 5, "ttl": 300});
    let (Value::Object(all), Value::Object(more)) = (&mut body, more) else {
        panic!("objects")
    };
    all.extend(more);
    world.write(ROLE, body).await.unwrap();
    world.key("app").await.unwrap();
    world.quiet().await;
    world
}

/// Rotates, and returns the hash of the previous key.
async fn superseded(world: &World) -> String {
    let hash = world.current().await;
    world.write(ROTATE, json!({})).await.unwrap();
    hash
}

/// The findings in the role's status, oldest first.
async fn drift(world: &World, role: &str) -> Vec<(String, String)> {
    let role = world.role(role).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = role["drift"].as_array().unwrap().iter();
    found
        .map(|noted| (text(&noted["drift"]), text(&noted["key_hash"])))
        .collect()
}

fn found(drift: &str, hash: &str) -> Vec<(String, String)> {
    vec![(drift.to_owned(), hash.to_owned())]
}

fn change(world: &World, hash: &str, changes: KeyChanges) {
    world
        .openrouter
        .account()
        .change_key(hash, &changes)
        .unwrap();
}

#[tokio::test]
async fn findings_and_stray_keys_are_counted() {
    let world = monthly(json!({})).await;
    let app = world.current().await;
    let changes = KeyChanges {
        limit: Some(Some(500.0)),
        ..KeyChanges::default()
    };
    world
        .openrouter
        .account()
        .change_key(&app, &changes)
        .unwrap();
    // Of another life of the role, created before the work begins.
    let name = world.seen(&app).name;
    let (words, nonce) = name.rsplit_once("vault-").unwrap();
    let mount = &nonce[..8];
    let stray = format!("{words}vault-{mount}{:024x}", 7);
    let stray = openrouter_simulator::NewKey::named(stray);
    let stray = world.openrouter.account().create_key(stray).hash;
    world.pass(1).await;
    world.restart().await;
    world.quiet().await;
    let status = world.read("status").await.unwrap().unwrap().data;
    let connection = &status["connections"]["default"];
    assert_eq!(connection["stray_keys"], 1);
    let now = world.time.now().to_string();
    assert_eq!(connection["last_reconciliation"], now.as_str());
    assert_eq!(status["last_reconciliation"], now.as_str());
    assert_eq!(status["two_copies"], json!(null));
    for (sample, value) in [
        (r#"drift_total{drift="limits_changed"}"#, 1.0),
        (r#"stray_keys{connection="default"}"#, 1.0),
        ("two_copies", 0.0),
    ] {
        let sample = format!("vault_openrouter_{sample}");
        assert_eq!(metric(&world, &sample).await, Some(value), "{sample}");
    }
    world.openrouter.account().delete_key(&stray).unwrap();
    world.pass(HOUR).await;
    let status = world.read("status").await.unwrap().unwrap().data;
    assert_eq!(status["connections"]["default"]["stray_keys"], 0);
}

#[tokio::test]
async fn a_current_key_that_somebody_disabled_is_not_handed_out_and_not_replaced_behind_their_back()
{
    let world = monthly(json!({})).await;
    let hash = world.current().await;
    let account = world.openrouter.account();
    account.set_disabled(&hash, true).unwrap();
    world.pass(HOUR).await;
    for path in ["creds/app", "static-creds/app"] {
        let refusal = world.read(path).await.unwrap_err().to_string();
        assert!(
            refusal.contains("disabled at OpenRouter by somebody"),
            "{refusal}"
        );
    }
    assert_eq!(
        drift(&world, "app").await,
        found("current_key_disabled", &hash)
    );
    let answer = world.read(ROLE).await.unwrap().unwrap();
    assert_eq!(answer.data["rotation_status"], "failed");
    assert!(
        answer.warnings[0].contains("disabled at OpenRouter"),
        "{:?}",
        answer.warnings
    );
    // Its rotation would have been due long ago.
    world.pass(40 * 24 * HOUR).await;
    assert_eq!(world.orders(), 1);
    assert!(world.seen(&hash).disabled);

    account.set_disabled(&hash, false).unwrap();
    world.pass(HOUR).await;
    assert_eq!(world.orders(), 2, "the rotation that waited is done");
    assert_eq!(world.version().await, 2);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_disabled_key_that_is_enabled_is_handed_out_again_and_rotate_role_replaces_one_that_is_not()
 {
    let world = monthly(json!({"rotation_grace_period": 600})).await;
    let hash = world.current().await;
    let account = world.openrouter.account();
    account.set_disabled(&hash, true).unwrap();
    world.pass(HOUR).await;
    world.key("app").await.unwrap_err();
    account.set_disabled(&hash, false).unwrap();
    world.pass(HOUR).await;
    assert_eq!(world.key("app").await.unwrap()["key_hash"], hash.as_str());
    assert_eq!(world.complaints().await, [""; 0]);

    account.set_disabled(&hash, true).unwrap();
    world.pass(HOUR).await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(world.version().await, 2);
    let role = world.role("app").await.unwrap();
    assert!(role["superseded_keys"][0]["disabled_outside_since"].is_string());
    world.pass(599).await;
    assert!(world.seen(&hash).disabled && world.seen(&hash).deleted_at.is_none());
    world.pass(1).await;
    assert!(world.seen(&hash).deleted_at.is_some());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_current_key_that_was_deleted_is_replaced_within_an_interval() {
    let world = monthly(json!({})).await;
    let hash = world.current().await;
    world.openrouter.account().delete_key(&hash).unwrap();
    world.pass(HOUR).await;
    assert_eq!(world.version().await, 2);
    assert_eq!(
        drift(&world, "app").await[0],
        found("current_key_gone", &hash)[0]
    );
}

#[tokio::test]
async fn limits_that_somebody_changed_are_applied_again() {
    let world = monthly(json!({})).await;
    let hash = world.current().await;
    let changed = KeyChanges {
        limit: Some(Some(500.0)),
        include_byok_in_limit: Some(true),
        ..KeyChanges::default()
    };
    change(&world, &hash, changed);
    // The first attempt fails, and is repeated before the next interval.
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on("PATCH", "/keys/*"));
    world.pass(HOUR + 60).await;
    assert_eq!(world.seen(&hash).limit, Some(5.0));
    assert!(!world.seen(&hash).include_byok_in_limit);
    assert_eq!(drift(&world, "app").await, found("limits_changed", &hash));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn what_somebody_does_to_superseded_and_held_keys_is_found() {
    let body = json!({"rotation_grace_period": "10d", "revocation_hold": "10d"});
    let world = monthly(body).await;
    let held = superseded(&world).await;
    world.pass(10 * 24 * HOUR).await;
    assert!(world.seen(&held).disabled);
    let disabled = superseded(&world).await;
    let gone = superseded(&world).await;
    let account = world.openrouter.account();
    account.set_disabled(&held, false).unwrap();
    account.set_disabled(&disabled, true).unwrap();
    account.delete_key(&gone).unwrap();
    world.pass(HOUR).await;
    assert!(world.seen(&held).disabled, "a held key is disabled again");
    assert!(
        world.seen(&disabled).disabled,
        "a superseded one is left as it is"
    );
    let mut all = drift(&world, "app").await;
    all.sort();
    let mut expected = found("held_key_enabled", &held);
    expected.extend(found("superseded_key_disabled", &disabled));
    expected.extend(found("superseded_key_gone", &gone));
    assert_eq!(all, expected);
    let role = world.role("app").await.unwrap();
    assert_eq!(role["superseded_keys"].as_array().unwrap().len(), 1);
    // Reported once.
    world.pass(3 * HOUR).await;
    assert_eq!(drift(&world, "app").await.len(), 3);
    let refusal = world
        .write("restore-key/app", json!({"key_version": 2}))
        .await
        .unwrap_err();
    assert!(
        refusal.to_string().contains("outside the engine"),
        "{refusal}"
    );
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn keys_that_were_moved_or_renamed_stay_managed() {
    let world = monthly(json!({"rotation_grace_period": 600})).await;
    let hash = world.current().await;
    let elsewhere = world.openrouter.account().add_workspace();
    // Another key shows which workspace is the default one.
    world.write("roles/other", json!({})).await.unwrap();
    let changed = KeyChanges {
        name: Some("by hand".to_owned()),
        workspace_id: Some(elsewhere),
        ..KeyChanges::default()
    };
    change(&world, &hash, changed);
    world.pass(HOUR).await;
    let mut all = drift(&world, "app").await;
    all.sort();
    assert_eq!(
        all,
        [found("key_moved", &hash), found("key_renamed", &hash)].concat()
    );
    world.pass(5 * HOUR).await;
    assert_eq!(drift(&world, "app").await.len(), 2, "each is said once");
    world.openrouter.requests().reset();
    world.time.set(world.after(HOUR));
    world.quiet().await;
    let lookups = world.openrouter.requests().to("GET", "/keys/*").len();
    assert_eq!(lookups, 0, "and is not looked up again");
    assert_eq!(world.current().await, hash);
    // It is still revoked on time.
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(600).await;
    assert!(world.seen(&hash).deleted_at.is_some());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_key_is_not_gone_while_nothing_shows_that_the_management_key_sees_the_account() {
    let world = monthly(json!({"rotation_grace_period": "10d"})).await;
    superseded(&world).await;
    let other = world.openrouter.add_account();
    let body = json!({"management_key": other.add_management_key(), "force": true});
    world.write("config", body).await.unwrap();
    world.pass(2 * HOUR).await;
    let role = world.role("app").await.unwrap();
    assert_eq!(role["superseded_keys"].as_array().unwrap().len(), 1);
    assert_eq!(world.version().await, 2);
    assert_eq!(drift(&world, "app").await, []);
}

#[tokio::test]
async fn a_key_that_was_found_and_is_still_used_waits_for_a_person() {
    let world = World::with_role().await;
    let snapshot = world.snapshot();
    world.write(ROTATE, json!({})).await.unwrap();
    let forgotten = world.current().await;
    world.restore(snapshot).await;
    world.restart().await;
    world.quiet().await;
    assert_eq!(drift(&world, "app").await, found("unknown_key", &forgotten));
    let used_at = world.after(400);
    world
        .openrouter
        .account()
        .set_last_used(&forgotten, Some(used_at))
        .unwrap();
    world.pass(3_000).await;
    assert_eq!(world.seen(&forgotten).deleted_at, None);
    let warnings = world.read(ROLE).await.unwrap().unwrap().warnings;
    assert!(warnings[0].contains(&forgotten), "{warnings:?}");
    let status = world.read("status").await.unwrap().unwrap().data;
    let overdue = &status["overdue"]["revocations"]["count"];
    assert_eq!(*overdue, 0, "the engine has nothing to do until then");
    world
        .write(ROTATE, json!({"rotation_grace_period": 0}))
        .await
        .unwrap();
    assert!(world.seen(&forgotten).deleted_at.is_some());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn an_interval_costs_one_listing_and_no_storage_call_and_none_at_all_costs_nothing() {
    let world = monthly(json!({})).await;
    world.openrouter.requests().reset();
    let before = world.node().storage.calls();
    for _ in 0..60 {
        world.time.set(world.after(60));
        world.node().tick().await.unwrap();
        world.quiet().await;
    }
    assert_eq!(world.node().storage.calls(), before);
    let requests = world.openrouter.requests().counts();
    assert_eq!(requests, [("GET /keys".to_owned(), 1)].into());

    world
        .write("config", json!({"reconcile_interval": 0}))
        .await
        .unwrap();
    world.openrouter.requests().reset();
    let before = world.node().storage.calls();
    for _ in 0..300 {
        world.time.set(world.after(60));
        world.node().tick().await.unwrap();
        world.quiet().await;
    }
    assert_eq!(world.node().storage.calls(), before);
    assert!(world.openrouter.requests().all().is_empty());
    // The next start compares in any case.
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.openrouter.requests().to("GET", "/keys").len(), 1);
    assert_eq!(world.complaints().await, [""; 0]);
}

#[tokio::test]
async fn what_is_left_behind_where_no_role_has_keys_any_more_is_counted_once_an_interval() {
    let world = monthly(json!({})).await;
    let hash = world.current().await;
    world
        .write("forget-role/app", json!({"revoke_keys": false}))
        .await
        .unwrap();
    world.openrouter.requests().reset();
    world.pass(HOUR).await;
    let counts = || world.openrouter.requests().counts();
    assert_eq!(counts(), [("GET /keys".to_owned(), 1)].into());
    let strays = async || {
        let status = world.read("status").await.unwrap().unwrap().data;
        status["connections"]["default"]["stray_keys"].clone()
    };
    assert_eq!(strays().await, 1);
    world.openrouter.account().delete_key(&hash).unwrap();
    world.pass(HOUR).await;
    assert_eq!(strays().await, 0);

    // Without an interval there is no request, not even at the start of the work.
    world
        .write("config", json!({"reconcile_interval": 0}))
        .await
        .unwrap();
    world.openrouter.requests().reset();
    world.pass(5 * HOUR).await;
    world.restart().await;
    world.quiet().await;
    assert_eq!(counts(), [].into());
}

#[tokio::test]
async fn the_interval_is_at_least_a_minute_or_none() {
    let world = World::connected().await;
    for seconds in [1, 59] {
        let body = json!({"reconcile_interval": seconds});
        let refusal = world.write("config", body).await.unwrap_err().to_string();
        assert!(
            refusal.contains("reconcile_interval must be at least 1 minute"),
            "{refusal}"
        );
    }
    world
        .write("config", json!({"reconcile_interval": "1m"}))
        .await
        .unwrap();
    let read = world.read("config").await.unwrap().unwrap();
    assert_eq!(read.data["reconcile_interval"], 60);
}

/// A workspace that is no longer needed was deleted at OpenRouter.
#[tokio::test]
async fn one_place_that_cannot_be_listed_keeps_no_other_from_being_compared() {
    let world = World::with_role().await;
    let account = world.openrouter.account();
    let workspace = account.add_workspace();
    let body = json!({"credential_type": "dynamic", "ttl": 300, "max_ttl": 3600,
        "workspace_id": workspace});
    world.write(CI, body).await.unwrap();
    world
        .write(ROLE, json!({"rotation_period": "30d"}))
        .await
        .unwrap();
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
