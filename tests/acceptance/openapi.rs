//! The OpenAPI document: it is valid, the server passes it on, and it describes every answer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use openrouter_simulator::NewKey;
use serde_json::{Value, json};

use crate::harness::{Mount, Reply};
use crate::reference;

#[tokio::test]
async fn the_document_is_valid() {
    let mount = Mount::unconfigured().await;
    let document = Document::of(&mount).await;
    // As published at its `id`, by the OpenAPI Initiative, under the Apache License 2.0.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/openapi/schema-3.0.json");
    let valid = fs::read_to_string(file).expect("the schema of OpenAPI 3.0");
    let valid = serde_json::from_str(&valid).expect("JSON");
    assert_eq!(faults(&valid, &document.0), [""; 0]);
}

#[tokio::test]
async fn the_server_shows_the_same_answers_in_its_own_document() {
    let mount = Mount::unconfigured().await;
    let document = Document::of(&mount).await;
    let whole = mount.client().read("sys/internal/specs/openapi").await.ok();
    for (path, method) in document.operations() {
        let shown = &whole.json()["paths"][format!("/{}", mount.at(&path[1..]))][&method];
        let expected = &document.0["paths"][&path][&method]["responses"];
        assert_eq!(
            without_nullable(&shown["responses"]),
            without_nullable(expected),
            "{method} of {path}"
        );
    }
}

#[tokio::test]
async fn every_operation_answers_as_is_described() {
    let mount = Mount::unconfigured().await;
    let document = Document::of(&mount).await;
    let by_hand = reference::prepare(&mount);
    let mut called = BTreeSet::new();
    for example in reference::examples() {
        let reply = reference::send(&mount, &example, &by_hand).await.ok();
        let (path, operation) = (&example["path"], &example["operation"]);
        let (path, operation) = (path.as_str().unwrap(), operation.as_str().unwrap());
        called.insert(document.describes(operation, path, &reply));
    }
    assert_eq!(called, document.operations());
}

#[tokio::test]
async fn roles_and_keys_in_every_condition_are_described() {
    let mount = Mount::new().await;
    let document = Document::of(&mount).await;
    mount
        .openrouter
        .account()
        .create_key(NewKey::named("Other"));
    let held = json!({"limit": 5, "limit_reset": "daily", "revocation_hold": "24h"});
    mount.role("held", held).await;
    let budget = json!({"budget": 100, "budget_reset": "monthly"});
    mount.role("budgeted", budget).await;
    let cron = json!({"rotation_schedule": "0 3 * * *", "rotation_window": "2h"});
    mount.role("scheduled", cron).await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    mount.read("creds/ci").await.ok();
    // One key of `held` is held, one is superseded; `scheduled` has only its current key.
    for grace in ["0", "24h"] {
        let grace = json!({"rotation_grace_period": grace});
        let reply = mount.write("rotate-role/held", grace).await.ok();
        document.describes("write", "rotate-role/:name", &reply);
    }
    let role = mount.read("roles/held").await.ok();
    for keys in ["superseded_keys", "held_keys"] {
        assert_eq!(role.field(keys).as_array().map(Vec::len), Some(1), "{keys}");
    }
    read_everything(&mount, &document).await;

    // Changes while OpenRouter fails, and earlier drift.
    mount.openrouter.fail();
    let refused = mount.write("rotate-role/scheduled", json!({})).await;
    assert!(refused.status() >= 400, "{}", refused.body());
    let role = mount.read("roles/scheduled").await.ok();
    assert_eq!(role.text("rotation_status"), "failed");
    for name in ["held", "budgeted", "scheduled", "ci"] {
        let role = mount.read(&format!("roles/{name}")).await.ok();
        document.describes("read", "roles/:name", &role);
    }
    let status = mount.read("status").await.ok();
    document.describes("read", "status", &status);
}

/// Reads everything that can be read of these roles and their keys.
async fn read_everything(mount: &Mount, document: &Document) {
    let reads = [
        ("list", "roles", "roles"),
        ("read", "roles/:name", "roles/held"),
        ("read", "roles/:name", "roles/budgeted"),
        ("read", "roles/:name", "roles/scheduled"),
        ("read", "roles/:name", "roles/ci"),
        ("read", "creds/:name", "creds/held"),
        ("read", "creds/:name", "creds/ci"),
        ("read", "static-creds/:name", "static-creds/scheduled"),
        ("read", "usage/:name", "usage/held"),
        ("read", "usage/:name", "usage/budgeted"),
        ("list", "keys/:connection", "keys/default"),
        ("read", "keys/:connection", "keys/default"),
        ("read", "keys/:connection", "keys/default?limit=1"),
        ("read", "status", "status"),
    ];
    for (operation, path, at) in reads {
        let reply = match operation {
            "list" => mount.list(at).await.ok(),
            _ => mount.read(at).await.ok(),
        };
        document.describes(operation, path, &reply);
    }
    let keys = mount.list("keys/default").await.keys();
    assert!(keys.len() > 6, "{keys:?}");
    for hash in &keys {
        let reply = mount.read(&format!("keys/default/{hash}")).await.ok();
        document.describes("read", "keys/:connection/:hash", &reply);
        let reply = mount.write("lookup", json!({"key_hash": hash})).await.ok();
        document.describes("write", "lookup", &reply);
    }
    let unknown = json!({"key_hash": "0".repeat(64)});
    let reply = mount.write("lookup", unknown).await.ok();
    document.describes("write", "lookup", &reply);
}

#[tokio::test]
async fn an_answer_that_is_not_as_described_is_noticed() {
    let mount = Mount::new().await;
    let document = Document::of(&mount).await;
    let schema = document.schema("get", "/config").expect("a schema");
    let reply = mount.read("config").await.ok();
    assert_eq!(faults(&schema, reply.data()), [""; 0]);
    let mut more = reply.data().clone();
    more["colour"] = "blue".into();
    let mut less = reply.data().clone();
    less.as_object_mut().unwrap().remove("api_url");
    let mut other = reply.data().clone();
    other["request_timeout"] = "30s".into();
    let mut within = reply.data().clone();
    within["workspaces"][0]["colour"] = "blue".into();
    let mut null = reply.data().clone();
    null["api_url"] = Value::Null;
    for wrong in [more, less, other, within, null] {
        assert_ne!(faults(&schema, &wrong), [""; 0], "{wrong:#}");
    }
}

/// The document of a mount, from the plugin. In its own document of all mounts, a server omits which values
/// may be null: its structures have no field for that.
pub(crate) struct Document(Value);

impl Document {
    pub(crate) async fn of(mount: &Mount) -> Self {
        let help = mount.help("").await.ok();
        Self(help.json()["openapi"].clone())
    }

    /// Every operation: its path and its method.
    pub(crate) fn operations(&self) -> BTreeSet<(String, String)> {
        let paths = self.0["paths"].as_object().expect("paths");
        let methods = |item: &Value| {
            let methods = ["get", "post", "patch", "delete"];
            methods.map(|method| item.get(method).map(|_| method.to_owned()))
        };
        paths
            .iter()
            .flat_map(|(path, item)| methods(item).map(|method| (path.clone(), method)))
            .filter_map(|(path, method)| Some((path, method?)))
            .collect()
    }

    /// The description of a path.
    pub(crate) fn item(&self, path: &str) -> &Value {
        &self.0["paths"][path]
    }

    /// The schema of an operation's answer. It allows nothing that it does not describe.
    fn schema(&self, method: &str, path: &str) -> Option<Value> {
        let answer = &self.0["paths"][path][method]["responses"]["200"]["content"];
        answer["application/json"].get("schema").map(strict)
    }

    /// Fails unless the answer matches its description. Returns the path and the method of the operation.
    fn describes(&self, operation: &str, path: &str, reply: &Reply) -> (String, String) {
        let segments = path
            .split('/')
            .map(|segment| match segment.strip_prefix(':') {
                Some(name) => format!("/{{{name}}}"),
                None => format!("/{segment}"),
            });
        let mut path: String = segments.collect();
        let method = match operation {
            "write" => "post",
            "patch" | "delete" => operation,
            _ => "get",
        };
        if operation == "list" {
            path.push('/');
        }
        let at = format!("{method} of {path}");
        let answers = &self.0["paths"][&path][method]["responses"];
        let answer = &answers[reply.status().to_string()];
        assert!(answer.is_object(), "{at} answers {}", reply.status());
        if reply.json().is_null() {
            let is_text = |content: &Value| content.get("application/json").is_none();
            let content = answer.get("content");
            let expected = !reply.body().is_empty();
            assert_eq!(content.is_some_and(is_text), expected, "{at}: {answer}");
        } else {
            match self.schema(method, &path) {
                Some(schema) => {
                    let faults = faults(&schema, reply.data());
                    assert_eq!(faults, [""; 0], "{at}: {}", reply.body());
                }
                // Only warnings.
                None => {
                    let data = &reply.json()["data"];
                    let is_empty = data.is_null() || *data == json!({});
                    assert!(is_empty, "{at}: {}", reply.body());
                }
            }
        }
        (path, method.to_owned())
    }
}

/// Where and how a value differs from the schema.
fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .expect("a schema");
    let faults = validator.iter_errors(value);
    faults
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect()
}

/// Converts OpenAPI's dialect to that of JSON Schema, and forbids every field that is not described.
fn strict(schema: &Value) -> Value {
    let Value::Object(schema) = schema else {
        return schema.clone();
    };
    let mut strict: serde_json::Map<String, Value> = schema
        .iter()
        .map(|(keyword, value)| match keyword.as_str() {
            "properties" => {
                let fields = value.as_object().expect("fields");
                let fields = fields
                    .iter()
                    .map(|(name, field)| (name.clone(), self::strict(field)));
                (keyword.clone(), Value::Object(fields.collect()))
            }
            "items" | "additionalProperties" => (keyword.clone(), self::strict(value)),
            _ => (keyword.clone(), value.clone()),
        })
        .collect();
    if strict.remove("nullable") == Some(true.into()) {
        strict["type"] = json!([schema["type"], "null"]);
    }
    if strict.contains_key("properties") {
        strict.insert("additionalProperties".to_owned(), false.into());
    }
    // Without a type, any value is allowed.
    assert!(strict.contains_key("type"), "no type: {schema:?}");
    strict.into()
}

/// A server keeps `nullable` only within `additionalProperties`.
fn without_nullable(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, value)| name.as_str() != "nullable" || value.is_object())
            .map(|(name, value)| (name.clone(), without_nullable(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_nullable).collect(),
        _ => value.clone(),
    }
}
