//! The pages that `vault path-help` shows, generated from the paths.

use std::fmt::Write;

use super::blueprint::Blueprint;
use super::field::{Field, FieldKind};
use super::path::Path;
use crate::logical::Operation;

/// The page of a path.
pub(super) fn of_path<E>(path: &Path<E>, request_path: &str) -> String {
    let mut page = format!(
        "Request:        {request_path}\nMatching Route: {}\n\n{}\n",
        path.pattern.expression(),
        path.synopsis
    );
    let operations: Vec<(&str, &str)> = path
        .endpoints
        .iter()
        // A create and an update look the same to the user.
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

/// The page of the engine.
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

/// Every field that an operation of the path accepts, each once, captured fields first.
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
        FieldKind::List => "list of strings",
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

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn page(path: usize) -> String {
        of_path(&sample::blueprint().paths[path], "notes/old")
    }

    /// The section of a page under a heading.
    fn section<'a>(page: &'a str, title: &str) -> &'a str {
        let (_, rest) = page.split_once(&format!("\n## {title}\n\n")).unwrap();
        rest.split("\n## ").next().unwrap()
    }

    #[test]
    fn a_page_begins_with_the_request_the_route_and_a_line_about_it() {
        let expected = "Request:        notes/old\n\
                        Matching Route: ^notes/(?P<name>\\w(([\\w-.]+)?\\w)?)$\n\
                        \n\
                        A note.\n\
                        \n\
                        ## OPERATIONS\n";
        assert!(page(1).starts_with(expected), "{}", page(1));
    }

    #[test]
    fn a_create_and_an_update_are_one_operation_to_the_reader() {
        assert_eq!(
            section(&page(1), "OPERATIONS"),
            "    read    Read a note.\n\
             \x20   write   Write a note.\n\
             \x20   patch   Change a note.\n\
             \x20   delete  Delete a note.\n"
        );
    }

    #[test]
    fn every_field_is_there_once_with_what_it_takes() {
        assert_eq!(
            section(&page(1), "PARAMETERS"),
            "    name (string)\n\
             \x20       The note's name.\n\n\
             \x20   text (string, required)\n\
             \x20       What it says.\n\
             \x20       One line.\n\n\
             \x20   priority (integer, default 3)\n\
             \x20       How urgent it is.\n\n\
             \x20   colour (string or null)\n\
             \x20       Its colour.\n\n\
             \x20   pin (string, sensitive)\n\
             \x20       What opens it.\n\n\
             \x20   kept_for (duration)\n\
             \x20       How long it is kept.\n\n\
             \x20   shared (boolean)\n\
             \x20       Whether others see it.\n\n\
             \x20   weight (number)\n\
             \x20       Its weight.\n\n\
             \x20   force (boolean)\n\
             \x20       Although it is shared.\n\n"
        );
    }

    #[test]
    fn a_page_ends_with_the_description() {
        assert_eq!(
            section(&page(1), "DESCRIPTION"),
            "Notes are kept until they are deleted.\n"
        );
    }

    #[test]
    fn a_path_without_fields_has_no_section_for_them() {
        assert!(!page(0).contains("PARAMETERS"));
    }

    #[test]
    fn the_engines_page_lists_every_path_in_the_order_of_the_table() {
        let page = of_backend(&sample::blueprint());
        assert_eq!(
            section(&page, "DESCRIPTION"),
            "The notes engine keeps notes.\n"
        );
        let paths: Vec<&str> = section(&page, "PATHS")
            .lines()
            .filter(|line| line.starts_with("    ^"))
            .map(str::trim)
            .collect();
        assert_eq!(
            paths,
            [
                "^notes/pinned/?$",
                r"^notes/(?P<name>\w(([\w-.]+)?\w)?)$",
                "^notes/?$",
                "^wipe/?$"
            ]
        );
        assert!(page.contains("        Delete every note.\n"));
    }
}
