//! Checks that `docs/reference.md` describes the engine's current paths and fields, with the recorded
//! examples.

use std::{env, fs};

use super::blueprint;
use crate::framework::reference::{Example, page};

#[test]
fn the_reference_is_what_the_engine_says_of_itself() {
    let current = page(&blueprint(), "openrouter", &examples()).unwrap();
    if env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(file("docs/reference.md"), current).unwrap();
        return;
    }
    let stored = fs::read_to_string(file("docs/reference.md")).unwrap_or_default();
    let differs = first_difference(&stored, &current);
    assert_eq!(
        differs, None,
        "docs/reference.md is stale (run scripts/reference); the first line that differs"
    );
}

#[test]
fn a_stale_reference_is_noticed() {
    let current = page(&blueprint(), "openrouter", &examples()).unwrap();
    assert_eq!(first_difference(&current, &current), None);
    // A renamed parameter, a missing path, a different recorded answer, a truncated end, and no page at all.
    let renamed = current.replacen("- `rotation_period`", "- `rotation_interval`", 1);
    let (begins, _) = current.split_once("\n## `metrics`").unwrap();
    let mut other = examples();
    let answer = other
        .iter_mut()
        .find_map(|example| example.response.as_mut());
    answer.unwrap()["data"]["colour"] = "blue".into();
    let other = page(&blueprint(), "openrouter", &other).unwrap();
    let cut_off = &current[..current.len() - 1];
    for stale in [&renamed, begins, &other, cut_off, ""] {
        assert!(first_difference(stale, &current).is_some());
    }
}

/// The first line in which the page in the repository differs from the current one: its number, and both
/// lines.
fn first_difference(stored: &str, current: &str) -> Option<(usize, String, String)> {
    let (mut stored, mut current) = (stored.split('\n'), current.split('\n'));
    let mut number = 0;
    loop {
        number += 1;
        match (stored.next(), current.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => {
                let text = |line: Option<&str>| line.unwrap_or("the end of the page").to_owned();
                return Some((number, text(one), text(other)));
            }
        }
    }
}

/// The recorded examples.
fn examples() -> Vec<Example> {
    let examples = fs::read_to_string(file("tests/data/reference/examples.json")).unwrap();
    serde_json::from_str(&examples).unwrap()
}

/// A file of the repository.
fn file(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}
