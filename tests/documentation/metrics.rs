//! The table of metrics in `docs/monitoring.md` has exactly the engine's metrics, with their labels and
//! values.

use std::collections::BTreeSet;
use std::fs;

use crate::messages::source;
use crate::names::{Engine, code, first_of};
use crate::pages::{Page, root};

#[test]
fn every_metric_is_explained_and_no_other() {
    let rows = explained(&Page::read(PAGE).text);
    assert_eq!(names(&rows), registered());
    let source = source();
    let paths = Engine::of_today().paths;
    for row in rows {
        for text in row.labels.iter().chain(&row.values) {
            let is_in_source = source.contains(&format!("\"{text}\""));
            let is_path = paths.iter().any(|path| first_of(path) == text.as_str());
            assert!(is_in_source || is_path, "{:?}: {text}", row.names);
        }
    }
}

#[test]
fn a_metric_that_is_missing_or_renamed_is_noticed() {
    let page = Page::read(PAGE).text;
    assert!(registered().len() > 20, "{:?}", registered());
    let renamed = page.replacen("| `holds_total`", "| `held_total`", 1);
    let lines = page.lines();
    let missing: Vec<&str> = lines
        .filter(|line| !line.starts_with("| `two_copies`"))
        .collect();
    for wrong in [renamed, missing.join("\n")] {
        assert_ne!(wrong, page);
        assert_ne!(names(&explained(&wrong)), registered());
    }
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) names: Vec<String>,
    pub(crate) labels: Vec<String>,
    /// The quoted names in the row's explanation.
    pub(crate) values: Vec<String>,
}

/// The rows of the table in the text of the page.
pub(crate) fn explained(page: &str) -> Vec<Row> {
    let heading = format!("| name, after `{PREFIX}` | labels | meaning |\n|---|---|---|\n");
    let (_, table) = page.split_once(&heading).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(code);
        let mut next = || cells.next().unwrap();
        Row {
            names: next(),
            labels: next(),
            values: next(),
        }
    })
    .collect()
}

fn names(rows: &[Row]) -> BTreeSet<String> {
    rows.iter().flat_map(|row| row.names.clone()).collect()
}

/// The engine's metrics without the prefix, from the source that registers them: a name, followed by its
/// help.
pub(crate) fn registered() -> BTreeSet<String> {
    let mut metrics = BTreeSet::new();
    for (file, counts) in [
        ("src/engine/meters.rs", true),
        ("src/engine/paths/metrics.rs", false),
    ] {
        let source = fs::read_to_string(root().join(file)).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        // Code and texts in turn.
        let parts: Vec<&str> = source.split('"').collect();
        for four in parts.windows(4).step_by(2) {
            let [before, name, between, help] = four else {
                continue;
            };
            if between.trim() != "," || !help.starts_with(char::is_uppercase) {
                continue;
            }
            let before = before.trim_end();
            let suffix = match counts {
                true if before.ends_with("register_with_unit(") => "_seconds",
                true => "_total",
                false if before.ends_with(".count(") => "",
                false => "_timestamp_seconds",
            };
            metrics.insert(format!("{name}{suffix}"));
        }
    }
    metrics
}

/// The prefix of every metric's name.
pub(crate) const PREFIX: &str = "vault_openrouter_";

/// The page that explains them.
pub(crate) const PAGE: &str = "docs/monitoring.md";
