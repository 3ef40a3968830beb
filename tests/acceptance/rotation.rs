//! Rotation as seen through the API and at OpenRouter: by schedule, manually, in an emergency, and while
//! OpenRouter fails.

use std::time::Duration;

use jiff::Timestamp;
use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::{Mount, Reply, SOON, eventually};

#[tokio::test]
async fn a_key_is_replaced_when_its_period_is_over_and_keeps_working() {
    let mount = Mount::new().await;
    mount
        .role(
            "app",
            json!({"rotation_period": 5, "rotation_grace_period": 600, "ttl": 30}),
        )
        .await;
    let first = mount.read("static-creds/app").await.ok();
    let reply = rotated(&mount, "app", first.integer("key_version") + 1).await;
    assert_ne!(reply.text("api_key"), first.text("api_key"));
    assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
    assert!(mount.openrouter.accepts(&first.text("api_key")).await);
    // Delays are tested where time stands still: see `tests/engine/timing`.
    let made = mount.openrouter.account().all_keys();
    for pair in made.windows(2) {
        let between = pair[1].created_at.duration_since(pair[0].created_at);
        assert!(between.as_secs() >= 5, "rotated after {between}");
    }
}

#[tokio::test]
async fn a_manual_rotation_replaces_the_key_and_pushes_the_next_one() {
    let mount = Mount::new().await;
    mount.role("app", json!({"rotation_period": "1h"})).await;
    let (before, first) = (mount.read("roles/app").await.ok(), mount.key("app").await);
    mount.write("rotate-role/app", json!({})).await.ok();
    let after = mount.read("roles/app").await.ok();
    assert!(instant(&after, "next_vault_rotation") > instant(&before, "next_vault_rotation"));
    assert_eq!(*after.field("last_rotation_manual"), json!(true));
    let superseded = &after.field("superseded_keys")[0];
    assert_eq!(superseded["hash"], before.field("current_key")["hash"]);
    assert_eq!(after.field("current_key")["version"], 2);
    assert_ne!(mount.key("app").await, first);
    mount.knows_every_key().await;
}

#[tokio::test]
async fn the_answer_to_a_rotation_names_the_new_key_without_its_secret() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let reply = mount.write("rotate-role/app", json!({})).await.ok();
    let key = mount.openrouter.account().keys().remove(1);
    let shown = reply.json().to_string();
    assert!(shown.contains(&key.hash), "{shown}");
    assert!(!shown.contains(key.secret()), "{shown}");
}

#[tokio::test]
async fn a_superseded_key_dies_when_its_grace_period_is_over_and_not_before() {
    let mount = Mount::new().await;
    mount
        .role("app", json!({"rotation_grace_period": 4, "ttl": 3}))
        .await;
    let first = mount.key("app").await;
    let rotated = mount.write("rotate-role/app", json!({})).await.ok();
    let due: Timestamp = rotated.field("superseded_keys")[0]["revoke_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let grace = due.duration_since(mount.openrouter.account().all_keys()[1].created_at);
    assert!(grace.as_secs() >= 4, "{grace} of grace");
    let dead = async || (!mount.openrouter.accepts(&first).await).then_some(());
    eventually("the superseded key dies", SOON, dead).await;
    // OpenRouter's own record, since the test's own check may be late.
    let revoked = mount.openrouter.account().all_keys()[0].deleted_at.unwrap();
    assert!(revoked >= due, "revoked at {revoked}, before {due}");
    let forgotten = async || {
        let role = mount.read("roles/app").await.ok();
        (*role.field("superseded_keys") == json!([])).then_some(())
    };
    eventually("the role forgets it", SOON, forgotten).await;
    mount.knows_every_key().await;
}

#[tokio::test]
async fn an_emergency_rotation_revokes_the_old_key_before_it_answers() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let first = mount.key("app").await;
    mount
        .write("rotate-role/app", json!({"rotation_grace_period": 0}))
        .await
        .ok();
    assert!(!mount.openrouter.accepts(&first).await);
    assert!(mount.openrouter.accepts(&mount.key("app").await).await);
    mount.knows_every_key().await;
}

#[tokio::test]
async fn a_grace_period_given_to_a_rotation_holds_for_this_once() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount
        .write("rotate-role/app", json!({"rotation_grace_period": "2h"}))
        .await
        .ok();
    let role = mount.read("roles/app").await.ok();
    assert_eq!(role.integer("rotation_grace_period"), 24 * 60 * 60);
    let due: Timestamp = role.field("superseded_keys")[0]["revoke_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let grace = due
        .duration_since(instant(&role, "last_vault_rotation"))
        .as_secs();
    assert_eq!(grace, 2 * 60 * 60);
}

#[tokio::test]
async fn a_role_with_automated_rotation_disabled_rotates_only_by_hand() {
    let mount = Mount::new().await;
    let fields = json!({
        "rotation_period": 5,
        "rotation_grace_period": 60,
        "ttl": 30,
        "disable_automated_rotation": true,
    });
    mount.role("app", fields).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(
        mount
            .read("static-creds/app")
            .await
            .ok()
            .integer("key_version"),
        1
    );
    assert_eq!(mount.openrouter.requests().to("POST", "/keys").len(), 1);
    mount.write("rotate-role/app", json!({})).await.ok();
    assert_eq!(
        mount
            .read("static-creds/app")
            .await
            .ok()
            .integer("key_version"),
        2
    );
}

#[tokio::test]
async fn a_failed_rotation_is_shown_and_tried_again_while_the_current_key_serves() {
    let mount = Mount::new().await;
    mount
        .role("app", json!({"rotation_grace_period": 600, "ttl": 30}))
        .await;
    let first = mount.key("app").await;
    mount.openrouter.fail();
    // Only now, so that no rotation comes before the failure.
    mount.role("app", json!({"rotation_period": 5})).await;
    let failed = async || {
        let role = mount.read("roles/app").await.ok();
        (role.text("rotation_status") == "failed").then_some(role)
    };
    let role = eventually("the failure is shown", SOON, failed).await;
    assert!(role.text("last_rotation_message").contains("503"), "{role}");
    assert_eq!(mount.key("app").await, first);
    mount.openrouter.recover();
    rotated(&mount, "app", 2).await;
    let well = async || {
        let role = mount.read("roles/app").await.ok();
        (role.text("rotation_status") == "success").then_some(())
    };
    eventually("the status is well again", SOON, well).await;
    mount.knows_every_key().await;
}

#[tokio::test]
async fn a_manual_rotation_that_fails_says_why_and_changes_nothing() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let first = mount.key("app").await;
    let refusal = Fault::Status {
        status: 403,
        message: Some("Key quota exceeded".to_owned()),
        retry_after: None,
        after_effect: false,
    };
    mount.openrouter.faults().add(refusal.on("POST", "/keys"));
    let reply = mount.write("rotate-role/app", json!({})).await;
    reply.refused(400, &["403", "Key quota exceeded"]);
    assert_eq!(mount.key("app").await, first);
    mount.knows_every_key().await;
}

#[tokio::test]
async fn a_key_whose_reply_was_lost_is_found_and_deleted() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount
        .openrouter
        .faults()
        .add(Fault::LostReply.on("POST", "/keys"));
    // It is not defined whether this request recovers by itself or leaves that to the engine's timer.
    mount.write("rotate-role/app", json!({})).await;
    assert_eq!(
        mount.openrouter.requests().to("POST", "/keys")[1].fault,
        Some("lost_reply")
    );
    mount.knows_every_key().await;
}

#[tokio::test]
async fn a_new_key_that_does_not_work_never_becomes_current() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let first = mount.key("app").await;
    let stillborn = Fault::CreatedKeyDoesNotAuthenticate { uses: None };
    mount.openrouter.faults().add(stillborn.on("POST", "/keys"));
    let reply = mount.write("rotate-role/app", json!({})).await;
    assert_eq!(reply.status(), 502, "{reply}");
    assert_eq!(mount.key("app").await, first);
    mount.knows_every_key().await;
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let mount = Mount::new().await;
    mount
        .role("app", json!({"rotation_grace_period": 600, "ttl": 30}))
        .await;
    mount
        .openrouter
        .faults()
        .add(Fault::rate_limited(4).on("POST", "/keys"));
    // Only now, so that the first rotation meets it.
    mount.role("app", json!({"rotation_period": 5})).await;
    rotated(&mount, "app", 2).await;
    let attempts = mount.openrouter.requests().to("POST", "/keys");
    let [_, limited, next, ..] = attempts.as_slice() else {
        panic!("{attempts:?}")
    };
    let waited = next.at.duration_since(limited.at).as_millis();
    assert!(waited >= 4000, "tried again after {waited} ms");
}

#[tokio::test]
async fn at_most_eight_requests_reach_openrouter_at_a_time() {
    let mount = Mount::new().await;
    let faults = mount.openrouter.faults();
    faults.add(Fault::held().on("POST", "/keys").forever());
    let names: Vec<String> = (0..24).map(|number| format!("app-{number}")).collect();
    let roles = names.iter().map(|name| mount.role(name, json!({})));
    let release = async {
        mount.openrouter.holding(8).await;
        // Enough time for a ninth, if there were one.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(faults.held(), 8);
        mount.openrouter.recover();
    };
    tokio::join!(futures::future::join_all(roles), release);
    assert_eq!(mount.openrouter.requests().high_water_mark(), 8);
}

#[tokio::test]
async fn two_rotations_of_a_role_at_once_are_done_one_after_the_other() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.openrouter.set_latency(Duration::from_millis(100));
    let rotate = || mount.write("rotate-role/app", json!({}));
    let replies = [rotate(), rotate(), rotate()];
    let done = futures::future::join_all(replies).await.into_iter();
    let done = i64::try_from(done.filter(|reply| reply.status() == 200).count()).unwrap();
    assert!(done >= 1);
    assert_eq!(
        mount
            .read("static-creds/app")
            .await
            .ok()
            .integer("key_version"),
        1 + done
    );
    mount.knows_every_key().await;
}

#[tokio::test]
async fn a_grace_period_that_leases_would_outlive_is_refused() {
    let mount = Mount::new().await;
    mount.role("app", json!({"ttl": "1h"})).await;
    let short = json!({"rotation_grace_period": "1h"});
    mount
        .write("rotate-role/app", short)
        .await
        .refused(400, &["rotation_grace_period"]);
    assert_eq!(mount.openrouter.requests().to("POST", "/keys").len(), 1);
}

#[tokio::test]
async fn rotating_a_role_that_does_not_exist_is_refused() {
    let mount = Mount::new().await;
    mount
        .write("rotate-role/nobody", json!({}))
        .await
        .refused(400, &["nobody"]);
}

/// Waits until the role hands out its `version`th key.
async fn rotated(mount: &Mount, role: &str, version: i64) -> Reply {
    let path = format!("static-creds/{role}");
    let arrived = async || {
        let reply = mount.read(&path).await.ok();
        (reply.integer("key_version") >= version).then_some(reply)
    };
    eventually("the key is rotated", SOON * 2, arrived).await
}

fn instant(reply: &Reply, field: &str) -> Timestamp {
    reply.text(field).parse().unwrap()
}
