//! ACL policies: which of the engine's paths the server lets the holder of a token use.

mod parameters;
mod team;

use openrouter_simulator::NewKey;
use serde_json::json;

use crate::harness::{Client, Mount, samples};

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
async fn an_operator_rotates_with_a_grace_period_and_not_without() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let rotate = mount.at("rotate-role/app");
    let some = r#"path "openrouter/rotate-role/*" {
                    capabilities = ["update"]
                    allowed_parameters = { "rotation_grace_period" = ["24h", "48h"] }
                    denied_parameters = { "rotation_grace_period" = [""] }
                  }"#;
    let careful = holder_of(&mount, "careful", &sample("operator.hcl")).await;
    let choosing = holder_of(&mount, "choosing", some).await;
    for grace in [
        json!(0),
        json!("0"),
        json!("0s"),
        json!("0h"),
        json!("00"),
        json!(""),
        json!("2h"),
    ] {
        let body = json!({"rotation_grace_period": grace});
        for operator in [&careful, &choosing] {
            let refused = operator.write(&rotate, body.clone()).await;
            refused.refused(403, &["permission denied"]);
        }
    }
    let first = mount.key("app").await;
    careful.write(&rotate, json!({})).await.ok();
    let body = json!({"rotation_grace_period": "48h"});
    choosing.write(&rotate, body).await.ok();
    assert!(mount.openrouter.accepts(&first).await);
    assert_eq!(mount.openrouter.hashes().len(), 3);
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
async fn to_tear_down_and_to_cancel_that_needs_sudo() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let all = r#"["create", "read", "update", "delete", "list"]"#;
    let without = holder(&mount, "*", all).await;
    let path = mount.at("teardown");
    let refused = [
        without.write(&path, json!({})).await,
        without.read(&path).await,
        without.delete(&path).await,
    ];
    for reply in refused {
        reply.refused(403, &["permission denied"]);
    }
    assert!(mount.openrouter.accepts(&mount.key("app").await).await);
    // The same token may rotate everything, and tidy up.
    for path in ["rotate-all/default", "tidy/default"] {
        without.write(&mount.at(path), json!({})).await.ok();
    }
    let capabilities = r#"["read", "update", "delete", "sudo"]"#;
    let operator = holder(&mount, "teardown", capabilities).await;
    operator.write(&path, json!({})).await.ok();
    assert!(mount.openrouter.hashes().is_empty());
    operator.delete(&path).await.ok();
}

/// The server protects a path literally: the same path with a trailing slash is a different path to it.
#[tokio::test]
async fn a_trailing_slash_does_not_avoid_the_need_for_sudo() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let hash = mount.openrouter.hashes()[0].clone();
    mount.write("teardown", json!({})).await.ok();
    let all = r#"["create", "read", "update", "delete", "list", "patch"]"#;
    let without = holder(&mount, "*", all).await;
    let key = |path: &str| format!("{path}/default/{hash}");
    let protected = [
        "teardown".to_owned(),
        "forget-role/app".to_owned(),
        "forget-connection/default".to_owned(),
        key("revoke-key"),
        key("disable-key"),
    ];
    for path in protected.map(|path| mount.at(&path)) {
        for path in [path.clone(), format!("{path}/"), format!("{path}//")] {
            let replies = [
                without.read(&path).await,
                without.delete(&path).await,
                without.list(&path).await,
                without.write(&path, json!({})).await,
                without.patch(&path, json!({})).await,
            ];
            for reply in replies {
                let (request, status) = (reply.request(), reply.status());
                assert!((400..500).contains(&status), "{request}: {status}");
            }
        }
    }
    assert_eq!(mount.read("teardown").await.ok().text("state"), "finished");
    mount.read("roles/app").await.ok();
    mount.read("config").await.ok();
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
            ("usage/*", r#"["read"]"#),
        ],
    )
    .await;
    let hash = mount.openrouter.hashes().remove(0);
    let mut seen = String::new();
    let one = format!("keys/default/{hash}");
    for path in [
        "keys/default",
        &one,
        "status",
        "metrics",
        "usage/app",
        "usage/ci",
    ] {
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

/// A policy of the samples.
fn sample(name: &str) -> String {
    let file = samples().join("policies").join(name);
    std::fs::read_to_string(file).expect("there is the sample")
}

/// A client with a policy that is written for a mount at `openrouter`.
async fn holder_of(mount: &Mount, name: &str, policy: &str) -> Client {
    let policy = policy.replace("openrouter/", &mount.at(""));
    bearer_of(mount, &mount.at(name).replace('/', "-"), &policy).await
}

/// A client with these capabilities on one path of the mount.
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
    bearer_of(mount, &name, &policy).await
}

async fn bearer_of(mount: &Mount, name: &str, policy: &str) -> Client {
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
