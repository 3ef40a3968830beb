//! The reference page of an engine in Markdown, generated from the same paths as `vault path-help` and
//! the OpenAPI document, with sample requests and responses recorded on a real server.
//!
//! Documentation only: the plugin does not serve it.

mod commands;

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blueprint::Blueprint;
use super::event::EventKind;
use super::field::{Field, FieldKind};
use super::path::{Endpoint, Path};
use crate::logical::{Data, Operation};

pub use commands::PAYLOAD;

/// A request and the server's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The path that it demonstrates, such as `roles/:name`.
    pub path: String,
    /// The operation, as a `vault` command: `read`, `list`, `write`, `patch` or `delete`.
    pub operation: String,
    /// The path of the request, below the mount: `roles/app`.
    pub at: String,
    /// The fields of the request; empty for an operation without a body. A value `<FILE` is the content of that
    /// file, a value `$NAME` that of a shell variable.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// The body of the answer; `None` for a 204.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
}

/// The examples do not match the paths.
#[derive(Debug, PartialEq, Eq)]
pub enum ExampleError {
    /// An operation without an example.
    NoExample(String),
    /// An example of an operation that does not exist.
    NoOperation(String),
}

impl fmt::Display for ExampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoExample(of) => write!(f, "there is no example of {of}"),
            Self::NoOperation(of) => write!(f, "there is an example of {of}, which does not exist"),
        }
    }
}

impl std::error::Error for ExampleError {}

/// The page of an engine that is mounted at `mount`. An operation's examples keep their order.
///
/// # Errors
/// If an operation has no example, or an example has no operation.
pub fn page<E>(
    blueprint: &Blueprint<E>,
    mount: &str,
    examples: &[Example],
) -> Result<String, ExampleError> {
    let mut page = format!("# Reference\n\n{}\n", blueprint.description);
    let _ = write!(page, "\n{GENERATED}\n\n{PREAMBLE}");
    page.push_str("\n| Path | Description |\n|---|---|\n");
    for path in &blueprint.paths {
        let text = path.pattern.text();
        let _ = writeln!(
            page,
            "| [`{text}`](#{}) | {} |",
            anchor(&text),
            path.synopsis
        );
    }
    let mut shown = 0;
    for path in &blueprint.paths {
        let _ = write!(
            page,
            "\n## `{}`\n\n{}\n",
            path.pattern.text(),
            path.description
        );
        for section in sections(path) {
            shown += section.write(&mut page, path, mount, examples)?;
        }
    }
    if shown < examples.len() {
        let of_path = |example: &&Example| !has_operation(blueprint, example);
        let stray = examples.iter().find(of_path);
        let stray = stray.map(|example| format!("{} of {}", example.operation, example.path));
        return Err(ExampleError::NoOperation(stray.unwrap_or_default()));
    }
    write_events(&mut page, blueprint.events);
    Ok(page)
}

fn write_events(page: &mut String, events: &[EventKind]) {
    if events.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "\n## Events\n\n{EVENTS}\n\n| Event | Sent when | Further metadata |\n|---|---|---|\n"
    );
    for event in events {
        let fields = event.metadata.iter().map(|field| format!("`{field}`"));
        let fields: Vec<String> = fields.collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            event.name,
            event.sent,
            fields.join(", ")
        );
    }
}

/// The fragment of GitHub's link to a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    heading.chars().filter(kept).collect()
}

/// One section of a path: an operation, or a write and a patch that accept the same fields.
struct Section<'a, E> {
    endpoint: &'a Endpoint<E>,
    methods: Vec<Method>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Read,
    List,
    Write,
    Patch,
    Delete,
}

impl Method {
    const fn of(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Read => Some(Self::Read),
            Operation::List => Some(Self::List),
            // Vault uses one method for both.
            Operation::Create | Operation::Update => Some(Self::Write),
            Operation::Patch => Some(Self::Patch),
            Operation::Delete => Some(Self::Delete),
            _ => None,
        }
    }

    fn named(command: &str) -> Option<Self> {
        const ALL: [Method; 5] = [
            Method::Read,
            Method::List,
            Method::Write,
            Method::Patch,
            Method::Delete,
        ];
        ALL.into_iter().find(|method| method.command() == command)
    }

    const fn command(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Write => "write",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    const fn http(self) -> &'static str {
        match self {
            Self::Read => "GET",
            Self::List => "LIST",
            Self::Write => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The sections of a path, in the order in which readers need them.
fn sections<E>(path: &Path<E>) -> Vec<Section<'_, E>> {
    const ORDER: [Operation; 5] = [
        Operation::Update,
        Operation::Patch,
        Operation::Read,
        Operation::List,
        Operation::Delete,
    ];
    let mut sections: Vec<Section<'_, E>> = Vec::new();
    for operation in ORDER {
        let (Some(endpoint), Some(method)) =
            (path.endpoints.get(&operation), Method::of(operation))
        else {
            continue;
        };
        match sections.last_mut() {
            Some(write) if method == Method::Patch && same_fields(write.endpoint, endpoint) => {
                write.methods.push(method);
            }
            _ => sections.push(Section {
                endpoint,
                methods: vec![method],
            }),
        }
    }
    sections
}

fn same_fields<E>(one: &Endpoint<E>, other: &Endpoint<E>) -> bool {
    let names = |endpoint: &Endpoint<E>| endpoint.fields.iter().map(|f| f.name).collect::<Vec<_>>();
    names(one) == names(other)
}

fn has_operation<E>(blueprint: &Blueprint<E>, example: &Example) -> bool {
    let of_path = |path: &&Path<E>| path.pattern.text() == example.path;
    blueprint.paths.iter().filter(of_path).any(|path| {
        sections(path)
            .iter()
            .flat_map(|section| &section.methods)
            .any(|method| method.command() == example.operation)
    })
}

impl<E> Section<'_, E> {
    /// Writes the section; returns how many examples it contains.
    fn write(
        &self,
        page: &mut String,
        path: &Path<E>,
        mount: &str,
        examples: &[Example],
    ) -> Result<usize, ExampleError> {
        let text = path.pattern.text();
        let heading = self.endpoint.summary.trim_end_matches('.');
        let _ = write!(page, "\n### {heading}\n\n| Method | Path |\n|---|---|\n");
        for method in &self.methods {
            let _ = writeln!(page, "| `{}` | `/{mount}/{text}` |", method.http());
        }
        let fields = path.parameters.iter().chain(&self.endpoint.fields);
        let mut fields = fields.peekable();
        if fields.peek().is_some() {
            page.push_str("\n#### Parameters\n\n");
        }
        for field in fields {
            parameter(page, field);
        }
        if let Some(schema) = self.endpoint.answer.schema() {
            page.push_str("\n#### Response fields\n\n");
            answered(page, &schema, 0);
        }
        let mut shown = 0;
        for method in &self.methods {
            let command = method.command();
            let mut own = examples
                .iter()
                .filter(|example| example.path == text && example.operation == command)
                .peekable();
            if own.peek().is_none() {
                return Err(ExampleError::NoExample(format!("{command} of {text}")));
            }
            for example in own {
                shown += 1;
                show(page, *method, mount, example);
            }
        }
        Ok(shown)
    }
}

/// `- `limit` `(number: none)` – What it is.`
fn parameter(page: &mut String, field: &Field) {
    let kind = match field.kind {
        FieldKind::Text { .. } | FieldKind::Lines { .. } | FieldKind::Secret | FieldKind::Name => {
            "string"
        }
        FieldKind::Integer => "integer",
        FieldKind::Number => "number",
        FieldKind::Switch => "boolean",
        FieldKind::Duration => "duration",
        FieldKind::List => "list",
    };
    let nullable = if field.nullable { " or null" } else { "" };
    let default = match field.default {
        _ if field.required || field.kind == FieldKind::Name => ": <required>".to_owned(),
        Some(default) => format!(": {default}"),
        None if field.nullable => ": none".to_owned(),
        None => String::new(),
    };
    let description = field.description.replace('\n', " ");
    let _ = write!(
        page,
        "- `{}` `({kind}{nullable}{default})` – {description}",
        field.name
    );
    if !field.allowed.is_empty() {
        let allowed: Vec<String> = field.allowed.iter().map(|v| format!("`{v}`")).collect();
        let _ = write!(page, " One of {}.", allowed.join(", "));
    }
    if field.query {
        page.push_str(" In the query of the URL.");
    }
    page.push('\n');
}

/// Lists the fields that a schema describes, with their own fields below them.
fn answered(page: &mut String, schema: &Data, depth: usize) {
    let Some(Value::Object(fields)) = schema.get("properties") else {
        return;
    };
    for (name, schema) in fields {
        let Value::Object(schema) = schema else {
            continue;
        };
        let (kind, within) = kind_of(schema);
        let nullable = match schema.get("nullable") {
            Some(Value::Bool(true)) => " or null",
            _ => "",
        };
        let _ = write!(page, "{:1$}- `{name}` `({kind}{nullable})`", "", depth * 2);
        if let Some(Value::String(description)) = schema.get("description") {
            let _ = write!(page, " – {}", description.replace('\n', " "));
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            let values = values.iter().filter_map(Value::as_str);
            let values: Vec<String> = values.map(|value| format!("`{value}`")).collect();
            let _ = write!(page, " One of {}.", values.join(", "));
        }
        page.push('\n');
        if let Some(within) = within {
            answered(page, within, depth + 1);
        }
    }
}

/// The type of a field, in a word or two, and the schema of its content.
fn kind_of(schema: &Data) -> (&str, Option<&Data>) {
    let within = |keyword| schema.get(keyword).and_then(Value::as_object);
    let is_object = |of: &Data| of.contains_key("properties");
    let kind = schema.get("type").and_then(Value::as_str);
    match (kind, within("items"), within("additionalProperties")) {
        (Some("array"), Some(items), _) if is_object(items) => ("list of objects", Some(items)),
        (Some("array"), ..) => ("list", None),
        (Some("object"), _, Some(values)) if is_object(values) => ("map of objects", Some(values)),
        (Some("object"), _, Some(_)) => ("map", None),
        (Some("object"), ..) => ("object", Some(schema)),
        (Some("string"), ..) if schema.get("format") == Some(&"date-time".into()) => {
            ("timestamp", None)
        }
        (kind, ..) => (kind.unwrap_or("any"), None),
    }
}

fn show(page: &mut String, method: Method, mount: &str, example: &Example) {
    let curl = example.curl(mount);
    match example.cli(mount) {
        Some(cli) => {
            let command = method.command();
            let _ = write!(page, "\n#### Sample request: `vault {command}`\n\n");
            fenced(page, "shell-session", &format!("$ {cli}"));
            page.push('\n');
        }
        None => page.push_str("\n#### Sample request\n\n"),
    }
    fenced(page, "shell-session", &format!("$ {curl}"));
    if let Some(payload) = example.payload() {
        let _ = write!(page, "\n`{PAYLOAD}`:\n\n");
        fenced(page, "json", &pretty(&payload));
    }
    match &example.response {
        Some(response) => {
            page.push_str("\n#### Sample response\n\n");
            match response {
                Value::String(text) => fenced(page, "text", text.trim_end()),
                _ => fenced(page, "json", &pretty(response)),
            }
        }
        None => page.push_str("\nThe answer is `204 No Content`.\n"),
    }
}

fn pretty(value: &Value) -> String {
    // With `#`, a JSON value is indented.
    format!("{value:#}")
}

fn fenced(page: &mut String, language: &str, text: &str) {
    let _ = writeln!(page, "```{language}\n{text}\n```");
}

const EVENTS: &str = "\
Sent to the server's event bus, where it has one. The metadata of each has `path` and `operation`, and no secret.";

const GENERATED: &str = "\
<!-- Generated from the engine's own paths and fields: change those, then run scripts/reference. -->";

const PREAMBLE: &str = "\
`vault path-help` shows the same text for each path. Names consist of letters, digits and `_`, with `-` and
`.` inside. Durations are accepted as Vault accepts them (`3600`, `90m`, `1h30m`, `30d`) and returned as whole
seconds in JSON. A write or a patch changes only what it names. An empty value, or `null` in JSON, clears a
parameter of the kind `or null`. Unknown parameters are rejected.

The samples were recorded from a Vault server with a simulated OpenRouter, and a test runs their commands. A secret
is read from a file (`management-key.txt`), so that it is not in the arguments of a program.
";

#[cfg(test)]
mod tests;
