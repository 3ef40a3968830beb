//! What happened in a life, line by line, so that a person can see why it failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use jiff::Timestamp;
use openrouter_simulator::Clock;

/// The story of one life.
pub(crate) struct Story {
    clock: Clock,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    lines: Vec<Line>,
    names: BTreeMap<String, String>,
    made: BTreeMap<String, usize>,
}

struct Line {
    at: Timestamp,
    /// The short names of the keys that it is about; all keys if empty.
    about: Vec<String>,
    text: String,
}

impl Story {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            told: Mutex::default(),
        }
    }

    /// An event that concerns everyone.
    pub(crate) fn tell(&self, text: impl Into<String>) {
        self.add(Vec::new(), text.into());
    }

    /// An event that concerns these keys, by their hashes or short names.
    pub(crate) fn tell_of(&self, about: &[&str], text: impl Into<String>) {
        let about = about.iter().map(|about| self.name(about)).collect();
        self.add(about, text.into());
    }

    /// A short name for the next key of a role, such as `app#3`.
    pub(crate) fn name_key(&self, hash: &str, role: &str) -> String {
        let mut told = self.told.lock().unwrap();
        let number = told.made.entry(role.to_owned()).or_default();
        *number += 1;
        let name = format!("{role}#{number}");
        told.names.insert(hash.to_owned(), name.clone());
        name
    }

    /// The short name of a key.
    pub(crate) fn name(&self, hash: &str) -> String {
        let told = self.told.lock().unwrap();
        told.names
            .get(hash)
            .map_or_else(|| hash.to_owned(), Clone::clone)
    }

    /// Everything, to be compared with another run.
    pub(crate) fn whole(&self) -> String {
        self.print(|_| true)
    }

    /// What led to a violation that concerns these keys: a page or two at most.
    pub(crate) fn of(&self, keys: &[String]) -> String {
        self.print(|line| line.about.is_empty() || line.about.iter().any(|key| keys.contains(key)))
    }

    fn add(&self, about: Vec<String>, text: String) {
        let at = self.clock.now();
        let line = Line { at, about, text };
        self.told.lock().unwrap().lines.push(line);
    }

    fn print(&self, wanted: impl Fn(&Line) -> bool) -> String {
        let told = self.told.lock().unwrap();
        let mut printed = String::new();
        for line in told.lines.iter().filter(|line| wanted(line)) {
            let at = line.at.strftime("%d %H:%M:%S%.3f");
            let _ = writeln!(printed, "{at}  {}", line.text);
        }
        printed
    }
}
