//! Where a secret could have appeared: every place with its content.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::planted::Planted;

/// What is searched.
#[derive(Default)]
pub(super) struct Places(Vec<Place>);

struct Place {
    kind: &'static str,
    name: String,
    content: Vec<u8>,
}

impl Places {
    /// Adds a place of some kind.
    pub(super) fn add(&mut self, kind: &'static str, name: &str, content: impl Into<Vec<u8>>) {
        self.0.push(Place {
            kind,
            name: name.to_owned(),
            content: content.into(),
        });
    }

    /// Adds each line of a text as a place of its own.
    pub(super) fn add_lines(&mut self, kind: &'static str, text: &str) {
        for line in text.lines() {
            self.add(kind, line.get(..80).unwrap_or(line), line);
        }
    }

    /// Adds every file below a directory, by its content and by its name.
    pub(super) fn add_files(&mut self, kind: &'static str, directory: &Path) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.display().to_string();
            if path.is_dir() {
                self.add(kind, &name, name.clone());
                self.add_files(kind, &path);
            } else {
                // A socket has no content.
                let mut content = fs::read(&path).unwrap_or_default();
                content.extend_from_slice(name.as_bytes());
                self.add(kind, &name, content);
            }
        }
    }

    /// How many places of each kind there are.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for place in &self.0 {
            *counts.entry(place.kind).or_default() += 1;
        }
        counts
    }

    /// Every place that contains a secret, and which one.
    pub(super) fn with(&self, planted: &Planted) -> Vec<String> {
        let found = self.0.iter().filter_map(|place| {
            let secret = planted.found_in(&place.content)?;
            Some(format!("{secret} in {}: {}", place.kind, place.name))
        });
        found.collect()
    }
}
