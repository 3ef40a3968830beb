//! What an operation answers, described for OpenAPI and the reference page. The description comes from the
//! structure that is serialized into the answer, so it cannot differ from it.

use std::collections::BTreeMap;

use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Value, json};

use crate::logical::Data;

/// What an operation answers if it succeeds.
#[derive(Clone, Default)]
pub(super) enum Answer {
    /// No fields. The server answers 204, or 200 if there are warnings.
    #[default]
    Nothing,
    /// The fields of one of these structures.
    Fields(Vec<fn() -> Data>),
    /// Text of this content type, which the server passes on as it is.
    Text(&'static str),
}

impl Answer {
    /// The schema of the answer's `data`; `None` if it has no fields.
    pub(super) fn schema(&self) -> Option<Data> {
        match self {
            Self::Fields(kinds) => kinds.iter().map(|schema| schema()).reduce(either),
            Self::Nothing | Self::Text(_) => None,
        }
    }
}

/// The answer to a list. An empty one has no `keys`; the server turns that into a 404, as for its own
/// engines.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Names {
    /// The names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// The answer to a list that has columns, for `vault list -detailed`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Table<Row> {
    /// The names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The columns of each name. Absent if the engine does not know them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub key_info: BTreeMap<String, Row>,
}

/// The schema of what `T` is serialized into. It has only keywords that the server's own structures support,
/// without references or `oneOf`, and `nullable`, which the server drops from its document of all mounts.
pub(super) fn schema_of<T: JsonSchema>() -> Data {
    let mut settings = SchemaSettings::openapi3();
    settings.contract = Contract::Serialize;
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.transforms.insert(0, Box::new(Flat));
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let Value::Object(mut schema) = schema.to_value() else {
        return Data::new();
    };
    schema.remove("title");
    schema
}

/// Merges alternatives into one schema, because the server drops `oneOf`. The result has the fields of both;
/// a field is required if both require it. Structures that both have are merged in the same way.
fn either(mut one: Data, mut other: Data) -> Data {
    let mut required = names(&one);
    required.retain(|name| names(&other).contains(name));
    if let (Some(Value::Object(all)), Some(Value::Object(more))) =
        (one.get_mut("properties"), other.remove("properties"))
    {
        for (name, schema) in more {
            match all.remove(&name) {
                Some(known) => all.insert(name, either_value(known, schema)),
                None => all.insert(name, schema),
            };
        }
        one.insert("required".to_owned(), required.into());
    }
    if let (Some(known), Some(more)) = (one.remove("items"), other.remove("items")) {
        one.insert("items".to_owned(), either_value(known, more));
    }
    one
}

fn either_value(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => either(one, other).into(),
        (one, _) => one,
    }
}

/// The required fields of a schema.
fn names(schema: &Data) -> Vec<String> {
    let required = schema.get("required").and_then(Value::as_array);
    let names = required.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// Turns the alternatives of an enum whose variants are documented into a plain `enum`, and "or null" into
/// a type.
#[derive(Clone)]
struct Flat;

impl Transform for Flat {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        // The server drops these.
        for keyword in ["minimum", "maximum", "uniqueItems"] {
            object.remove(keyword);
        }
        if let Some(values) = constants(object.get("oneOf")) {
            object.remove("oneOf");
            object.insert("type".to_owned(), "string".into());
            object.insert("enum".to_owned(), values.into());
        }
        let is_null = |schema: &Value| schema.get("type") == Some(&"null".into());
        if let Some(Value::Array(either)) = object.get("anyOf")
            && let [Value::Object(some), none] = either.as_slice()
            && is_null(none)
        {
            let mut some = some.clone();
            if let Some(kind) = some.get_mut("type") {
                *kind = json!([kind, "null"]);
            }
            if let Some(Value::Array(values)) = some.get_mut("enum") {
                values.push(Value::Null);
            }
            object.remove("anyOf");
            for (keyword, value) in some {
                object.entry(keyword).or_insert(value);
            }
        }
    }
}

/// The values of an enum's variants, if all alternatives are values.
fn constants(alternatives: Option<&Value>) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    for alternative in alternatives?.as_array()? {
        match (alternative.get("const"), alternative.get("enum")) {
            (Some(value), _) => values.push(value.clone()),
            (None, Some(Value::Array(several))) => values.extend(several.iter().cloned()),
            _ => return None,
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[derive(Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "only its description is used")]
    enum Colour {
        /// Like blood.
        Red,
        /// Like the sky.
        Blue,
    }

    /// A box.
    #[derive(Serialize, JsonSchema)]
    struct Crate<'a> {
        /// What it is called.
        name: &'a str,
        colour: Colour,
        /// Its lid.
        lid: Option<Colour>,
        weight: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<&'a str>,
        parts: BTreeMap<String, Part>,
        colours: BTreeSet<u32>,
        #[serde(flatten)]
        part: Part,
    }

    #[derive(Serialize, JsonSchema)]
    struct Part {
        size: f64,
    }

    #[derive(Serialize, JsonSchema)]
    struct Bag {
        name: String,
        handles: Vec<Part>,
    }

    #[test]
    fn a_structure_is_described_as_it_is_serialized() {
        let part = json!({
            "type": "object",
            "properties": { "size": { "type": "number", "format": "double" } },
            "required": ["size"],
        });
        assert_eq!(
            Value::from(schema_of::<Crate<'_>>()),
            json!({
                "type": "object",
                "description": "A box.",
                "properties": {
                    "name": { "type": "string", "description": "What it is called." },
                    "colour": { "type": "string", "enum": ["red", "blue"] },
                    "lid": {
                        "type": "string",
                        "nullable": true,
                        "enum": ["red", "blue", null],
                        "description": "Its lid.",
                    },
                    "weight": { "type": "integer", "format": "uint64", "nullable": true },
                    "label": { "type": "string", "nullable": true },
                    "colours": {
                        "type": "array",
                        "items": { "type": "integer", "format": "uint32" },
                    },
                    "parts": { "type": "object", "additionalProperties": part },
                    "size": { "type": "number", "format": "double" },
                },
                "required": ["name", "colour", "lid", "weight", "parts", "colours", "size"],
            })
        );
    }

    #[test]
    fn of_alternatives_that_is_required_which_each_has() {
        let answer = Answer::Fields(vec![schema_of::<Crate<'_>>, schema_of::<Bag>]);
        let schema = Value::from(answer.schema().unwrap());
        assert_eq!(schema["required"], json!(["name"]));
        let properties = &schema["properties"];
        assert_eq!(properties["handles"]["type"], "array");
        assert_eq!(properties["weight"]["type"], "integer");
    }

    #[test]
    fn an_answer_without_fields_has_no_schema() {
        assert!(Answer::Nothing.schema().is_none());
        assert!(Answer::Text("text/plain").schema().is_none());
    }
}
