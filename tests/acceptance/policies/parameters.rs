//! Parameters, which a policy allows or denies one by one and value by value.

use openrouter_simulator::NewKey;
use serde_json::{Map, Value, json};

use super::holder_of;
use crate::harness::{Client, Mount, Reply};

/// A policy can deny and allow each parameter of each operation by its name in the OpenAPI document.
#[tokio::test]
async fn every_parameter_of_every_operation_is_denied_and_allowed_by_its_name() {
    // Nothing can be done there: what matters is whether the server or the engine rejects the request.
    let mount = Mount::unconfigured().await;
    let operations = parameters(mount.help("").await.ok().json());
    let taking: Vec<(&str, &str)> = operations
        .iter()
        .map(|(method, path, _)| (*method, path.as_str()))
        .collect();
    for known in [
        ("post", "/config"),
        ("patch", "/config/{name}"),
        ("post", "/roles/{name}"),
        ("patch", "/roles/{name}"),
        ("post", "/creds/{name}"),
        ("post", "/rotate-role/{name}"),
        ("post", "/restore-key/{name}"),
        ("post", "/rotate-all/{connection}"),
        ("post", "/tidy/{connection}"),
        ("post", "/forget-role/{name}"),
        ("post", "/lookup"),
        ("post", "/revoke-key/{connection}/{hash}"),
        ("post", "/disable-key/{connection}/{hash}"),
        ("get", "/creds/{name}"),
    ] {
        assert!(taking.contains(&known), "{known:?} is not in {taking:?}");
    }
    for (method, path, names) in &operations {
        let at = path
            .trim_start_matches('/')
            .replace("{hash}", &"0".repeat(64));
        let at = at
            .replace("{name}", "app")
            .replace("{connection}", "default");
        let each: Vec<String> = names.iter().map(|name| format!("{name:?} = []")).collect();
        let each = each.join(", ");
        let rule = |parameters: &str| {
            format!(
                "path \"openrouter/{at}\" {{\n\
                 capabilities = [\"create\", \"read\", \"update\", \"patch\", \"sudo\"]\n\
                 {parameters} = {{ {each} }}\n}}"
            )
        };
        let name = format!("{method}-{at}").replace('/', "-");
        let denied = format!("denied-{name}");
        let denied = holder_of(&mount, &denied, &rule("denied_parameters")).await;
        let allowed = format!("allowed-{name}");
        let allowed = holder_of(&mount, &allowed, &rule("allowed_parameters")).await;
        for parameter in names {
            let reply = send(&denied, method, &mount.at(&at), parameter).await;
            reply.refused(403, &["permission denied"]);
            let reply = send(&allowed, method, &mount.at(&at), parameter).await;
            let (status, said) = (reply.status(), reply.errors());
            assert!(![403, 405].contains(&status), "{parameter}: {reply}");
            assert!(!said.contains("unsupported"), "{parameter}: {reply}");
        }
        let reply = send(&denied, method, &mount.at(&at), "another").await;
        assert_ne!(reply.status(), 403, "{reply}");
        let reply = send(&allowed, method, &mount.at(&at), "another").await;
        reply.refused(403, &["permission denied"]);
    }
}

/// Each operation with parameters other than those of its path: its method, its path and their names.
fn parameters(help: &Value) -> Vec<(&'static str, String, Vec<String>)> {
    let document = &help["openapi"];
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in ["get", "post", "patch", "delete"] {
            let operation = &item[method];
            let body = &operation["requestBody"]["content"];
            let contents = body.as_object().into_iter().flat_map(Map::values);
            let names = contents.flat_map(|content| {
                let schema = &content["schema"];
                let referred = schema["$ref"].as_str().and_then(|at| at.rsplit('/').next());
                let schema =
                    referred.map_or(schema, |name| &document["components"]["schemas"][name]);
                let properties = schema["properties"]
                    .as_object()
                    .cloned()
                    .unwrap_or_default();
                properties.into_iter().map(|(name, _)| name)
            });
            let mut names: Vec<String> = names.collect();
            let others = operation["parameters"].as_array().into_iter().flatten();
            let others = others.filter(|other| other["in"] == "query");
            names.extend(others.map(|other| other["name"].as_str().expect("a name").to_owned()));
            names.retain(|name| name != "list");
            if !names.is_empty() {
                operations.push((method, path.clone(), names));
            }
        }
    }
    operations
}

/// Sends an empty value of one parameter.
async fn send(client: &Client, method: &str, path: &str, parameter: &str) -> Reply {
    match method {
        "get" => client.read(&format!("{path}?{parameter}=")).await,
        "patch" => client.patch(path, json!({parameter: ""})).await,
        "post" => client.write(path, json!({parameter: ""})).await,
        other => panic!("{other} of {path} takes {parameter}"),
    }
}

/// Value by value: none of these paths has another way to express a denied value.
#[tokio::test]
async fn values_of_parameters_are_governed_by_policies() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let account = mount.openrouter.account();
    let hash = account.create_key(NewKey::named("by hand")).hash;
    let (revoke, disable) = (
        format!("revoke-key/default/{hash}"),
        format!("disable-key/default/{hash}"),
    );
    let other_mount = NewKey::named("app 2026-11-20 vault-0123456789abcdef0123456789abcdef");
    let forced = account.create_key(other_mount).hash;
    let force = format!("revoke-key/default/{forced}");
    let rules = r#"
        path "openrouter/config" {
          capabilities      = ["update"]
          denied_parameters = { "max_limit" = [], "max_key_lifetime" = [], "allowed_roles" = [] }
        }
        path "openrouter/forget-role/*" {
          capabilities       = ["update", "sudo"]
          allowed_parameters = { "revoke_keys" = [true, "true"] }
          denied_parameters  = { "revoke_keys" = [""] }
        }
        path "openrouter/revoke-key/*" {
          capabilities      = ["update", "sudo"]
          denied_parameters = { "force" = [] }
        }
        path "openrouter/disable-key/*" {
          capabilities       = ["update", "sudo"]
          allowed_parameters = { "disabled" = [true, "true"] }
          denied_parameters  = { "disabled" = [""] }
        }
        path "openrouter/lookup" {
          capabilities       = ["update"]
          allowed_parameters = { "key_hash" = [] }
        }"#;
    let holder = holder_of(&mount, "governed", rules).await;
    let secret = mount.key("app").await;
    for (path, body) in [
        ("config", json!({"max_limit": 5, "description": "x"})),
        ("config", json!({"max_key_lifetime": ""})),
        ("config", json!({"allowed_roles": "*"})),
        ("forget-role/app", json!({"revoke_keys": false})),
        (force.as_str(), json!({"force": true})),
        (force.as_str(), json!({"force": false})),
        (disable.as_str(), json!({"disabled": false})),
        (disable.as_str(), json!({"disabled": "false"})),
        // To the engine, as to every other engine, it is false. To a server it is an empty list, in which
        // nothing is disallowed.
        (disable.as_str(), json!({"disabled": ""})),
        ("forget-role/app", json!({"revoke_keys": ""})),
        ("forget-role/app", json!({"revoke_keys": "false"})),
        ("lookup", json!({"api_key": secret})),
    ] {
        let refused = holder.write(&mount.at(path), body).await;
        refused.refused(403, &["permission denied"]);
    }
    for (path, body) in [
        ("config", json!({"description": "x"})),
        (disable.as_str(), json!({"disabled": true})),
        ("lookup", json!({"key_hash": hash})),
        (revoke.as_str(), json!({})),
        ("forget-role/app", json!({"revoke_keys": true})),
    ] {
        holder.write(&mount.at(path), body).await.ok();
    }
    let refused = holder.write(&mount.at(&force), json!({})).await;
    refused.refused(400, &["force"]);
    assert_eq!(mount.openrouter.hashes(), [forced]);
}
