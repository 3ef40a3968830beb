//! The OpenAPI document, made from the table of paths. The server merges it into its own, and
//! client libraries are generated from that: hence the names of operations.

use serde_json::{Value, json};

use super::backend::Blueprint;
use super::field::{Field, FieldKind};
use super::path::{Endpoint, Path};
use crate::logical::{Data, Operation};

/// A document of these paths.
///
/// The server decodes it into Go structs and fails the whole endpoint on a wrong type, so there is
/// nothing in it that those structs do not have.
pub(super) fn document<E>(blueprint: &Blueprint<E>, paths: &[&Path<E>]) -> Value {
    let mut items = Data::new();
    for path in paths {
        let template = format!("/{}", path.pattern.template());
        let lists = path.endpoints.get(&Operation::List);
        if let Some(endpoint) = lists {
            // A list is a GET too; the trailing slash keeps it apart from a read.
            let item = list_item(blueprint, path, endpoint);
            items.insert(format!("{template}/"), item);
        }
        if path.endpoints.len() > usize::from(lists.is_some()) {
            items.insert(template, path_item(blueprint, path));
        }
    }
    json!({
        "openapi": "3.0.2",
        "info": {
            "title": blueprint.title,
            "description": blueprint.description,
            "version": blueprint.version,
            "license": { "name": "Mozilla Public License 2.0", "url": "https://www.mozilla.org/en-US/MPL/2.0" },
        },
        "paths": items,
        "components": { "schemas": {} },
    })
}

fn path_item<E>(blueprint: &Blueprint<E>, path: &Path<E>) -> Value {
    let mut item = shared(path);
    if path.exists.is_some() {
        item.insert("x-vault-createSupported".to_owned(), true.into());
    }
    for (operation, endpoint) in &path.endpoints {
        let (method, verb) = match operation {
            Operation::Read => ("get", "read"),
            // Vault has one method for both.
            Operation::Create | Operation::Update => ("post", "write"),
            Operation::Patch => ("patch", "patch"),
            Operation::Delete => ("delete", "delete"),
            _ => continue,
        };
        item.insert(
            method.to_owned(),
            operation_object(blueprint, path, endpoint, verb, method),
        );
    }
    item.into()
}

fn list_item<E>(blueprint: &Blueprint<E>, path: &Path<E>, endpoint: &Endpoint<E>) -> Value {
    let mut item = shared(path);
    let mut get = operation_object(blueprint, path, endpoint, "list", "get");
    get["parameters"] = json!([{
        "name": "list",
        "in": "query",
        "required": true,
        "description": "Must be set to `true`",
        "schema": { "type": "string", "enum": ["true"] },
    }]);
    item.insert("get".to_owned(), get);
    item.into()
}

fn shared<E>(path: &Path<E>) -> Data {
    let parameters: Vec<Value> = path
        .parameters
        .iter()
        .map(|field| parameter(field, "path"))
        .collect();
    let mut item = Data::new();
    item.insert("description".to_owned(), path.synopsis.into());
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), parameters.into());
    }
    item
}

fn operation_object<E>(
    blueprint: &Blueprint<E>,
    path: &Path<E>,
    endpoint: &Endpoint<E>,
    verb: &str,
    method: &str,
) -> Value {
    let verb = endpoint.verb.unwrap_or(verb);
    let mut object = json!({
        "summary": endpoint.summary,
        "operationId": format!("{}-{verb}-{}", blueprint.prefix, path.suffix),
        "tags": ["secrets"],
        "responses": { if method == "delete" { "204" } else { "200" }: { "description": "OK" } },
    });
    let (query, body): (Vec<&Field>, Vec<&Field>) = endpoint
        .fields
        .iter()
        .partition(|field| field.query || matches!(method, "get" | "delete"));
    if !query.is_empty() {
        object["parameters"] = query
            .iter()
            .map(|field| parameter(field, "query"))
            .collect();
    }
    if !body.is_empty() {
        let content = if method == "patch" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        object["requestBody"] = json!({
            "required": true,
            "content": { content: { "schema": object_schema(&body) } },
        });
    }
    object
}

fn object_schema(fields: &[&Field]) -> Value {
    let properties: Data = fields
        .iter()
        .map(|field| (field.name.to_owned(), schema(field)))
        .collect();
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let mut object = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

fn parameter(field: &Field, place: &str) -> Value {
    let mut parameter = json!({
        "name": field.name,
        "in": place,
        "description": field.description,
        "schema": { "type": kind(field) },
    });
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

fn schema(field: &Field) -> Value {
    let mut schema = json!({ "type": kind(field), "description": field.description });
    if field.kind == FieldKind::Duration {
        schema["format"] = "seconds".into();
    }
    if !field.allowed.is_empty() {
        schema["enum"] = field.allowed.into();
    }
    if field.kind == FieldKind::Secret {
        schema["x-vault-displayAttrs"] = json!({ "sensitive": true });
    }
    schema
}

fn kind(field: &Field) -> &'static str {
    match field.kind {
        FieldKind::Text { .. } | FieldKind::Lines { .. } | FieldKind::Secret | FieldKind::Name => {
            "string"
        }
        FieldKind::Integer => "integer",
        FieldKind::Number => "number",
        FieldKind::Switch => "boolean",
        // Vault documents durations as text; it takes numbers too.
        FieldKind::Duration => "string",
    }
}
