//! `docs/reference.md` says what this engine does: its paths and fields, and the recorded examples.

use std::{env, fs};

use super::blueprint;
use crate::framework::reference::{Example, page};

#[test]
fn the_reference_is_what_the_engine_says_of_itself() {
    let root = env!("CARGO_MANIFEST_DIR");
    let examples = format!("{root}/tests/data/reference/examples.json");
    let examples = fs::read_to_string(examples).unwrap();
    let examples: Vec<Example> = serde_json::from_str(&examples).unwrap();
    let current = page(&blueprint(), "openrouter", &examples).unwrap();
    let file = format!("{root}/docs/reference.md");
    if env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(file, current).unwrap();
        return;
    }
    let stored = fs::read_to_string(file).unwrap_or_default();
    let lines = stored.lines().zip(current.lines());
    let differs = lines.enumerate().find(|(_, (old, new))| old != new);
    assert!(
        stored == current,
        "docs/reference.md is stale (run scripts/reference); the first line that differs: {differs:?}"
    );
}
