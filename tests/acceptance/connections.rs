//! `config` and `config/:name`: what a write proves, what a read shows, what is refused.

use std::time::Duration;

use openrouter_simulator::{Fault, NewKey};
use serde_json::json;

use crate::harness::Mount;

#[tokio::test]
async fn a_write_proves_the_management_key_and_lists_the_workspaces_with_a_request_each() {
    let mount = Mount::unconfigured().await;
    mount.connect().await.ok().without_warnings();
    let counts = mount.openrouter.requests().counts();
    let expected = ["GET /key", "GET /workspaces"].map(|request| (request.to_owned(), 1));
    assert_eq!(Vec::from_iter(counts), expected);
}

#[tokio::test]
async fn a_read_shows_everything_but_the_management_key() {
    let mount = Mount::new().await;
    let reply = mount.read("config").await.ok();
    assert_eq!(reply.text("api_url"), mount.openrouter.base_url());
    assert_eq!(reply.integer("request_timeout"), 30);
    assert!(reply.data().get("management_key").is_none(), "{reply}");
    assert!(
        !reply
            .json()
            .to_string()
            .contains(mount.openrouter.management_key()),
        "{reply}"
    );
}

#[tokio::test]
async fn bare_config_is_the_connection_named_default() {
    let mount = Mount::new().await;
    assert_eq!(mount.list("config").await.ok().keys(), ["default"]);
    let (bare, named) = (
        mount.read("config").await.ok(),
        mount.read("config/default").await.ok(),
    );
    assert_eq!(bare.data(), named.data());
    mount
        .write("config/default", json!({"description": "by name"}))
        .await
        .ok();
    assert_eq!(
        mount.read("config").await.ok().text("description"),
        "by name"
    );
}

#[tokio::test]
async fn there_can_be_several_connections() {
    let mount = Mount::new().await;
    mount.write("config/second", mount.connection()).await.ok();
    assert_eq!(
        mount.list("config").await.ok().keys(),
        ["default", "second"]
    );
    mount.delete("config/second").await.ok();
    assert_eq!(mount.list("config").await.ok().keys(), ["default"]);
    mount.read("config/second").await.absent();
}

#[tokio::test]
async fn an_update_changes_only_what_it_names() {
    let mount = Mount::new().await;
    mount
        .write(
            "config",
            json!({"description": "billing", "request_timeout": "45s"}),
        )
        .await
        .ok();
    mount
        .write("config", json!({"request_timeout": 20}))
        .await
        .ok();
    let reply = mount.read("config").await.ok();
    assert_eq!(reply.text("description"), "billing");
    assert_eq!(reply.integer("request_timeout"), 20);
    assert_eq!(reply.text("api_url"), mount.openrouter.base_url());
}

#[tokio::test]
async fn a_patch_changes_only_what_it_names() {
    let mount = Mount::new().await;
    mount
        .patch("config", json!({"description": "billing"}))
        .await
        .ok();
    let reply = mount.read("config").await.ok();
    assert_eq!(reply.text("description"), "billing");
    assert_eq!(reply.text("api_url"), mount.openrouter.base_url());
}

#[tokio::test]
async fn a_patch_of_a_connection_that_does_not_exist_is_refused() {
    let mount = Mount::unconfigured().await;
    mount
        .patch("config", json!({"description": "x"}))
        .await
        .refused(400, &["config"]);
    mount.read("config").await.absent();
}

#[tokio::test]
async fn what_cannot_be_a_connection_is_refused_with_the_field_that_is_wrong() {
    let mount = Mount::unconfigured().await;
    let table = [
        (json!({"management_key": ""}), "management_key"),
        (
            json!({"api_url": "http://openrouter.example/api/v1"}),
            "api_url",
        ),
        (json!({"api_url": "ftp://127.0.0.1/"}), "api_url"),
        (json!({"request_timeout": 0}), "request_timeout"),
        (json!({"request_timeout": "soon"}), "request_timeout"),
        (json!({"ca_certificate": "not PEM"}), "ca_certificate"),
        (json!({"proxy_url": "no url"}), "proxy_url"),
        (json!({"verify_connection": "perhaps"}), "verify_connection"),
    ];
    for (wrong, field) in table {
        let mut fields = mount.connection();
        fields
            .as_object_mut()
            .unwrap()
            .extend(wrong.as_object().unwrap().clone());
        mount.write("config", fields).await.refused(400, &[field]);
    }
    let without_key = json!({"api_url": mount.openrouter.base_url()});
    mount
        .write("config", without_key)
        .await
        .refused(400, &["management_key"]);
    mount.read("config").await.absent();
    assert_eq!(mount.openrouter.requests().all(), []);
}

#[tokio::test]
async fn an_ordinary_key_is_refused() {
    let mount = Mount::unconfigured().await;
    let ordinary = mount
        .openrouter
        .account()
        .create_key(NewKey::named("ordinary"));
    let fields = json!({
        "api_url": mount.openrouter.base_url(),
        "management_key": ordinary.secret(),
    });
    mount
        .write("config", fields)
        .await
        .refused(400, &["management_key", "management key"]);
    mount.read("config").await.absent();
}

#[tokio::test]
async fn a_key_that_openrouter_does_not_know_is_refused_with_its_words() {
    let mount = Mount::unconfigured().await;
    let unknown = format!("sk-or-v1-{}", "0".repeat(64));
    let fields = json!({"api_url": mount.openrouter.base_url(), "management_key": unknown});
    let reply = mount
        .write("config", fields)
        .await
        .refused(400, &["401", "User not found."]);
    assert!(!reply.errors().contains(&unknown), "{reply}");
    mount.read("config").await.absent();
}

#[tokio::test]
async fn while_openrouter_is_down_nothing_is_stored_unless_verification_is_off() {
    let mount = Mount::unconfigured().await;
    mount.openrouter.fail();
    mount.connect().await.refused(502, &["503"]);
    mount.read("config").await.absent();
    let mut fields = mount.connection();
    fields["verify_connection"] = false.into();
    mount.openrouter.requests().reset();
    mount.write("config", fields).await.ok();
    mount.read("config").await.ok();
    assert_eq!(mount.openrouter.requests().all(), []);
}

#[tokio::test]
async fn a_management_key_that_expires_within_14_days_earns_a_warning() {
    let mount = Mount::unconfigured().await;
    let expiry_in = |days: u64| {
        let expiry = mount.openrouter.clock().now() + Duration::from_hours(24 * days);
        let key = mount.openrouter.management_key();
        mount
            .openrouter
            .account()
            .set_management_key_expiry(key, Some(expiry))
            .unwrap();
        expiry
    };
    expiry_in(15);
    mount.connect().await.ok().without_warnings();
    let expiry = expiry_in(13);
    mount
        .connect()
        .await
        .ok()
        .warns(&["management key expires", &expiry.to_string()[..16]]);
    let shown = mount
        .read("config")
        .await
        .ok()
        .text("management_key_expires_at");
    assert_eq!(shown[..16], expiry.to_string()[..16]);
}

#[tokio::test]
async fn another_management_key_of_the_same_account_is_accepted() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let new = mount.openrouter.account().add_management_key();
    mount
        .write("config", json!({"management_key": new}))
        .await
        .ok();
    let old = mount.openrouter.management_key();
    mount
        .openrouter
        .account()
        .revoke_management_key(old)
        .unwrap();
    mount.write("rotate-role/app", json!({})).await.ok();
}

#[tokio::test]
async fn a_management_key_that_does_not_see_the_managed_keys_is_refused_unless_forced() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let foreign = mount.openrouter.add_account().add_management_key();
    let fields = json!({"management_key": foreign});
    mount
        .write("config", fields.clone())
        .await
        .refused(400, &["management_key", "force"]);
    // The old key is still stored.
    mount.write("rotate-role/app", json!({})).await.ok();
    mount
        .write("config", json!({"management_key": foreign, "force": true}))
        .await
        .ok();
    assert_eq!(mount.openrouter.account().keys().len(), 2);
}

#[tokio::test]
async fn a_connection_in_use_is_not_deleted() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.delete("config").await.refused(400, &["app"]);
    mount.read("config").await.ok();
    mount.delete("roles/app").await.ok();
    mount.delete("config").await.ok();
    mount.read("config").await.absent();
}

#[tokio::test]
async fn a_connection_is_not_deleted_while_a_key_is_being_made_through_it() {
    let mount = Mount::new().await;
    let dynamic = json!({"credential_type": "dynamic"});
    mount.role("ci", dynamic).await;
    for makes_a_role in [true, false] {
        let faults = mount.openrouter.faults();
        faults.add(Fault::held().on("POST", "/keys"));
        let making = async {
            match makes_a_role {
                true => mount.write("roles/app", json!({})).await,
                false => mount.read("creds/ci").await,
            }
        };
        let deleting = async {
            mount.openrouter.holding(1).await;
            let deleted = mount.delete("config").await;
            faults.clear();
            deleted
        };
        let (made, deleted) = tokio::join!(making, deleting);
        deleted.refused(409, &["in use"]);
        made.ok();
    }
    let key = mount.key("app").await;
    assert!(mount.openrouter.accepts(&key).await);
    assert_eq!(mount.openrouter.hashes().len(), 2);
}
