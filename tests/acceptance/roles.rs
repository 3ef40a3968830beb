//! `roles/:name`: what the creation of a role creates at OpenRouter, what a read shows, and what is rejected.

use openrouter_simulator::{Fault, LimitReset};
use serde_json::{Value, json};

use crate::harness::Mount;

#[tokio::test]
async fn creating_a_role_mints_its_first_key() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let keys = mount.openrouter.account().keys();
    assert_eq!(keys.len(), 1);
    assert_eq!(
        mount.read("roles/app").await.ok().field("current_key")["hash"],
        *keys[0].hash
    );
}

#[tokio::test]
async fn a_keys_name_says_role_day_and_generation() {
    let mount = Mount::new().await;
    mount
        .role("app", json!({"key_name": "Billing service"}))
        .await;
    let key = mount.openrouter.account().keys().remove(0);
    let rest = key.name.strip_prefix("Billing service ").unwrap();
    let (day, nonce) = rest.split_once(' ').unwrap();
    assert_eq!(*day, key.created_at.to_string()[..10]);
    assert!(
        nonce
            .strip_prefix("vault-")
            .is_some_and(|nonce| nonce.len() >= 8),
        "{}",
        key.name
    );
}

#[tokio::test]
async fn a_role_without_fields_has_the_documented_defaults() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let reply = mount.read("roles/app").await.ok();
    let expected = [
        ("credential_type", json!("rotating")),
        ("connection", json!("default")),
        ("key_name", json!("app")),
        ("limit", Value::Null),
        ("limit_reset", Value::Null),
        ("include_byok_in_limit", json!(false)),
        ("rotation_period", json!(30 * DAY)),
        ("rotation_grace_period", json!(DAY)),
        ("ttl", json!(DAY / 24)),
        ("disable_automated_rotation", json!(false)),
    ];
    for (field, value) in expected {
        assert_eq!(*reply.field(field), value, "{field}: {reply}");
    }
    let key = mount.openrouter.account().keys().remove(0);
    let lifetime = key
        .expires_at
        .unwrap()
        .duration_since(key.created_at)
        .as_secs();
    assert!(
        (lifetime - 61 * DAY).abs() < 60,
        "two periods and the grace period, not {lifetime} s"
    );
}

#[tokio::test]
async fn the_key_at_openrouter_is_what_the_role_describes() {
    let mount = Mount::new().await;
    let workspace = mount.openrouter.account().add_workspace();
    let fields = json!({
        "limit": 12.5,
        "limit_reset": "weekly",
        "include_byok_in_limit": true,
        "workspace_id": workspace,
        "key_max_lifetime": 0,
    });
    mount.role("app", fields).await;
    let key = mount.openrouter.account().keys().remove(0);
    assert_eq!(key.limit, Some(12.5));
    assert_eq!(key.limit_reset, Some(LimitReset::Weekly));
    assert!(key.include_byok_in_limit);
    assert_eq!(key.workspace_id, workspace);
    assert_eq!(key.expires_at, None);
}

#[tokio::test]
async fn durations_are_taken_as_vault_takes_them_and_shown_in_seconds() {
    let mount = Mount::new().await;
    let table = [
        (json!("2d"), 2 * DAY),
        (json!("90m"), 5400),
        (json!(3600), 3600),
        (json!("7200"), 7200),
    ];
    for (given, seconds) in table {
        mount.role("app", json!({"rotation_period": given})).await;
        assert_eq!(
            mount
                .read("roles/app")
                .await
                .ok()
                .integer("rotation_period"),
            seconds
        );
    }
}

#[tokio::test]
async fn the_status_after_creation_says_that_all_is_well() {
    let mount = Mount::new().await;
    mount.role("app", json!({"rotation_period": "1d"})).await;
    let reply = mount.read("roles/app").await.ok();
    assert_eq!(reply.text("rotation_status"), "success");
    assert_eq!(*reply.field("superseded_keys"), json!([]));
    assert_eq!(reply.field("current_key")["version"], 1);
    let instant = |field: &str| reply.text(field).parse::<jiff::Timestamp>().unwrap();
    let last = instant("last_vault_rotation");
    assert_eq!(
        instant("next_vault_rotation")
            .duration_since(last)
            .as_secs(),
        DAY
    );
    assert!(
        instant("last_rotation_attempt")
            .duration_since(last)
            .as_secs()
            <= 1
    );
}

#[tokio::test]
async fn a_cron_expression_or_a_time_of_day_decides_when_the_next_rotation_is() {
    let mount = Mount::new().await;
    let table = [
        (
            json!({"rotation_schedule": "30 4 * * *", "rotation_window": "2h"}),
            "T04:30:00Z",
        ),
        (
            json!({"rotation_period": "1d", "rotate_at": "12:34"}),
            "T12:34:00Z",
        ),
    ];
    for (fields, time) in table {
        mount.role("app", fields).await;
        let next = mount
            .read("roles/app")
            .await
            .ok()
            .text("next_vault_rotation");
        assert!(next.ends_with(time), "{next}");
    }
}

#[tokio::test]
async fn no_read_of_a_role_shows_a_secret() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let shown = mount.read("roles/app").await.ok().json().to_string();
    for key in mount.openrouter.account().all_keys() {
        assert!(!shown.contains(key.secret()), "{shown}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_role_is_refused_with_the_field_that_is_wrong() {
    let mount = Mount::new().await;
    let table = [
        (json!({"credential_type": "static"}), "credential_type"),
        (json!({"connection": "no name!"}), "connection"),
        (json!({"key_name": ""}), "key_name"),
        (json!({"key_name": "k".repeat(101)}), "key_name"),
        (json!({"limit": 0}), "limit"),
        (json!({"limit": -1}), "limit"),
        (json!({"limit": "much"}), "limit"),
        (json!({"limit": 1, "limit_reset": "yearly"}), "limit_reset"),
        (json!({"limit_reset": "daily"}), "limit_reset"),
        (
            json!({"include_byok_in_limit": "perhaps"}),
            "include_byok_in_limit",
        ),
        (json!({"workspace_id": "main"}), "workspace_id"),
        (json!({"rotation_period": "1s"}), "rotation_period"),
        (json!({"rotation_period": "often"}), "rotation_period"),
        (
            json!({"rotation_period": "1d", "rotation_schedule": "0 0 * * *"}),
            "rotation_schedule",
        ),
        (json!({"rotation_schedule": "at noon"}), "rotation_schedule"),
        (
            json!({"rotation_schedule": "0 0 * * *", "rotation_window": "10m"}),
            "rotation_window",
        ),
        (
            json!({"rotation_period": "1d", "rotation_window": "2h"}),
            "rotation_window",
        ),
        (json!({"rotate_at": "25:00"}), "rotate_at"),
        (
            json!({"rotation_period": "90m", "rotate_at": "12:00"}),
            "rotate_at",
        ),
        (
            json!({"rotation_grace_period": "10m", "ttl": "9m1s"}),
            "ttl",
        ),
        (json!({"rotation_grace_period": 0}), "ttl"),
        (json!({"ttl": 0}), "ttl"),
        (json!({"key_max_lifetime": "1h"}), "key_max_lifetime"),
        (json!({"limti": 5}), "limti"),
    ];
    for (fields, word) in table {
        mount.write("roles/app", fields).await.refused(400, &[word]);
    }
    mount.read("roles/app").await.absent();
    assert_eq!(mount.openrouter.hashes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_ttl_of_nine_tenths_of_the_grace_period_is_accepted() {
    let mount = Mount::new().await;
    mount
        .role("app", json!({"rotation_grace_period": "10m", "ttl": "9m"}))
        .await;
}

#[tokio::test]
async fn a_role_without_its_connection_is_refused_with_the_path_to_write() {
    let mount = Mount::unconfigured().await;
    mount
        .write("roles/app", json!({}))
        .await
        .refused(400, &["config"]);
    mount.connect().await.ok();
    let elsewhere = json!({"connection": "second"});
    mount
        .write("roles/app", elsewhere)
        .await
        .refused(400, &["config/second"]);
}

#[tokio::test]
async fn when_openrouter_refuses_the_key_nothing_is_stored_and_its_words_are_passed_on() {
    let mount = Mount::new().await;
    let message = Some("Key quota exceeded".to_owned());
    let refusal = Fault::Status {
        status: 403,
        message,
        retry_after: None,
        after_effect: false,
    };
    mount.openrouter.faults().add(refusal.on("POST", "/keys"));
    mount
        .write("roles/app", json!({}))
        .await
        .refused(400, &["403", "Key quota exceeded"]);
    mount.read("roles/app").await.absent();
    mount.role("app", json!({})).await;
}

#[tokio::test]
async fn while_openrouter_is_down_no_role_is_created() {
    let mount = Mount::new().await;
    mount.openrouter.fail();
    mount
        .write("roles/app", json!({}))
        .await
        .refused(502, &["503"]);
    mount.read("roles/app").await.absent();
    mount.openrouter.recover();
    mount.role("app", json!({})).await;
    mount.knows_every_key().await;
}

#[tokio::test]
async fn roles_are_listed_by_name() {
    let mount = Mount::new().await;
    mount.list("roles").await.absent();
    mount.role("b", json!({})).await;
    mount.role("a", json!({})).await;
    assert_eq!(mount.list("roles").await.ok().keys(), ["a", "b"]);
}

#[tokio::test]
async fn an_update_changes_only_what_it_names() {
    let mount = Mount::new().await;
    mount
        .role(
            "app",
            json!({"limit": 5, "limit_reset": "daily", "description": "ours"}),
        )
        .await;
    let before = mount.read("roles/app").await.ok();
    mount.role("app", json!({"ttl": "30m"})).await;
    let after = mount.read("roles/app").await.ok();
    let changed: Vec<_> = before.fields();
    let changed: Vec<_> = changed
        .into_iter()
        .filter(|name| before.field(name) != after.field(name))
        .collect();
    assert_eq!(changed, ["ttl"]);
    assert_eq!(after.integer("ttl"), 1800);
}

#[tokio::test]
async fn a_new_limit_reaches_the_live_key_at_once_and_the_secret_stays() {
    let mount = Mount::new().await;
    mount.role("app", json!({"limit": 5})).await;
    let secret = mount.key("app").await;
    let fields = json!({"limit": 7, "limit_reset": "monthly", "include_byok_in_limit": true});
    mount.patch("roles/app", fields).await.ok();
    let key = mount.openrouter.account().keys().remove(0);
    assert_eq!(
        (key.limit, key.limit_reset),
        (Some(7.0), Some(LimitReset::Monthly))
    );
    assert!(key.include_byok_in_limit);
    assert_eq!(mount.key("app").await, secret);
    mount
        .patch("roles/app", json!({"limit": null, "limit_reset": null}))
        .await
        .ok();
    let key = mount.openrouter.account().keys().remove(0);
    assert_eq!((key.limit, key.limit_reset), (None, None));
}

#[tokio::test]
async fn what_openrouter_fixes_at_creation_waits_for_the_next_rotation_with_a_warning() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let workspace = mount.openrouter.account().add_workspace();
    let reply = mount.role("app", json!({"workspace_id": workspace})).await;
    reply.warns(&["workspace cannot be changed", "next rotation"]);
    mount
        .role("app", json!({"key_max_lifetime": 0}))
        .await
        .warns(&["next rotation"]);
    assert_ne!(mount.openrouter.account().keys()[0].workspace_id, workspace);
    mount.write("rotate-role/app", json!({})).await.ok();
    let key = mount.openrouter.account().keys().remove(1);
    assert_eq!((key.workspace_id, key.expires_at), (workspace, None));
}

#[tokio::test]
async fn a_limit_that_restarts_with_each_new_key_earns_a_warning() {
    let mount = Mount::new().await;
    mount
        .role("app", json!({"limit": 5}))
        .await
        .warns(&["limit", "rotation"]);
    mount.role("free", json!({})).await.without_warnings();
}

#[tokio::test]
async fn a_patch_of_a_role_that_does_not_exist_is_refused() {
    let mount = Mount::new().await;
    mount
        .patch("roles/app", json!({"ttl": "30m"}))
        .await
        .refused(400, &["app"]);
    mount.read("roles/app").await.absent();
}

#[tokio::test]
async fn the_credential_type_of_a_role_is_fixed() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let other = json!({"credential_type": "dynamic"});
    mount
        .write("roles/app", other)
        .await
        .refused(400, &["credential_type"]);
}

/// In seconds.
const DAY: i64 = 24 * 60 * 60;
