//! ACL policies: what the server lets the holder of a token do with the engine's paths.

use openrouter_simulator::NewKey;
use serde_json::json;

use crate::harness::{Client, Mount};

#[tokio::test]
async fn a_token_that_may_read_one_roles_credentials_can_do_just_that() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.role("other", json!({})).await;
    let reader = holder(&mount, "creds/app", r#"["read"]"#).await;
    reader.read(&mount.at("creds/app")).await.ok();
    for path in ["creds/other", "static-creds/app", "roles/app", "config"] {
        reader
            .read(&mount.at(path))
            .await
            .refused(403, &["permission denied"]);
    }
    for path in ["creds/app", "roles/app", "config", "rotate-role/app"] {
        reader
            .write(&mount.at(path), json!({}))
            .await
            .refused(403, &["permission denied"]);
    }
    reader
        .list(&mount.at("roles"))
        .await
        .refused(403, &["permission denied"]);
    reader
        .delete(&mount.at("roles/app"))
        .await
        .refused(403, &["permission denied"]);
}

#[tokio::test]
async fn to_create_and_to_update_a_role_are_two_capabilities() {
    let mount = Mount::new().await;
    mount.role("old", json!({})).await;
    let creator = holder(&mount, "roles/*", r#"["create"]"#).await;
    let updater = holder(&mount, "roles/*", r#"["update"]"#).await;
    let body = json!({"description": "new"});
    creator
        .write(&mount.at("roles/old"), body.clone())
        .await
        .refused(403, &["permission denied"]);
    updater
        .write(&mount.at("roles/new"), body.clone())
        .await
        .refused(403, &["permission denied"]);
    creator
        .write(&mount.at("roles/new"), body.clone())
        .await
        .ok();
    updater.write(&mount.at("roles/old"), body).await.ok();
}

#[tokio::test]
async fn to_patch_is_a_capability_of_its_own() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let patcher = holder(&mount, "roles/app", r#"["patch"]"#).await;
    patcher
        .patch(&mount.at("roles/app"), json!({"ttl": "30m"}))
        .await
        .ok();
    let whole = patcher
        .write(&mount.at("roles/app"), json!({"ttl": "20m"}))
        .await;
    whole.refused(403, &["permission denied"]);
}

#[tokio::test]
async fn a_token_that_may_only_rotate_can_do_just_that() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let operator = holder(&mount, "rotate-role/app", r#"["update"]"#).await;
    operator
        .write(&mount.at("rotate-role/app"), json!({}))
        .await
        .ok();
    operator
        .read(&mount.at("static-creds/app"))
        .await
        .refused(403, &["permission denied"]);
}

#[tokio::test]
async fn to_forget_needs_sudo() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let deleter = holder(&mount, "*", r#"["create", "read", "update", "delete"]"#).await;
    for path in ["forget-role/app", "forget-connection/default"] {
        deleter
            .write(&mount.at(path), json!({}))
            .await
            .refused(403, &["permission denied"]);
    }
    assert!(mount.openrouter.accepts(&mount.key("app").await).await);

    let [hash] = <[String; 1]>::try_from(mount.openrouter.hashes()).unwrap();
    let path = "forget-connection/default";
    let operator = holder(&mount, path, r#"["update", "sudo"]"#).await;
    let reply = operator.write(&mount.at(path), json!({})).await.ok();
    assert_eq!(reply.field("keys_left_behind"), &json!([hash]));
    mount.read("config").await.absent();
    let operator = holder(&mount, "forget-role/app", r#"["update", "sudo"]"#).await;
    let reply = operator
        .write(&mount.at("forget-role/app"), json!({}))
        .await;
    assert_eq!(reply.ok().field("keys_left_behind"), &json!([hash]));
    mount.read("roles/app").await.absent();
}

#[tokio::test]
async fn to_revoke_and_to_disable_a_key_needs_sudo() {
    let mount = Mount::new().await;
    let account = mount.openrouter.account();
    let hash = account.create_key(NewKey::named("by hand")).hash;
    let all = r#"["create", "read", "update", "delete", "list"]"#;
    let without = holder(&mount, "*", all).await;
    let disable = json!({"disabled": true});
    for (path, body) in [("revoke-key", json!({})), ("disable-key", disable)] {
        let path = mount.at(&format!("{path}/default/{hash}"));
        without
            .write(&path, body.clone())
            .await
            .refused(403, &["permission denied"]);
    }
    assert!(!account.key(&hash).unwrap().disabled);
    let path = format!("revoke-key/default/{hash}");
    let operator = holder(&mount, &path, r#"["update", "sudo"]"#).await;
    operator.write(&mount.at(&path), json!({})).await.ok();
    assert!(account.keys().is_empty());
}

#[tokio::test]
async fn an_auditor_reads_everything_and_no_secret() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    let secrets = [
        mount.key("app").await,
        mount.read("creds/ci").await.ok().text("api_key"),
        mount.openrouter.management_key().to_owned(),
    ];
    let auditor = holders(
        &mount,
        &[
            ("keys/*", r#"["read", "list"]"#),
            ("lookup", r#"["update"]"#),
            ("status", r#"["read"]"#),
            ("metrics", r#"["read"]"#),
        ],
    )
    .await;
    let hash = mount.openrouter.hashes().remove(0);
    let mut seen = String::new();
    let one = format!("keys/default/{hash}");
    for path in ["keys/default", &one, "status", "metrics"] {
        seen.push_str(auditor.read(&mount.at(path)).await.ok().body());
    }
    seen.push_str(auditor.list(&mount.at("keys/default")).await.ok().body());
    for secret in &secrets {
        let lookup = json!({"api_key": secret});
        let reply = auditor.write(&mount.at("lookup"), lookup).await.ok();
        seen.push_str(reply.body());
    }
    assert!(seen.contains(&hash) && seen.contains("vault_openrouter_keys"));
    for secret in &secrets {
        assert!(!seen.contains(secret.as_str()), "{seen}");
    }
    for path in ["creds/app", "static-creds/app", "roles/app", "config"] {
        auditor
            .read(&mount.at(path))
            .await
            .refused(403, &["permission denied"]);
    }
    let revoke = mount.at(&format!("revoke-key/default/{hash}"));
    auditor
        .write(&revoke, json!({"force": true}))
        .await
        .refused(403, &["permission denied"]);
}

/// The holder of a token that has these capabilities on one path of the mount.
async fn holder(mount: &Mount, path: &str, capabilities: &str) -> Client {
    holders(mount, &[(path, capabilities)]).await
}

/// The same on several paths.
async fn holders(mount: &Mount, grants: &[(&str, &str)]) -> Client {
    let grant = |(path, capabilities): &(&str, &str)| {
        let path = mount.at(path);
        format!("path \"{path}\" {{ capabilities = {capabilities} }}\n")
    };
    let policy: String = grants.iter().map(grant).collect();
    let name = policy.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let policies = format!("sys/policies/acl/{name}");
    mount
        .client()
        .write(&policies, json!({"policy": policy}))
        .await
        .ok();
    let request = json!({"policies": [name], "no_default_policy": true});
    let token = mount
        .client()
        .write("auth/token/create", request)
        .await
        .ok();
    mount
        .client()
        .with_token(token.json()["auth"]["client_token"].as_str().unwrap())
}
