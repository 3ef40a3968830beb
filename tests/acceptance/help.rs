//! `vault path-help` and the OpenAPI document.

use serde_json::json;

use crate::harness::{Mount, Vault};

#[tokio::test]
async fn the_engines_own_page_lists_every_path() {
    let mount = Mount::unconfigured().await;
    let vault = Vault::shared().await;
    let page = vault.cli(&["path-help", mount.path()]).await.ok();
    for path in [
        "config",
        "roles/",
        "creds/",
        "static-creds/",
        "rotate-role/",
        "keys/",
        "lookup",
        "revoke-key/",
        "disable-key/",
        "rotate-all/",
        "tidy/",
        "teardown",
        "status",
        "metrics",
    ] {
        assert!(page.contains(path), "{path} in:\n{page}");
    }
}

#[tokio::test]
async fn every_path_has_a_page_that_explains_its_fields() {
    let mount = Mount::unconfigured().await;
    let connection = [
        "management_key",
        "api_url",
        "description",
        "request_timeout",
        "ca_certificate",
        "proxy_url",
        "allowed_roles",
        "max_limit",
        "max_key_lifetime",
    ];
    let role = [
        "credential_type",
        "connection",
        "key_name",
        "limit",
        "limit_reset",
        "include_byok_in_limit",
        "workspace",
        "workspace_id",
        "guardrail",
        "creator_user_id",
        "description",
        "rotation_period",
        "rotation_schedule",
        "rotation_window",
        "rotate_at",
        "disable_automated_rotation",
        "rotation_grace_period",
        "ttl",
        "key_max_lifetime",
    ];
    let hash = "0".repeat(64);
    let one = format!("keys/default/{hash}");
    let revoke = format!("revoke-key/default/{hash}");
    let table: [(&str, &[&str]); 18] = [
        ("config", &connection),
        ("config/second", &connection),
        ("roles", &["list"]),
        ("roles/app", &role),
        ("creds/app", &["lease", "api_key"]),
        ("static-creds/app", &["lease", "creds"]),
        ("rotate-role/app", &["rotation_grace_period"]),
        (
            "forget-role/app",
            &["revoke_keys", "keys_left_behind", "sudo"],
        ),
        ("forget-connection/app", &["keys_left_behind", "sudo"]),
        ("keys/default", &["owner", "unmanaged", "complete", "next"]),
        ("lookup", &["api_key", "key_hash", "not_asked", "commands"]),
        (&one, &["requester", "revoke_at"]),
        (&revoke, &["force", "rotate-role", "sudo"]),
        (
            "rotate-all/default",
            &["rotation_grace_period", "skipped", "failed", "45 seconds"],
        ),
        ("tidy/default", &["dry_run", "kept", "refusal", "more"]),
        (
            "teardown",
            &["left_alive", "cancels", "sudo", "vault secrets disable"],
        ),
        ("status", &["attention", "overdue", "working_since"]),
        ("metrics", &["Prometheus", "vault_openrouter"]),
    ];
    for (path, words) in table {
        let reply = mount.help(path).await.ok();
        let page = reply.json()["help"].as_str().unwrap();
        for word in words {
            assert!(page.contains(word), "{word} in the page of {path}:\n{page}");
        }
    }
}

#[tokio::test]
async fn the_openapi_document_names_every_operation() {
    let mount = Mount::unconfigured().await;
    let document = mount.client().read("sys/internal/specs/openapi").await.ok();
    let paths = &document.json()["paths"];
    let table: [(&str, &[&str]); 21] = [
        ("config", &["get", "post", "patch", "delete"]),
        ("config/", &["get"]),
        ("config/{name}", &["get", "post", "patch", "delete"]),
        ("roles/", &["get"]),
        ("roles/{name}", &["get", "post", "patch", "delete"]),
        ("creds/{name}", &["get"]),
        ("static-creds/{name}", &["get"]),
        ("rotate-role/{name}", &["post"]),
        ("forget-role/{name}", &["post"]),
        ("forget-connection/{name}", &["post"]),
        ("keys/{connection}/", &["get"]),
        ("keys/{connection}", &["get"]),
        ("keys/{connection}/{hash}", &["get"]),
        ("lookup", &["post"]),
        ("revoke-key/{connection}/{hash}", &["post"]),
        ("disable-key/{connection}/{hash}", &["post"]),
        ("rotate-all/{connection}", &["get", "post"]),
        ("tidy/{connection}", &["get", "post"]),
        ("teardown", &["get", "post", "delete"]),
        ("status", &["get"]),
        ("metrics", &["get"]),
    ];
    for (path, methods) in table {
        let item = &paths[format!("/{}", mount.at(path))];
        for method in methods {
            let name = item[method]["operationId"].as_str().unwrap_or_default();
            assert!(!name.is_empty(), "{method} of {path} has no name: {item}");
            assert_ne!(item[method]["summary"], json!(null), "{method} of {path}");
        }
    }
}

#[tokio::test]
async fn the_openapi_document_knows_the_fields_of_a_role() {
    let mount = Mount::unconfigured().await;
    let document = mount.client().read("sys/internal/specs/openapi").await.ok();
    let body =
        &document.json()["paths"][format!("/{}", mount.at("roles/{name}"))]["post"]["requestBody"];
    let schema = &body["content"]["application/json"]["schema"];
    // The server moves schemas into a section of their own.
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.json().pointer(&reference[1..]).unwrap(),
        None => schema,
    };
    for field in ["rotation_period", "limit", "key_max_lifetime"] {
        assert!(
            schema["properties"].get(field).is_some(),
            "{field} in {schema}"
        );
    }
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_not_found() {
    let mount = Mount::unconfigured().await;
    assert_eq!(mount.read("nonsense").await.status(), 404);
    assert_eq!(mount.write("nonsense/app", json!({})).await.status(), 404);
}

#[tokio::test]
async fn an_operation_that_a_path_does_not_have_is_not_allowed() {
    let mount = Mount::unconfigured().await;
    assert_eq!(
        mount.write("static-creds/app", json!({})).await.status(),
        405
    );
    assert_eq!(mount.read("rotate-role/app").await.status(), 405);
}
