//! The manual pages that `vault path-help` shows, made from the table of paths.

use std::fmt::Write;

use super::blueprint::Blueprint;
use super::field::{Field, FieldKind};
use super::path::Path;
use crate::logical::Operation;

/// The page of one path.
pub(super) fn of_path<E>(path: &Path<E>, request_path: &str) -> String {
    let mut page = format!(
        "Request:        {request_path}\nMatching Route: {}\n\n{}\n",
        path.pattern.expression(),
        path.synopsis
    );
    let operations: Vec<(&str, &str)> = path
        .endpoints
        .iter()
        // A create and an update are one thing to whoever writes.
        .filter(|(operation, _)| {
            **operation != Operation::Create || !path.endpoints.contains_key(&Operation::Update)
        })
        .map(|(operation, endpoint)| (word(*operation), endpoint.summary))
        .collect();
    section(&mut page, "OPERATIONS");
    for (word, summary) in operations {
        let _ = writeln!(page, "    {word:<7} {summary}");
    }
    let fields = all_fields(path);
    if !fields.is_empty() {
        section(&mut page, "PARAMETERS");
        for field in fields {
            let _ = writeln!(page, "    {} ({})", field.name, takes(&field));
            indented(&mut page, field.description, 8);
            page.push('\n');
        }
    }
    section(&mut page, "DESCRIPTION");
    page.push_str(path.description);
    page.push('\n');
    page
}

/// The page of the whole engine.
pub(super) fn of_backend<E>(blueprint: &Blueprint<E>) -> String {
    let mut page = String::new();
    section(&mut page, "DESCRIPTION");
    page.push_str(blueprint.description);
    page.push('\n');
    section(&mut page, "PATHS");
    page.push_str(
        "These paths exist. `vault path-help` with any path that matches one of them shows its\n\
         page.\n\n",
    );
    for path in &blueprint.paths {
        let _ = writeln!(page, "    {}", path.pattern.expression());
        indented(&mut page, path.synopsis, 8);
        page.push('\n');
    }
    page
}

/// Every field that some operation of the path takes, the captured ones first, each once.
pub(super) fn all_fields<E>(path: &Path<E>) -> Vec<Field> {
    let mut fields = path.parameters.clone();
    for field in path
        .endpoints
        .values()
        .flat_map(|endpoint| &endpoint.fields)
    {
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(field.clone());
        }
    }
    fields
}

fn takes(field: &Field) -> String {
    let kind = match field.kind {
        FieldKind::Text { .. } | FieldKind::Lines { .. } | FieldKind::Name => "string",
        FieldKind::Secret => "string, sensitive",
        FieldKind::Integer => "integer",
        FieldKind::Number => "number",
        FieldKind::Switch => "boolean",
        FieldKind::Duration => "duration",
    };
    let mut text = kind.to_owned();
    if field.nullable {
        text.push_str(" or null");
    }
    if field.required {
        text.push_str(", required");
    }
    if let Some(default) = field.default {
        let _ = write!(text, ", default {default}");
    }
    text
}

fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "create",
        Operation::Read => "read",
        Operation::Update => "write",
        Operation::Patch => "patch",
        Operation::Delete => "delete",
        Operation::List => "list",
        Operation::Help => "help",
        Operation::Renew => "renew",
        Operation::Revoke => "revoke",
        Operation::Rollback => "rollback",
    }
}

fn section(page: &mut String, title: &str) {
    let _ = write!(page, "\n## {title}\n\n");
}

fn indented(page: &mut String, text: &str, by: usize) {
    for line in text.lines() {
        let _ = writeln!(page, "{:by$}{line}", "");
    }
}
