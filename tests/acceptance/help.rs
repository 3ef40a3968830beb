//! `vault path-help` and the OpenAPI document.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Mount, Vault};
use crate::openapi::Document;

#[tokio::test]
async fn the_engines_own_page_lists_every_path() {
    let mount = Mount::unconfigured().await;
    let vault = Vault::shared().await;
    let page = vault.cli(&["path-help", mount.path()]).await.ok();
    let paths: BTreeSet<String> = operations(&Document::of(&mount).await)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        let (fixed, _) = path.split_once('{').unwrap_or((path.as_str(), ""));
        assert!(page.contains(fixed), "{path} in:\n{page}");
    }
}

#[tokio::test]
async fn every_path_has_a_page_with_every_field_that_it_takes() {
    let mount = Mount::unconfigured().await;
    let document = Document::of(&mount).await;
    let mut fields = 0;
    for (path, method) in operations(&document) {
        let reply = mount.help(&an_instance_of(&path)).await.ok();
        let page = reply.json()["help"].as_str().unwrap();
        for field in fields_of(&document, &path, &method) {
            fields += 1;
            assert!(
                page.contains(&format!("\n    {field} (")),
                "{field} of {method} in the page of {path}:\n{page}"
            );
        }
    }
    assert!(fields > 100, "{fields} fields");
}

#[tokio::test]
async fn a_page_explains_what_its_path_does() {
    let mount = Mount::unconfigured().await;
    let table: [(&str, &[&str]); 18] = [
        ("roles", &["list"]),
        ("creds/{name}", &["lease", "api_key"]),
        ("static-creds/{name}", &["lease", "creds"]),
        ("rotate-role/{name}", &["rotation_grace_period"]),
        ("restore-key/{name}", &["key_version", "duration"]),
        ("usage/{name}", &["spent", "cached"]),
        ("forget-role/{name}", &["keys_left_behind", "sudo"]),
        ("forget-connection/{name}", &["keys_left_behind", "sudo"]),
        (
            "keys/{connection}",
            &["owner", "unmanaged", "complete", "next"],
        ),
        ("lookup", &["key_hash", "not_asked", "commands"]),
        ("keys/{connection}/{hash}", &["requester", "revoke_at"]),
        (
            "revoke-key/{connection}/{hash}",
            &["force", "rotate-role", "sudo"],
        ),
        ("disable-key/{connection}/{hash}", &["disabled", "sudo"]),
        (
            "rotate-all/{connection}",
            &["skipped", "failed", "45 seconds"],
        ),
        ("tidy/{connection}", &["dry_run", "kept", "refusal", "more"]),
        (
            "teardown",
            &["left_alive", "cancels", "sudo", "vault secrets disable"],
        ),
        ("status", &["attention", "overdue", "working_since"]),
        ("metrics", &["Prometheus", "vault_openrouter"]),
    ];
    for (path, words) in table {
        let reply = mount.help(&an_instance_of(path)).await.ok();
        let page = reply.json()["help"].as_str().unwrap();
        for word in words {
            assert!(page.contains(word), "{word} in the page of {path}:\n{page}");
        }
    }
}

#[tokio::test]
async fn the_servers_openapi_document_names_every_operation() {
    let mount = Mount::unconfigured().await;
    let whole = mount.client().read("sys/internal/specs/openapi").await.ok();
    let operations = operations(&Document::of(&mount).await);
    assert!(operations.len() > 35, "{operations:?}");
    for (path, method) in operations {
        let item = &whole.json()["paths"][format!("/{}", mount.at(&path))];
        let name = item[&method]["operationId"].as_str().unwrap_or_default();
        assert!(!name.is_empty(), "{method} of {path} has no name: {item}");
        assert_ne!(item[&method]["summary"], json!(null), "{method} of {path}");
    }
}

/// Every operation in the engine's own document: the path below the mount, and the method.
fn operations(document: &Document) -> Vec<(String, String)> {
    let operations = document.operations().into_iter();
    operations
        .map(|(path, method)| (path.trim_start_matches('/').to_owned(), method))
        .collect()
}

/// A path of this kind that exists, or could exist.
fn an_instance_of(path: &str) -> String {
    path.trim_end_matches('/')
        .replace("{name}", "app")
        .replace("{connection}", "default")
        .replace("{hash}", &"0".repeat(64))
}

/// The names of the fields that an operation accepts: in its path, its query and its body.
fn fields_of(document: &Document, path: &str, method: &str) -> Vec<String> {
    let item = document.item(&format!("/{path}"));
    let operation = &item[method];
    let named = |parameters: &Value| {
        let parameters = parameters.as_array().cloned().unwrap_or_default();
        let names = parameters
            .into_iter()
            .map(|field| field["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let mut fields = named(&item["parameters"]);
    fields.extend(named(&operation["parameters"]));
    // The server's own switch between a list and a read.
    fields.retain(|field| field != "list");
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        for body in content.values() {
            let properties = body["schema"]["properties"].as_object().expect("fields");
            fields.extend(properties.keys().cloned());
        }
    }
    fields
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
