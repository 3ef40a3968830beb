//! The plugin in its server: registered, enabled, shared between mounts, reloaded, disabled, and ended.

use serde_json::json;

use crate::harness::{Mount, PLUGIN_NAME, SOON, VERSION, Vault, catalog_entry, eventually};

#[tokio::test]
async fn disabling_a_mount_removes_it_and_what_it_stored() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.delete("roles/app").await.ok();
    mount.disable().await.ok();
    mount.read("config").await.absent();
    let table = mount.client().read("sys/mounts").await.ok();
    assert!(table.data().get(mount.at("")).is_none(), "{table}");
}

#[tokio::test]
async fn two_mounts_live_in_one_process_and_know_nothing_of_each_other() {
    let vault = Vault::dev().await;
    let one = Mount::on(vault.client()).await;
    let two = Mount::on(vault.client()).await;
    assert_eq!(vault.plugin_processes().len(), 1);
    one.role("app", json!({"description": "of one"})).await;
    two.read("roles/app").await.absent();
    two.role("app", json!({"description": "of two"})).await;
    assert_eq!(
        one.read("roles/app").await.ok().text("description"),
        "of one"
    );
    assert_ne!(one.key("app").await, two.key("app").await);
    assert!(one.openrouter.accepts(&one.key("app").await).await);
}

#[tokio::test]
async fn where_the_server_does_not_multiplex_each_mount_has_a_process_of_its_own() {
    let opt_out = [
        ("VAULT_PLUGIN_MULTIPLEXING_OPT_OUT", PLUGIN_NAME),
        ("BAO_PLUGIN_MULTIPLEXING_OPT_OUT", PLUGIN_NAME),
    ];
    let vault = Vault::dev_with(&opt_out).await;
    let one = Mount::on(vault.client()).await;
    let two = Mount::on(vault.client()).await;
    assert_eq!(vault.plugin_processes().len(), 2);
    for mount in [&one, &two] {
        mount.role("app", json!({})).await;
        mount.write("rotate-role/app", json!({})).await.ok();
        assert!(mount.openrouter.accepts(&mount.key("app").await).await);
        mount.knows_every_key().await;
    }
}

#[tokio::test]
async fn a_mount_of_another_catalog_entry_has_a_process_of_its_own() {
    let vault = Vault::dev().await;
    let client = vault.client();
    let entry = catalog_entry(Some(VERSION));
    client
        .write("sys/plugins/catalog/secret/openrouter-pinned", entry)
        .await
        .ok();
    let one = Mount::on(client.clone()).await;
    let two = Mount::on(client.clone()).await;
    let pinned = json!({"type": "openrouter-pinned", "config": {"plugin_version": VERSION}});
    client.write("sys/mounts/pinned", pinned).await.ok();
    assert_eq!(vault.plugin_processes().len(), 2);
    client.write("pinned/config", one.connection()).await.ok();
    two.role("app", json!({})).await;
    client.read("pinned/roles/app").await.absent();
}

#[tokio::test]
async fn registered_without_a_version_the_plugin_reports_its_own() {
    let vault = Vault::shared().await;
    let path = "sys/plugins/catalog/secret/unversioned";
    vault.client().write(path, catalog_entry(None)).await.ok();
    let version = format!("-version={VERSION}");
    let info = [
        "plugin",
        "info",
        &version,
        "-field=version",
        "secret",
        "unversioned",
    ];
    assert_eq!(vault.cli(&info).await.ok(), VERSION);
}

#[tokio::test]
async fn registered_with_another_version_than_its_own_it_is_refused() {
    let vault = Vault::shared().await;
    let path = "sys/plugins/catalog/secret/misversioned";
    let refused = vault
        .client()
        .write(path, catalog_entry(Some("v99.0.0")))
        .await;
    refused.refused(400, &["version", VERSION]);
}

#[tokio::test]
async fn the_list_of_mounts_shows_the_version_that_runs() {
    let mount = Mount::unconfigured().await;
    let vault = Vault::shared().await;
    let list = vault
        .cli(&["secrets", "list", "-detailed", "-format=json"])
        .await
        .ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[mount.at("")]["running_plugin_version"], VERSION);
}

#[tokio::test]
async fn a_reload_starts_a_new_process_that_knows_everything() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    let (key, before) = (mount.key("app").await, vault.plugin_processes());
    let everywhere = json!({"plugin": PLUGIN_NAME});
    mount
        .client()
        .write("sys/plugins/reload/backend", everywhere)
        .await
        .ok();
    assert_eq!(mount.key("app").await, key);
    let replaced = async || {
        let after = vault.plugin_processes();
        (after.len() == 1 && after != before).then_some(())
    };
    eventually("a new process is there alone", SOON, replaced).await;
}

#[tokio::test]
async fn the_process_ends_with_its_last_mount() {
    let vault = Vault::dev().await;
    let one = Mount::on(vault.client()).await;
    let two = Mount::on(vault.client()).await;
    one.disable().await.ok();
    assert_eq!(vault.plugin_processes().len(), 1);
    two.disable().await.ok();
    let gone = async || vault.plugin_processes().is_empty().then_some(());
    eventually("the plugin process ends", SOON, gone).await;
}

#[tokio::test]
async fn the_process_ends_with_its_server() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    assert_eq!(vault.plugin_processes().len(), 1);
    assert_eq!(vault.stop(), []);
}

#[tokio::test]
async fn neither_a_proxy_nor_a_credential_is_taken_from_the_servers_environment() {
    let nowhere = "http://127.0.0.1:9";
    let environment = [
        ("HTTP_PROXY", nowhere),
        ("http_proxy", nowhere),
        ("ALL_PROXY", nowhere),
        ("OPENROUTER_API_KEY", "sk-or-v1-of-the-environment"),
        ("OPENROUTER_BASE_URL", nowhere),
    ];
    let vault = Vault::dev_with(&environment).await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    assert!(mount.openrouter.accepts(&mount.key("app").await).await);
}
