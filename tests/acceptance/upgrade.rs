//! Upgrades to other versions of the plugin, and downgrades.

use serde_json::{Value, json};

use crate::harness::{Mount, PLUGIN_NAME, RaftVault, VERSION};

/// Runs a version of the plugin, with the steps of `docs/install.md`.
async fn run_version(vault: &RaftVault, mount: &Mount, version: &str) {
    let entry = vault.node().replace_plugin(version);
    let client = mount.client();
    let catalog = format!("sys/plugins/catalog/secret/{PLUGIN_NAME}");
    client.write(&catalog, entry).await.ok();
    let tune = json!({"plugin_version": format!("v{version}")});
    let mounts = format!("sys/mounts/{}/tune", mount.path());
    client.write(&mounts, tune).await.ok();
    let reload = json!({"plugin": PLUGIN_NAME});
    client
        .write("sys/plugins/reload/backend", reload)
        .await
        .ok();
    let table = client.read("sys/mounts").await.ok();
    let running = &table.data()[mount.at("")]["running_plugin_version"];
    assert_eq!(*running, format!("v{version}"));
}

#[tokio::test]
async fn a_version_is_put_in_and_taken_back_with_every_key_and_lease_in_service() {
    let vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    let key = mount.key("app").await;
    let lease = mount.read("creds/ci").await.ok();
    let own = VERSION.trim_start_matches('v');
    for version in ["0.2.0", own] {
        run_version(&vault, &mount, version).await;
        assert_eq!(mount.key("app").await, key, "{version}");
        let renewed = json!({"lease_id": lease.lease_id()});
        mount.client().write("sys/leases/renew", renewed).await.ok();
    }
    let over = json!({"lease_id": lease.lease_id(), "sync": true});
    mount.client().write("sys/leases/revoke", over).await.ok();
    assert!(!mount.openrouter.accepts(&lease.text("api_key")).await);
    mount.delete("roles/ci").await.ok();
    mount.write("rotate-role/app", json!({})).await.ok();
    mount.knows_every_key().await;
    assert_eq!(vault.plugin_processes().len(), 1);
}

#[tokio::test]
async fn what_a_newer_version_stored_is_refused_by_name_and_left_as_it_is() {
    let vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("upgraded", json!({})).await;
    mount.role("other", json!({})).await;
    let client = mount.client();
    let table = client.read("sys/mounts").await.ok();
    let uuid = table.data()[mount.at("")]["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let raw = format!("sys/raw/logical/{uuid}/roles/upgraded");
    let stored = client.read(&raw).await.ok().text("value");
    let mut entry: Value = serde_json::from_str(&stored).unwrap();
    entry["version"] = json!(4);
    entry["entry"]["rotating"]["new_in_4"] = json!(true);
    let newer = entry.to_string();
    client.write(&raw, json!({"value": newer})).await.ok();
    run_version(&vault, &mount, VERSION.trim_start_matches('v')).await;

    for path in ["creds/upgraded", "static-creds/upgraded", "roles/upgraded"] {
        mount
            .read(path)
            .await
            .refused(500, &["roles/upgraded", "newer version"]);
    }
    let changed = mount.write("roles/upgraded", json!({"limit": 1})).await;
    changed.refused(500, &["newer version"]);
    let rotated = mount.write("rotate-role/upgraded", json!({})).await;
    rotated.refused(500, &["newer version"]);
    let deleted = mount.delete("roles/upgraded").await;
    deleted.refused(500, &["newer version"]);
    assert_eq!(client.read(&raw).await.ok().text("value"), newer);

    // Nothing else is affected: other connections can be deleted, and the management key can be replaced.
    mount.write("config/unused", mount.connection()).await.ok();
    mount.delete("config/unused").await.ok();
    let replacement = mount.openrouter.account().add_management_key();
    let body = json!({"management_key": replacement});
    mount.write("config", body).await.ok();
    mount.write("rotate-role/other", json!({})).await.ok();
    vault
        .node()
        .has_logged("an unreadable role is skipped")
        .await;
    let log = vault.log();
    assert!(
        !log.contains("belongs to no role"),
        "its key is its own: {log}"
    );
    assert!(mount.openrouter.accepts(&mount.key("other").await).await);
    assert_eq!(
        mount.openrouter.hashes().len(),
        3,
        "none of them was revoked"
    );
    // The remedy.
    let forgotten = mount.write("forget-role/upgraded", json!({})).await.ok();
    let left = forgotten.field("keys_left_behind").as_array().unwrap();
    assert_eq!(left.len(), 1, "{forgotten}");
    assert_eq!(mount.list("roles").await.ok().keys(), ["other"]);
}
