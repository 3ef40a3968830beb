//! The examples of `fuzz/seeds`, and a few thousand inputs derived from them for each target.
//!
//! Every input that the fuzzer finds to break an invariant is added to the examples.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

use super::{answer, broker_stream, cron, duration, request_data};

#[test]
fn any_request_data_is_refused_in_words_or_makes_something_that_can_be_stored() {
    hold("request_data", request_data);
}

#[test]
fn any_cron_schedule_is_refused_in_words_or_has_a_first_next_occurrence() {
    hold("cron", cron);
}

#[test]
fn any_duration_is_refused_in_words_or_is_the_number_of_seconds_it_says() {
    hold("duration", duration);
}

#[test]
fn any_broker_stream_announces_each_service_at_most_once() {
    hold("broker_stream", broker_stream);
}

#[test]
fn any_answer_has_a_meaning_that_shows_no_key() {
    hold("answer", answer);
}

/// `fuzz/` needs a nightly compiler that not everybody has. This test keeps it up to date.
#[test]
fn every_target_of_the_fuzzer_is_one_of_these_functions() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let names = [
        "answer",
        "broker_stream",
        "cron",
        "duration",
        "request_data",
    ];
    for folder in ["fuzz_targets", "seeds"] {
        let files = fs::read_dir(fuzz.join(folder)).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let mut found: Vec<String> = files
            .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        found.sort();
        assert_eq!(found, names, "{folder}");
    }
    for name in names {
        let target = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        let call = format!("fuzz_target!(|input: &[u8]| invariants::{name}(input));");
        assert!(target.contains(&call), "{target}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")));
    }
}

/// Tries every example of the target, and inputs derived from them.
fn hold(target: &str, holds: fn(&[u8])) {
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        println!("{target}: {name}");
        holds(seed);
    }
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, seed)| seed).collect();
    let config = Config {
        cases: CASES,
        // A failing input is added to the examples.
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&input(seeds), |input| {
            holds(&input);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{target}: {failure}"));
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut seeds: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|file| (file.display().to_string(), fs::read(&file).unwrap()))
        .collect();
    // Directory entries have no order, and the same random numbers must give the same input.
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has no examples");
    seeds
}

/// An example with some changes, as a fuzzer makes them.
fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec(change(seeds.clone()), 0..6);
    (select(seeds), changes).prop_map(|(seed, changes)| {
        changes
            .into_iter()
            .fold(seed, |input, change| change.made_to(input))
    })
}

#[derive(Clone, Debug)]
enum Change {
    /// Replaces a range of bytes.
    Replace(Index, Index, Vec<u8>),
    /// Repeats a range of bytes.
    Repeat(Index, Index),
    /// Appends the end of another example.
    Splice(Index, Vec<u8>, Index),
}

fn change(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    let tricky = select(TRICKY).prop_map(|text| text.as_bytes().to_vec());
    let bytes = prop_oneof![vec(any::<u8>(), 0..4), tricky];
    prop_oneof![
        (place(), place(), bytes).prop_map(|(from, to, bytes)| Change::Replace(from, to, bytes)),
        (place(), place()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (place(), select(seeds), place())
            .prop_map(|(at, other, from)| { Change::Splice(at, other, from) }),
    ]
}

impl Change {
    fn made_to(self, mut input: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Replace(from, to, bytes) => {
                let from = from.index(input.len() + 1);
                // Mostly a few bytes: the parsers reject inputs that differ too much from an example at
                // once.
                let to = (from + to.index(4)).min(input.len());
                input.splice(from..to, bytes);
            }
            Self::Repeat(from, to) => {
                let from = from.index(input.len() + 1);
                let to = from + to.index(input.len() + 1 - from);
                let part = input[from..to].to_vec();
                input.splice(to..to, part);
            }
            Self::Splice(at, other, from) => {
                input.truncate(at.index(input.len() + 1));
                input.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
        input
    }
}

/// Inputs that often break parsers.
const TRICKY: &[&str] = &[
    "",
    "-",
    "+",
    "0",
    "-1",
    "9223372036854775808",
    "1e999",
    "null",
    "{}",
    "[]",
    "\"",
    "\\u0000",
    "\u{0}",
    "\n",
    "\u{202e}",
    "é",
    "@",
    "*/",
    "1-",
    ",",
    "d",
    "µs",
    ".",
    " ",
];

const CASES: u32 = 3_000;
