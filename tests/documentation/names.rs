//! The names that the pages quote are the engine's own: fields, values, events, paths and metrics.
//! `docs/reference.md` is generated from the engine, so its lists are correct.

use std::collections::BTreeSet;

use pulldown_cmark::{Event, Options, Parser};

use crate::links::in_docs;
use crate::metrics::{PAGE, PREFIX, explained, registered};
use crate::pages::{Block, Page};

#[test]
fn every_name_that_a_page_quotes_is_the_engines() {
    let engine = Engine::of_today();
    let (mut names, mut unknown) = (BTreeSet::new(), Vec::new());
    for page in written_by_hand() {
        unknown.extend(unknown_names(&page, &engine));
        names.extend(quoted(&page).into_iter().map(|(_, name)| name));
    }
    assert!(unknown.is_empty(), "unknown names:\n{}", unknown.join("\n"));
    assert!(names.len() > 120, "{names:?}");
    let mut foreign = FOREIGN.to_vec();
    foreign.retain(|name| !names.contains(*name));
    assert!(foreign.is_empty(), "no page quotes {foreign:?}");
}

#[test]
fn a_made_up_name_is_noticed() {
    let engine = Engine::of_today();
    let unknown = |text: &str| {
        let page = Page::of("docs/made-up.md", format!("# A page\n\n{text}\n"));
        unknown_names(&page, &engine)
    };
    for known in [
        "`rotation_grace_period=0` of `rotate-role/<name>`, `vault read sys/leases type=irrevocable`",
        "`openrouter/budget-alert`, `openrouter/*`, `vault_openrouter_keys`, `current_key_gone`",
        "| field | meaning |\n|---|---|\n| `budget`, `hash` | |",
        "| owner | meaning |\n|---|---|\n| `other_mount` | |",
        "| object | meaning |\n|---|---|\n| `colour` | |",
        "```json\n{\"key_hash\": \"d2a8\"}\n```",
        "```text\nKey         Value\n---         -----\nkey_hash    d2a8\n```",
        "```shell\nvault read openrouter/config | jq .data.workspaces\n```",
    ] {
        assert_eq!(unknown(known), [""; 0], "{known}");
    }
    for (wrong, line, name) in [
        ("The `rotation_interval` of a role", 3, "rotation_interval"),
        ("`rotation_perod=5d`", 3, "rotation_perod"),
        ("`vault write openrouter/roles/app limti=5`", 3, "limti"),
        ("`openrouter/rotated`", 3, "openrouter/rotated"),
        ("`rotate-key/<name>`", 3, "rotate-key/<name>"),
        (
            "`vault_openrouter_keys_total`",
            3,
            "vault_openrouter_keys_total",
        ),
        ("| field | |\n|---|---|\n| `colour` | |", 5, "colour"),
        ("| owner | |\n|---|---|\n| `nobody` | |", 5, "nobody"),
        ("```json\n{\"key_colour\": 1}\n```", 3, "key_colour"),
        ("```text\nkey_colour    red\n```", 3, "key_colour"),
        ("```shell\njq .data.key_colour\n```", 3, "key_colour"),
    ] {
        let expected = format!("docs/made-up.md:{line}: {name}");
        assert_eq!(unknown(wrong), [expected], "{wrong}");
    }
}

/// The engine's names.
pub(crate) struct Engine {
    /// Parameters, fields of answers, and metadata of events.
    fields: BTreeSet<String>,
    /// Values of fields and labels.
    values: BTreeSet<String>,
    events: BTreeSet<String>,
    /// With `:` instead of each varying part.
    pub(crate) paths: BTreeSet<String>,
    metrics: BTreeSet<String>,
}

impl Engine {
    pub(crate) fn of_today() -> Self {
        let mut engine = Self {
            fields: BTreeSet::new(),
            values: BTreeSet::new(),
            events: BTreeSet::new(),
            paths: BTreeSet::new(),
            metrics: registered(),
        };
        for line in Page::read("docs/reference.md").text.lines() {
            let mut names = code(line).into_iter();
            if line.trim_start().starts_with("- `") {
                engine.fields.extend(names.next());
                // Its type comes before its values.
                engine.values.extend(names.skip(1));
            } else if line.starts_with("| [`") {
                engine.paths.extend(names.next().map(|path| shape(&path)));
            } else if line.starts_with("| `openrouter/") {
                engine.events.extend(names.next());
                let (_, metadata) = line.rsplit_once(" | ").unwrap();
                engine.fields.extend(code(metadata));
            }
        }
        // The test of the metrics checks that these exist.
        let rows = explained(&Page::read(PAGE).text);
        let values = rows.into_iter().flat_map(|row| row.values);
        engine.values.extend(values);
        engine
    }

    fn knows(&self, name: &str) -> bool {
        if let Some(metric) = name.strip_prefix(PREFIX) {
            return self.metrics.contains(metric);
        }
        if name.contains('<') {
            return self.paths.contains(&shape(name));
        }
        if let Some(rest) = name.strip_prefix("openrouter/") {
            let is_path = self.paths.iter().any(|path| first_of(path) == rest);
            return is_path || self.events.contains(name);
        }
        let lists = [&self.fields, &self.values, &self.metrics];
        lists.iter().any(|list| list.contains(name)) || FOREIGN.contains(&name)
    }
}

fn written_by_hand() -> Vec<Page> {
    let mut names = in_docs();
    names.retain(|name| name != "docs/reference.md");
    names.push("README.md".to_owned());
    names.iter().map(|name| Page::read(name)).collect()
}

/// The names in a page that are not the engine's, each with its position.
fn unknown_names(page: &Page, engine: &Engine) -> Vec<String> {
    let mut unknown = quoted(page);
    unknown.retain(|(_, name)| !engine.knows(name));
    for (line, heading, name) in listed(&page.text) {
        let list = match FIELDS.contains(&heading) {
            true => &engine.fields,
            false => &engine.values,
        };
        // Others are found above.
        if !list.contains(&name) && names_in(&name).is_empty() {
            unknown.push((line, name));
        }
    }
    let place = |(line, name): (usize, String)| format!("{}:{line}: {name}", page.name);
    unknown.into_iter().map(place).collect()
}

/// The names in the code of a page, each with its line, or with the first line of its block.
fn quoted(page: &Page) -> Vec<(usize, String)> {
    let mut quoted = Vec::new();
    let parser = Parser::new_ext(&page.text, Options::ENABLE_TABLES);
    for (event, place) in parser.into_offset_iter() {
        if let Event::Code(code) = event {
            let line = page.text[..place.start].matches('\n').count() + 1;
            let names = names_in(&code).into_iter();
            quoted.extend(names.map(|name| (line, name)));
        }
    }
    for block in &page.blocks {
        let names = names_in_block(block).into_iter();
        let names = names.filter(|name| is_name(name));
        quoted.extend(names.map(|name| (block.line, name.to_owned())));
    }
    quoted
}

/// The names in a piece of code that must be the engine's. A single word can mean anything.
fn names_in(code: &str) -> Vec<String> {
    if code.starts_with("vault ") && !code.contains("openrouter/") {
        return Vec::new();
    }
    let words: Vec<&str> = code.split_whitespace().collect();
    let is_alone = words.len() == 1;
    let names = words
        .into_iter()
        .filter_map(|word| match word.split_once('=') {
            Some((field, _)) => Some(field).filter(|field| is_name(field)),
            None if word.contains("/<") => Some(word),
            None => Some(word).filter(|word| is_alone && is_name_of_the_engines(word)),
        });
    names.map(str::to_owned).collect()
}

/// Whether a single word is an event, or consists of several parts, as the names of fields do.
fn is_name_of_the_engines(word: &str) -> bool {
    let below = word.strip_prefix("openrouter/");
    let is_event = below.is_some_and(|below| !below.contains(['/', '*']));
    is_event || (is_name(word) && word.contains('_') && !word.ends_with('_'))
}

/// Words that are fields in the response in a block, or that its commands select.
fn names_in_block(block: &Block) -> Vec<&str> {
    let text = block.text.as_str();
    match &*block.language {
        "json" => {
            let parts: Vec<&str> = text.split('"').collect();
            let texts = parts.windows(2).skip(1).step_by(2);
            let keys = texts.filter(|pair| pair[1].trim_start().starts_with(':'));
            keys.map(|pair| pair[0]).collect()
        }
        "text" | "console" => {
            let rows = text.lines().filter_map(|line| line.split_once("  "));
            rows.map(|(field, _)| field).collect()
        }
        "shell" => text.split(".data.").skip(1).map(first_word).collect(),
        _ => Vec::new(),
    }
}

/// The code in the first column of tables of fields or values: line, heading, code.
fn listed(text: &str) -> Vec<(usize, &str, String)> {
    let (mut listed, mut heading, mut before) = (Vec::new(), None, "");
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("|---") {
            let is_list = |heading: &&str| FIELDS.contains(heading) || VALUES.contains(heading);
            heading = Some(first_cell(before)).filter(is_list);
        } else if !line.starts_with('|') {
            heading = None;
        } else if let Some(heading) = heading {
            let names = code(first_cell(line)).into_iter();
            listed.extend(names.map(|name| (number + 1, heading, name)));
        }
        before = line;
    }
    listed
}

/// The text between backticks in a line.
pub(crate) fn code(line: &str) -> Vec<String> {
    let code = line.split('`').skip(1).step_by(2);
    code.map(str::to_owned).collect()
}

fn first_cell(row: &str) -> &str {
    row.split('|').nth(1).unwrap_or_default().trim()
}

fn first_word(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = text.split(|c| !is_part(c));
    words.next().unwrap_or_default()
}

/// A path of the reference, or a quoted path, with `:` instead of each varying part.
fn shape(path: &str) -> String {
    let path = path.strip_prefix("openrouter/").unwrap_or(path);
    let parts = path.split('/').map(|part| match part {
        _ if part.starts_with([':', '<']) => ":",
        fixed => fixed,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The first part of a path.
pub(crate) fn first_of(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

fn is_name(word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(is_part)
}

/// The headings of tables of fields.
const FIELDS: [&str; 2] = ["field", "parameter"];

/// The headings of tables of values.
const VALUES: [&str; 4] = ["drift", "owner", "state", "`rotation_status`"];

/// Names that are not the engine's.
const FOREIGN: [&str; 22] = [
    // Vault's configuration, policies, tokens and answers, and those of its Agent.
    "allowed_parameters",
    "denied_parameters",
    "exit_on_retry_failure",
    "lease_duration",
    "lease_id",
    "lease_renewable",
    "plugin_directory",
    "required_parameters",
    "template_config",
    "token_max_ttl",
    "token_period",
    "token_ttl",
    // OpenRouter's objects.
    "allowed_api_key_hashes",
    "api_key_hashes",
    "io_logging_api_key_ids",
    // Terraform's provider, and a variable of the sample.
    "data_json",
    "disable_read",
    "write_connection",
    // Of a log line.
    "retry_at",
    // Crates and fuzz targets.
    "broker_stream",
    "request_data",
    "serde_json",
];
