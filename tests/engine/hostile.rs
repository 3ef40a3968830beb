//! Hostile input: every field of every path, with every kind of invalid value. The table is generated from
//! the engine's own schema, so that a new field cannot be forgotten.

use serde_json::{Map, Value, json};
use vault_plugin_secrets_openrouter::logical::{Error, Operation, Storage};

use crate::harness::{CI, World};

#[tokio::test]
async fn every_field_rejects_invalid_values_by_its_name() {
    let world = world().await;
    let before = stored(&world).await;
    let mut tried = 0;
    for target in targets(&world).await {
        for (field, schema) in &target.fields {
            for bad in bad_values(schema) {
                let mut body = target.body.clone();
                body.insert(field.clone(), bad.clone());
                let answer = world
                    .node()
                    .call(target.operation, &target.path, body.into())
                    .await;
                let place = format!(
                    "{:?} {} {field}={}",
                    target.operation,
                    target.path,
                    short(&bad)
                );
                match answer {
                    Err(Error::Invalid(text)) => {
                        assert!(text.contains(field.as_str()), "{place}: {text}");
                        assert!(text.len() < 500, "{place}: it repeats what was sent");
                    }
                    other => panic!("{place} is not refused: {other:?}"),
                }
                tried += 1;
            }
        }
    }
    println!("{tried} bad values were refused by the names of their fields");
    assert!(tried > 300, "the schema is not read: {tried}");
    assert_eq!(stored(&world).await, before, "nothing is stored");
    assert!(
        world.openrouter.requests().all().is_empty(),
        "nothing is sent"
    );
}

#[tokio::test]
async fn an_unknown_field_is_rejected_by_every_operation_that_changes_something() {
    let world = world().await;
    for target in targets(&world).await {
        for unknown in ["limti", "__proto__", "\u{202e}evil", ""] {
            let mut body = target.body.clone();
            body.insert(unknown.to_owned(), json!(1));
            let answer = world
                .node()
                .call(target.operation, &target.path, body.into())
                .await;
            let Err(Error::Invalid(text)) = answer else {
                panic!("{} takes {unknown:?}: {answer:?}", target.path);
            };
            assert!(text.starts_with("unknown field"), "{text}");
        }
    }
    assert!(world.openrouter.requests().all().is_empty());
}

/// A world with a role of each kind, in which nothing happens.
async fn world() -> World {
    let world = World::with_role().await;
    let role = json!({"credential_type": "dynamic"});
    world.write(CI, role).await.unwrap();
    world.quiet().await;
    world.openrouter.requests().reset();
    world
}

async fn stored(world: &World) -> Vec<(String, Option<Vec<u8>>)> {
    let mut entries = Vec::new();
    for key in world.storage.keys() {
        let value = world.storage.get(&key).await.unwrap();
        entries.push((key, value));
    }
    entries
}

/// An operation, and the fields that it accepts.
struct Target {
    operation: Operation,
    path: String,
    /// Fields that make the operation valid except for the invalid value.
    body: Map<String, Value>,
    fields: Vec<(String, Value)>,
}

/// Every operation with fields, as the engine itself documents it; for roles, existing and new ones of both
/// kinds.
async fn targets(world: &World) -> Vec<Target> {
    let help = world.node().call(Operation::Help, "", Value::Null).await;
    let document = help.unwrap().unwrap().data["openapi"].clone();
    let mut targets = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in [
            ("post", Operation::Create),
            ("post", Operation::Update),
            ("patch", Operation::Patch),
            ("delete", Operation::Delete),
        ] {
            let fields = fields(&item[method]);
            let never = operation == Operation::Create && item["x-vault-createSupported"] != true;
            if fields.is_empty() || never {
                continue;
            }
            let kinds = if template.starts_with("/roles/") && operation == Operation::Create {
                vec![
                    ("new", json!({})),
                    ("new", json!({"credential_type": "dynamic"})),
                ]
            } else if template.starts_with("/roles/") {
                vec![("app", json!({})), ("ci", json!({}))]
            } else if template.starts_with("/config") {
                let key = world.openrouter.management_key();
                let connection = json!({"management_key": key, "api_url": world.gate_url()});
                vec![("default", connection)]
            } else {
                vec![("app", json!({}))]
            };
            for (name, body) in kinds {
                let Value::Object(body) = body else {
                    unreachable!()
                };
                let body = if method == "delete" { Map::new() } else { body };
                let path = template
                    .trim_start_matches('/')
                    .replace("{name}", name)
                    .replace("{connection}", "default")
                    .replace("{hash}", &"0".repeat(64));
                targets.push(Target {
                    operation,
                    path,
                    body,
                    fields: fields.clone(),
                });
            }
        }
    }
    targets
}

fn fields(operation: &Value) -> Vec<(String, Value)> {
    let content = operation["requestBody"]["content"].as_object();
    let schemas = content
        .into_iter()
        .flatten()
        .map(|(_, media)| &media["schema"]);
    let body = schemas
        .filter_map(|schema| schema["properties"].as_object())
        .flatten();
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    body.map(|(name, schema)| (name.clone(), schema.clone()))
        .chain(parameters.map(|p| (p["name"].as_str().unwrap().to_owned(), p["schema"].clone())))
        .collect()
}

/// Invalid values for a field with this schema.
fn bad_values(schema: &Value) -> Vec<Value> {
    let mut bad = vec![
        json!({"a": 1}),
        json!([[1]]),
        json!({}),
        json!("x".repeat(1 << 20)),
    ];
    match schema["type"].as_str().unwrap() {
        "boolean" => bad.extend([json!("perhaps"), json!("yes"), json!("\u{0}")]),
        "integer" => bad.extend([
            json!(-1),
            json!(0),
            json!("NaN"),
            json!(1e300),
            json!("0x"),
            json!("--1"),
        ]),
        "number" => bad.extend([
            json!(-1),
            json!(0),
            json!("NaN"),
            json!("-inf"),
            json!("1e400"),
            json!("1,5"),
            json!(true),
        ]),
        "string" if schema["format"] == "seconds" => bad.extend([
            json!(-1),
            json!("-1h"),
            json!("soon"),
            json!("9".repeat(40)),
            json!("1h\u{0}"),
            json!(1e300),
        ]),
        "string" => bad.extend([json!("a\u{0}b"), json!("\u{1b}[31m"), json!("a\u{85}b")]),
        "array" => bad.extend([
            json!("a\u{0}b"),
            json!(["a\u{1b}"]),
            json!([["a"]]),
            json!([{}]),
        ]),
        other => panic!("the table does not know the type {other}"),
    }
    if schema["enum"].is_array() {
        bad.extend([json!("nonsense"), json!("DAILY"), json!(7)]);
    }
    bad
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}
