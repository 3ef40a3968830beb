//! The OpenAPI document, generated from the paths. The server merges it into its own document. Client
//! libraries are generated from that, which is why operations have names.

use serde_json::{Value, json};

use super::answer::Answer;
use super::blueprint::Blueprint;
use super::field::{Field, FieldKind};
use super::path::{Endpoint, Path};
use crate::logical::{Data, Operation};

/// A document of these paths.
///
/// The server decodes it into Go structs and fails the whole endpoint on a wrong type, so it contains
/// only what those structs have.
pub(super) fn document<E>(blueprint: &Blueprint<E>, paths: &[&Path<E>]) -> Value {
    let mut items = Data::new();
    for path in paths {
        let template = format!("/{}", path.pattern.template());
        let lists = path.endpoints.get(&Operation::List);
        if let Some(endpoint) = lists {
            // A list is also a GET; the trailing slash distinguishes it from a read.
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
            // Vault uses one method for both.
            Operation::Create | Operation::Update => ("post", "write"),
            Operation::Patch => ("patch", "patch"),
            Operation::Delete => ("delete", "delete"),
            _ => continue,
        };
        let operation = operation_object(blueprint, path, endpoint, verb, method);
        item.insert(method.to_owned(), operation.into());
    }
    item.into()
}

fn list_item<E>(blueprint: &Blueprint<E>, path: &Path<E>, endpoint: &Endpoint<E>) -> Value {
    let mut get = operation_object(blueprint, path, endpoint, "list", "get");
    let switch = json!({
        "name": "list",
        "in": "query",
        "required": true,
        "description": "Must be set to `true`",
        "schema": { "type": "string", "enum": ["true"] },
    });
    let mut parameters = vec![switch];
    if let Some(Value::Array(own)) = get.remove("parameters") {
        parameters.extend(own);
    }
    get.insert("parameters".to_owned(), parameters.into());
    let mut item = shared(path);
    item.insert("get".to_owned(), get.into());
    item.into()
}

fn shared<E>(path: &Path<E>) -> Data {
    let mut item = object([("description", path.synopsis.into())]);
    if !path.parameters.is_empty() {
        let parameters = path.parameters.iter().map(|f| parameter(f, "path"));
        item.insert("parameters".to_owned(), parameters.collect());
    }
    item
}

fn operation_object<E>(
    blueprint: &Blueprint<E>,
    path: &Path<E>,
    endpoint: &Endpoint<E>,
    verb: &str,
    method: &str,
) -> Data {
    let verb = endpoint.verb.unwrap_or(verb);
    let mut operation = object([
        ("summary", endpoint.summary.into()),
        (
            "operationId",
            format!("{}-{verb}-{}", blueprint.prefix, path.suffix).into(),
        ),
        ("tags", json!(["secrets"])),
        ("responses", responses(&endpoint.answer)),
    ]);
    let (query, body): (Vec<&Field>, Vec<&Field>) = endpoint
        .fields
        .iter()
        .partition(|field| field.query || matches!(method, "get" | "delete"));
    if !query.is_empty() {
        let parameters = query.iter().map(|f| parameter(f, "query"));
        operation.insert("parameters".to_owned(), parameters.collect());
    }
    if !body.is_empty() {
        let content = if method == "patch" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let body = json!({
            "required": true,
            "content": { content: { "schema": body_schema(&body) } },
        });
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

/// As in Vault's own document, the schema is that of the answer's `data`, without what surrounds it.
fn responses(answer: &Answer) -> Value {
    let (content_type, schema) = match answer {
        Answer::Text(content_type) => (*content_type, json!({ "type": "string" })),
        _ => match answer.schema() {
            Some(schema) => ("application/json", schema.into()),
            None => {
                return json!({
                    "200": { "description": "OK, with warnings" },
                    "204": { "description": "OK" },
                });
            }
        },
    };
    json!({
        "200": { "description": "OK", "content": { content_type: { "schema": schema } } },
    })
}

fn body_schema(fields: &[&Field]) -> Value {
    let properties: Data = fields
        .iter()
        .map(|field| (field.name.to_owned(), schema(field)))
        .collect();
    let mut body = object([("type", "object".into()), ("properties", properties.into())]);
    let required = fields.iter().filter(|field| field.required);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    if !required.is_empty() {
        body.insert("required".to_owned(), required.into());
    }
    body.into()
}

fn parameter(field: &Field, place: &str) -> Value {
    let mut parameter = object([
        ("name", field.name.into()),
        ("in", place.into()),
        ("description", field.description.into()),
        ("schema", json!({ "type": kind(field) })),
    ]);
    if place == "path" {
        parameter.insert("required".to_owned(), true.into());
    }
    parameter.into()
}

fn schema(field: &Field) -> Value {
    let mut schema = object([
        ("type", kind(field).into()),
        ("description", field.description.into()),
    ]);
    if field.kind == FieldKind::Duration {
        schema.insert("format".to_owned(), "seconds".into());
    }
    if field.kind == FieldKind::List {
        schema.insert("items".to_owned(), json!({ "type": "string" }));
    }
    if !field.allowed.is_empty() {
        schema.insert("enum".to_owned(), field.allowed.into());
    }
    if field.kind == FieldKind::Secret {
        let sensitive = json!({ "sensitive": true });
        schema.insert("x-vault-displayAttrs".to_owned(), sensitive);
    }
    schema.into()
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Data {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn kind(field: &Field) -> &'static str {
    match field.kind {
        FieldKind::Text { .. } | FieldKind::Lines { .. } | FieldKind::Secret | FieldKind::Name => {
            "string"
        }
        FieldKind::Integer => "integer",
        FieldKind::Number => "number",
        FieldKind::Switch => "boolean",
        // Vault documents durations as text, although it also accepts numbers.
        FieldKind::Duration => "string",
        FieldKind::List => "array",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::sample;
    use super::*;

    fn whole() -> Value {
        let blueprint = sample::blueprint();
        let paths: Vec<_> = blueprint.paths.iter().collect();
        document(&blueprint, &paths)
    }

    fn operations(document: &Value) -> Vec<&Value> {
        let items = document["paths"].as_object().unwrap().values();
        items
            .flat_map(|item| METHODS.iter().filter_map(|method| item.get(*method)))
            .collect()
    }

    const METHODS: [&str; 4] = ["get", "post", "patch", "delete"];

    #[test]
    fn the_document_says_what_it_is_and_what_it_is_about() {
        let document = whole();
        assert_eq!(document["openapi"], "3.0.2");
        let info = &document["info"];
        assert_eq!(info["title"], "Notes");
        assert_eq!(info["version"], "1.2.3");
        assert_eq!(info["description"], "The notes engine keeps notes.");
    }

    #[test]
    fn every_path_is_an_absolute_template_and_a_list_has_one_of_its_own() {
        let document = whole();
        let templates: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(
            templates,
            ["/notes/", "/notes/pinned", "/notes/{name}", "/wipe"]
        );
    }

    #[test]
    fn operations_are_named_by_what_they_do_and_each_differently() {
        let document = whole();
        let ids: Vec<&str> = operations(&document)
            .iter()
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
        for id in [
            "notes-read-pinned-note",
            "notes-write-note",
            "notes-patch-note",
            "notes-delete-note",
            "notes-list-notes",
            "notes-wipe-everything",
        ] {
            assert!(ids.contains(&id), "{id} in {ids:?}");
        }
    }

    #[test]
    fn an_answer_is_described_by_its_structure() {
        let document = whole();
        let note = &document["paths"]["/notes/{name}"];
        let read = note["get"]["responses"].as_object().unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["200"]);
        let schema = &read["200"]["content"]["application/json"]["schema"];
        assert_eq!(schema["required"], json!(["name", "priority"]));
        let priority = &schema["properties"]["priority"];
        assert_eq!(priority["description"], "How urgent it is.");
        assert_eq!(priority["nullable"], true);

        let pinned = &document["paths"]["/notes/pinned"]["get"]["responses"]["200"];
        let text = json!({ "schema": { "type": "string" } });
        assert_eq!(pinned["content"], json!({ "text/plain": text }));
    }

    #[test]
    fn an_answer_without_fields_is_a_204_or_has_warnings() {
        let document = whole();
        let delete = &document["paths"]["/notes/{name}"]["delete"]["responses"];
        for code in ["200", "204"] {
            assert!(delete[code]["description"].is_string(), "{code}");
            assert_eq!(delete[code].get("content"), None, "{code}");
        }
    }

    #[test]
    fn a_captured_segment_is_a_parameter_of_the_path() {
        let document = whole();
        let note = &document["paths"]["/notes/{name}"];
        assert_eq!(
            note["parameters"],
            json!([{
                "name": "name",
                "in": "path",
                "required": true,
                "description": "The note's name.",
                "schema": { "type": "string" },
            }])
        );
        assert_eq!(note["x-vault-createSupported"], true);
        let list = &document["paths"]["/notes/"];
        assert_eq!(list.get("parameters"), None);
        assert_eq!(list.get("x-vault-createSupported"), None);
    }

    #[test]
    fn the_fields_of_a_write_are_its_body() {
        let document = whole();
        let note = &document["paths"]["/notes/{name}"];
        let body = &note["post"]["requestBody"];
        assert_eq!(body["required"], true);
        let schema = &body["content"]["application/json"]["schema"];
        assert_eq!(schema["required"], json!(["text"]));
        let properties = &schema["properties"];
        for (field, expected) in [
            ("text", "string"),
            ("priority", "integer"),
            ("pin", "string"),
            ("kept_for", "string"),
            ("shared", "boolean"),
            ("weight", "number"),
        ] {
            assert_eq!(properties[field]["type"], expected, "{field}");
            assert!(properties[field]["description"].is_string(), "{field}");
        }
        assert_eq!(properties["colour"]["enum"], json!(["red", "blue"]));
        assert_eq!(properties["kept_for"]["format"], "seconds");
        assert_eq!(properties["pin"]["x-vault-displayAttrs"]["sensitive"], true);
        assert_eq!(properties.get("name"), None, "it is in the path");

        let patch = &note["patch"]["requestBody"]["content"];
        assert!(patch["application/merge-patch+json"].is_object());
        for method in ["get", "delete"] {
            assert_eq!(note[method].get("requestBody"), None, "{method}");
        }
    }

    #[test]
    fn what_has_no_body_takes_its_fields_in_the_query() {
        let document = whole();
        let delete = &document["paths"]["/notes/{name}"]["delete"]["parameters"];
        assert_eq!(delete[0]["name"], "force");
        assert_eq!(delete[0]["in"], "query");
        let list = &document["paths"]["/notes/"]["get"]["parameters"];
        assert_eq!(list[0]["name"], "list");
        assert_eq!(list[0]["schema"]["enum"], json!(["true"]));
        assert_eq!(list[1]["name"], "starting");
    }
}
