//! The messages that `docs/messages.md` explains exist, and each warning and error in the log is explained.

use std::fs;

use crate::names::code;
use crate::pages::{Page, root};

#[test]
fn every_message_that_is_explained_is_one_of_the_plugins() {
    let source = source().replace("\\\"", "\"");
    let page = Page::read("docs/messages.md");
    let mut messages = 0;
    for section in [ERRORS, STATUS, LOG] {
        for message in explained(&page, section) {
            messages += 1;
            let unknown = message.split('…').map(str::trim);
            let unknown: Vec<&str> = unknown.filter(|part| !source.contains(part)).collect();
            assert!(
                unknown.is_empty(),
                "nothing says {unknown:?} of `{message}`"
            );
        }
    }
    assert!(messages > 100, "{messages} messages");
}

#[test]
fn every_warning_and_error_in_the_log_is_explained() {
    let page = Page::read("docs/messages.md");
    let explained = explained(&page, LOG);
    let lines = log_lines(&source());
    assert!(lines.len() > 30, "{lines:?}");
    let unexplained: Vec<&String> = lines
        .iter()
        .filter(|line| !explained.iter().any(|known| fits(known, line)))
        .collect();
    assert!(
        unexplained.is_empty(),
        "not in docs/messages.md: {unexplained:#?}"
    );
}

#[test]
fn a_log_line_is_found_and_compared_by_its_text() {
    let source = r#"tracing::warn!(mount = engine.mount, reason = %no(")"), "failed to do it; {}", it);
        tracing::info!("not this one"); tracing::error!("an end");"#;
    assert_eq!(log_lines(source), ["failed to do it; {}", "an end"]);
    assert!(fits("failed to do it; …", "failed to do it; {}"));
    assert!(fits("… to do it; …", "failed to do it; it is retried"));
    assert!(!fits(
        "failed to do it; …",
        "failed to do that; it is retried"
    ));
    assert!(!fits("an end", "an end that is none"));
}

const ERRORS: &str = "## Errors of the engine\n";
const STATUS: &str = "## Messages in a role's status\n";
const LOG: &str = "## Log messages\n";

/// The messages in the first column of a section's table.
fn explained(page: &Page, section: &str) -> Vec<String> {
    let (_, table) = page.text.split_once(section).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    cells.flat_map(code).collect()
}

/// The texts of the source's warnings and errors, except those that consist of a variable.
fn log_lines(source: &str) -> Vec<String> {
    let calls = ["tracing::warn!(", "tracing::error!("]
        .into_iter()
        .flat_map(|call| source.split(call).skip(1));
    let lines = calls.filter_map(|call| texts_of_call(call).pop());
    lines.filter(|line| line.contains(' ')).collect()
}

/// The texts within a call, up to its closing parenthesis.
fn texts_of_call(call: &str) -> Vec<String> {
    let (mut texts, mut text, mut depth) = (Vec::new(), None::<String>, 1);
    let mut characters = call.chars();
    while let Some(c) = characters.next() {
        match (&mut text, c) {
            (Some(text), '\\') => text.extend(characters.next()),
            (Some(_), '"') => texts.extend(text.take()),
            (Some(text), c) => text.push(c),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    texts
}

/// Whether a message, with `…` for varying text, describes the line.
fn fits(message: &str, line: &str) -> bool {
    let mut rest = line;
    let parts: Vec<&str> = message.split('…').collect();
    let last = parts.len() - 1;
    for (place, part) in parts.iter().enumerate() {
        let Some(at) = rest.find(part) else {
            return false;
        };
        if (place == 0 && at > 0) || (place == last && !rest.ends_with(part)) {
            return false;
        }
        rest = &rest[at + part.len()..];
    }
    last > 0 || rest.is_empty()
}

/// The source of the plugin, with texts that span several lines joined.
pub(crate) fn source() -> String {
    let mut source = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(path).unwrap();
                // Users do not see what tests log and print.
                source.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
            }
        }
    }
    let lines: Vec<&str> = source.split("\\\n").collect();
    let joined: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
    joined.concat()
}
