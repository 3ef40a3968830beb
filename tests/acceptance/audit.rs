//! No secret in anything that is kept: the audit log, the server's log, lists, errors and help.

use std::fs;

use serde_json::json;

use crate::harness::{Mount, Vault};

#[tokio::test]
async fn neither_the_audit_log_nor_the_servers_log_holds_a_secret() {
    let (vault, audit) = Vault::audited().await;
    let mount = Mount::on(vault.client()).await;

    mount.role("app", json!({"limit": 1})).await;
    mount.read("creds/app").await.ok();
    mount.read("static-creds/app").await.ok();
    mount.read("config").await.ok();
    mount.write("rotate-role/app", json!({})).await.ok();
    mount
        .write("rotate-role/app", json!({"rotation_grace_period": 0}))
        .await
        .ok();
    let role = json!({"credential_type": "dynamic"});
    mount.role("ci", role).await;
    let lease = mount.read("creds/ci").await.ok().lease_id();
    let lease = json!({"lease_id": lease, "sync": true});
    mount
        .client()
        .write("sys/leases/renew", lease.clone())
        .await
        .ok();
    mount.openrouter.fail();
    let failed = mount.client().write("sys/leases/revoke", lease).await;
    failed.refused(400, &["could not be revoked"]);
    mount.connect().await.refused(502, &[]);
    mount
        .write("rotate-role/app", json!({}))
        .await
        .refused(502, &[]);
    mount.openrouter.recover();
    mount.delete("roles/app").await.ok();
    mount.disable().await.ok();

    let (audited, logged) = (fs::read_to_string(&audit).unwrap(), vault.log());
    assert!(
        audited.contains(&mount.at("rotate-role/app")),
        "the audit log is in use"
    );
    for secret in secrets(&mount) {
        assert!(!audited.contains(&secret), "a secret in the audit log");
        assert!(!logged.contains(&secret), "a secret in the server's log");
    }
}

#[tokio::test]
async fn no_error_list_read_or_help_text_shows_a_secret() {
    let mount = Mount::new().await;
    mount.role("app", json!({"limit": 1})).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let mut shown = vec![
        mount.read("config").await,
        mount.list("config").await,
        mount.read("roles/app").await,
        mount.list("roles").await,
        mount.help("config").await,
        mount.help("creds/app").await,
        mount.read("creds/nobody").await,
    ];
    // OpenRouter repeating what it was sent must not make the engine repeat it.
    let echo = openrouter_simulator::Fault::Status {
        status: 400,
        message: Some(format!("bad key {}", mount.openrouter.management_key())),
        retry_after: None,
        after_effect: false,
    };
    mount.openrouter.faults().add(echo.on_anything().forever());
    shown.push(mount.connect().await);
    shown.push(mount.write("rotate-role/app", json!({})).await);
    shown.push(mount.write("roles/new", json!({})).await);
    shown.push(mount.read("roles/app").await);
    for reply in shown {
        for secret in secrets(&mount) {
            assert!(
                !reply.json().to_string().contains(&secret),
                "a secret: {reply}"
            );
        }
    }
}

/// Every secret that has gone through the mount.
fn secrets(mount: &Mount) -> Vec<String> {
    let keys = mount.openrouter.account().all_keys();
    let minted = keys.iter().map(|key| key.secret().to_owned());
    minted
        .chain([mount.openrouter.management_key().to_owned()])
        .collect()
}
