//! The order of floors and rooms, and the tests that enforce it.

use std::collections::BTreeSet;

use crate::sources::files;

/// From top to bottom.
const FLOORS: [&str; 6] = [
    "engine",
    "openrouter",
    "schedule",
    "framework",
    "logical",
    "goplugin",
];

/// The rooms of the engine, from top to bottom. `mod` is the engine's own module page.
const ROOMS: [&str; 25] = [
    "mod",
    "duties",
    "paths",
    "custody",
    "runs",
    "survey",
    "rotation",
    "leasing",
    "spending",
    "events",
    "keys",
    "context",
    "books",
    "connection",
    "task",
    "keeper",
    "role",
    "names",
    "cache",
    "meters",
    "stored",
    "retry",
    "error",
    "randomness",
    "clock",
];

#[test]
fn floors_know_only_those_below_them() {
    let mut upwards = Vec::new();
    for file in files() {
        let Some(from) = FLOORS.iter().position(|floor| *floor == file.module[0]) else {
            continue;
        };
        for path in file.references() {
            let first = path.first().map_or("", String::as_str);
            let to = FLOORS.iter().position(|floor| *floor == first);
            if to.is_some_and(|to| to < from) {
                upwards.push(format!("{}: {}", file.path.display(), path.join("::")));
            }
        }
    }
    assert_eq!(upwards, [""; 0], "these know a floor above them");
}

#[test]
fn rooms_of_the_engine_know_only_those_below_them() {
    let mut upwards = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files() {
        let Some(from) = room(&file.module) else {
            continue;
        };
        seen.insert(from);
        for path in file.references() {
            if room(&path).is_some_and(|to| to < from) {
                upwards.push(format!("{}: {}", file.path.display(), path.join("::")));
            }
        }
    }
    assert_eq!(upwards, [""; 0], "these know a room above them");
    let all = BTreeSet::from_iter(0..ROOMS.len());
    assert_eq!(seen, all, "a room on the list is not there");
}

#[test]
fn one_door_leads_to_the_deletion_of_keys() {
    let doors: Vec<_> = files()
        .into_iter()
        .filter(|file| file.module[0] == "engine")
        .filter(|file| {
            [".delete_key(", ".disable_key("]
                .iter()
                .any(|call| file.text.contains(call))
        })
        .map(|file| file.module.join("::"))
        .collect();
    assert_eq!(doors, ["engine::keys::retire"]);
}

/// Which of [`ROOMS`] a crate path leads to, if it leads into the engine.
fn room(path: &[String]) -> Option<usize> {
    if path.first()? != "engine" {
        return None;
    }
    let name = path.get(1).map_or("mod", String::as_str);
    let position = ROOMS.iter().position(|room| *room == name);
    // Anything that is not a room is an item of the engine's own module page.
    Some(position.unwrap_or(0))
}
