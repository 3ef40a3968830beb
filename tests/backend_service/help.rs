//! Help and the OpenAPI document, under the rules that a server's own endpoint depends on.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::vault_host::{Mount, Vault};

async fn help(mount: &Mount, path: &str, data: Value) -> Value {
    mount.request("help", path, data).await.data()
}

fn object(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value}"))
}

#[tokio::test]
async fn help_on_the_mount_itself_is_always_answered() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    // A server requests the first one for its own document of all mounts.
    let prefix = json!({ "requestResponsePrefix": "openrouter" });
    for data in [prefix, json!({}), Value::Null] {
        let page = help(&mount, "", data).await;
        assert!(page["help"].as_str().unwrap().contains("OpenRouter"));
        assert_eq!(page["see_also"], Value::Null);
        assert!(page["openapi"].is_object());
    }
}

#[tokio::test]
async fn help_on_a_path_is_about_that_path() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    for (path, template) in [
        ("config", "/config"),
        ("roles/app", "/roles/{name}"),
        ("roles/", "/roles/"),
        ("creds/app", "/creds/{name}"),
    ] {
        let page = help(&mount, path, Value::Null).await;
        let paths = object(&page["openapi"]["paths"]);
        assert!(paths.contains_key(template), "{path}: {paths:?}");
        assert!(page["help"].as_str().unwrap().contains(path));
    }
    let unknown = mount.request("help", "nothing", Value::Null).await;
    assert_eq!(unknown.fault().err_type, 6);
}

#[tokio::test]
async fn the_document_has_only_what_a_server_can_decode() {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let document = help(&mount, "", Value::Null).await["openapi"].take();
    assert_eq!(document["openapi"], "3.0.2");
    for field in ["title", "description", "version"] {
        assert!(document["info"][field].is_string(), "{field}");
    }
    let mut ids = BTreeSet::new();
    for (template, item) in object(&document["paths"]) {
        assert!(template.starts_with('/'), "{template}");
        for method in ["get", "post", "patch", "delete"] {
            let Some(operation) = item.get(method) else {
                continue;
            };
            let id = operation["operationId"].as_str().unwrap();
            assert!(id.starts_with("open-router-"), "{id}");
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            let responses = object(&operation["responses"]);
            assert!(!responses.is_empty(), "{id}");
            for (code, response) in responses {
                let code: u16 = code.parse().unwrap();
                assert!((100..600).contains(&code), "{id}: {code}");
                assert!(response["description"].is_string(), "{id}");
            }
        }
        assert_parameters_are_described(template, item);
    }
    assert!(ids.len() > 10, "{ids:?}");
}

/// Every `{name}` of a template is declared, as OpenAPI requires.
fn assert_parameters_are_described(template: &str, item: &Value) {
    let declared: Vec<&str> = item["parameters"]
        .as_array()
        .map(|parameters| {
            let named = parameters.iter().map(|p| p["name"].as_str().unwrap());
            named.collect()
        })
        .unwrap_or_default();
    for segment in template.split('/') {
        if let Some(name) = segment.strip_prefix('{') {
            let name = name.trim_end_matches('}');
            assert!(declared.contains(&name), "{template}: {declared:?}");
        }
    }
}
