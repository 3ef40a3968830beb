//! Jobs that take longer than a request may: rotating every role, removing stray keys, tearing down.

use serde_json::{Value, json};

use crate::harness::{Mount, Reply, SOON, Vault, eventually};

/// A mount with a rotating role that was rotated, a second one, and a lease.
async fn furnished() -> Mount {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    mount
        .role("manual", json!({"disable_automated_rotation": true}))
        .await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    mount
}

#[tokio::test]
async fn an_emergency_for_every_role_ends_older_keys_and_those_under_leases() {
    let mount = furnished().await;
    let lease = mount.read("creds/ci").await.ok();
    let old = [
        mount.key("app").await,
        mount.key("manual").await,
        lease.text("api_key"),
    ];
    assert_eq!(mount.openrouter.hashes().len(), 4);
    mount.read("rotate-all/default").await.absent();
    let body = json!({"rotation_grace_period": 0});
    let run = mount.write("rotate-all/default", body).await.ok();
    assert_eq!(run.text("state"), "finished");
    assert_eq!((run.integer("roles"), run.integer("rotated")), (2, 2));
    assert_eq!(
        (run.field("skipped"), run.field("failed")),
        (&json!({}), &json!({}))
    );
    for key in &old {
        assert!(!mount.openrouter.accepts(key).await);
    }
    for role in ["app", "manual"] {
        assert!(mount.openrouter.accepts(&mount.key(role).await).await);
    }
    mount.knows_every_key().await;
    let shown = mount.read("rotate-all/default").await.ok();
    assert_eq!(shown.data(), run.data());
    // The server's lease ends without an error.
    let revoke = json!({"lease_id": lease.lease_id(), "sync": true});
    mount.client().write("sys/leases/revoke", revoke).await.ok();
}

#[tokio::test]
async fn a_rotation_of_every_role_skips_a_key_that_somebody_disabled_and_names_it() {
    let mount = furnished().await;
    let status = mount.read("roles/app").await.ok();
    let disabled = status.field("current_key")["hash"].as_str().unwrap();
    let account = mount.openrouter.account();
    account.set_disabled(disabled, true).unwrap();
    let run = mount.write("rotate-all/default", json!({})).await.ok();
    assert_eq!((run.integer("roles"), run.integer("rotated")), (2, 1));
    let why = run.field("skipped")["app"].as_str().unwrap();
    assert!(why.contains(disabled), "{why}");
    mount
        .write("rotate-all/nowhere", json!({}))
        .await
        .refused(400, &["config/nowhere"]);
}

#[tokio::test]
async fn unowned_keys_are_removed_and_another_mounts_key_is_not() {
    let mount = Mount::new().await;
    let other = Mount::unconfigured().await;
    other.write("config", mount.connection()).await.ok();
    other.role("app", json!({})).await;
    other
        .write("forget-role/app", json!({"revoke_keys": false}))
        .await
        .ok();
    mount.role("app", json!({})).await;
    let stray = mount.read("roles/app").await.ok();
    let stray = stray.field("current_key")["hash"].clone();
    mount
        .write("tidy/default", json!({"dry_run": false}))
        .await
        .refused(400, &["write with dry_run=true"]);
    mount
        .write("forget-role/app", json!({"revoke_keys": false}))
        .await
        .ok();
    mount.role("app", json!({})).await;
    let listed = mount.write("tidy/default", json!({})).await.ok();
    assert_eq!(listed.field("dry_run"), true);
    let keys = listed.field("keys").as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["key_hash"]), (1, &stray));
    assert_eq!(mount.openrouter.hashes().len(), 3, "it was only listed");
    let body = json!({"dry_run": false});
    let removed = mount.write("tidy/default", body).await.ok();
    assert_eq!(
        (removed.text("state"), removed.integer("removed")),
        ("finished".into(), 1)
    );
    let left = mount.openrouter.hashes();
    assert_eq!(left.len(), 2);
    assert!(!left.contains(&stray.as_str().unwrap().to_owned()));
    assert!(mount.openrouter.accepts(&mount.key("app").await).await);
    let shown = mount.read("tidy/default").await.ok();
    assert_eq!(shown.data(), removed.data());
}

#[tokio::test]
async fn a_mount_that_is_torn_down_and_disabled_leaves_no_key_behind() {
    let mount = furnished().await;
    mount.read("creds/ci").await.ok();
    mount
        .write("forget-role/manual", json!({"revoke_keys": false}))
        .await
        .ok();
    assert_eq!(mount.openrouter.hashes().len(), 4);
    let run = mount.write("teardown", json!({})).await.ok();
    assert_eq!(
        (run.text("state"), run.field("left_alive")),
        ("finished".into(), &json!({}))
    );
    assert_eq!((run.integer("roles"), run.integer("roles_done")), (2, 2));
    assert!(mount.openrouter.hashes().is_empty());
    for path in ["creds/app", "static-creds/app", "creds/ci"] {
        mount
            .read(path)
            .await
            .refused(400, &["this mount is torn down", "delete \"teardown\""]);
    }
    for path in ["roles/new", "rotate-role/app", "rotate-all/default"] {
        mount
            .write(path, json!({}))
            .await
            .refused(400, &["this mount is torn down"]);
    }
    assert_eq!(mount.list("roles").await.ok().keys(), ["app", "ci"]);
    mount.disable().await.ok();
    assert!(mount.openrouter.hashes().is_empty());
}

#[tokio::test]
async fn a_teardown_that_is_cancelled_gives_the_roles_keys_again() {
    let mount = furnished().await;
    let vault = Vault::shared().await;
    let path = mount.at("teardown");
    let said = vault.cli(&["write", "-force", &path]).await.ok();
    assert!(said.contains("finished"), "{said}");
    let said = vault.cli(&["delete", &path]).await.ok();
    assert!(
        said.contains("cancelled") || said.contains("Success"),
        "{said}"
    );
    let served = async || {
        let reply = mount.read("static-creds/app").await;
        (reply.status() == 200).then(|| reply.text("api_key"))
    };
    let key = eventually("the role has a new key", SOON, served).await;
    assert!(mount.openrouter.accepts(&key).await);
    mount.read("static-creds/manual").await.refused(
        400,
        &["was revoked by a teardown", "rotate-role makes a new one"],
    );
    mount.write("rotate-role/manual", json!({})).await.ok();
    assert!(mount.openrouter.accepts(&mount.key("manual").await).await);
    mount.read("creds/ci").await.ok();
    assert_eq!(mount.read("teardown").await.ok().text("state"), "cancelled");
    mount
        .delete("teardown")
        .await
        .refused(400, &["this mount is not torn down"]);
}

/// The plugin restarts in the middle: the run continues, and is in force at once.
#[tokio::test]
async fn a_teardown_goes_on_when_the_plugin_is_started_again() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    mount.openrouter.fail();
    let impatient = mount.client().clone();
    let path = mount.at("teardown");
    let ordered = tokio::spawn(async move { impatient.write(&path, json!({})).await });
    let begun = async || {
        let reply = mount.read("teardown").await;
        let names = |reply: &Reply| {
            let left = reply
                .field("left_alive")
                .as_object()
                .map(serde_json::Map::len);
            left.unwrap_or_default() > 0
        };
        (reply.status() == 200 && names(&reply)).then_some(())
    };
    eventually("the teardown has begun", SOON, begun).await;
    ordered.abort();
    let reload = json!({"mounts": [mount.at("")]});
    mount
        .client()
        .write("sys/plugins/reload/backend", reload)
        .await
        .ok();
    mount.openrouter.recover();
    let over = async || {
        let reply = mount.read("teardown").await;
        (reply.status() == 200 && reply.text("state") == "finished").then_some(reply)
    };
    let run = eventually("the teardown is over", 4 * SOON, over).await;
    assert_eq!(
        run.field("left_alive"),
        &Value::from(serde_json::Map::new())
    );
    assert!(mount.openrouter.hashes().is_empty());
    mount
        .read("creds/app")
        .await
        .refused(400, &["this mount is torn down"]);
}
