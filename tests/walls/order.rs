//! The order of floors and rooms, and the tests that enforce it.

use std::collections::BTreeSet;

use crate::sources::{File, files};

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
    "worker",
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
    let upwards = between_floors(&files());
    assert_eq!(upwards, [""; 0], "these know a floor above them");
}

#[test]
fn rooms_of_the_engine_know_only_those_below_them() {
    let files = files();
    let upwards = between_rooms(&files);
    assert_eq!(upwards, [""; 0], "these know a room above them");
    let seen: BTreeSet<_> = files.iter().filter_map(|file| room(&file.module)).collect();
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

/// What these files name of a floor above their own.
pub(crate) fn between_floors(files: &[File]) -> Vec<String> {
    let floor = |path: &[String]| {
        let first = path.first()?;
        FLOORS.iter().position(|floor| floor == first)
    };
    upwards(files, floor)
}

/// What these files name of a room of the engine above their own.
pub(crate) fn between_rooms(files: &[File]) -> Vec<String> {
    upwards(files, room)
}

fn upwards(files: &[File], level: impl Fn(&[String]) -> Option<usize>) -> Vec<String> {
    let mut upwards = Vec::new();
    for file in files {
        let Some(from) = level(&file.module) else {
            continue;
        };
        for path in file.references() {
            if level(&path).is_some_and(|to| to < from) {
                upwards.push(format!("{}: {}", file.path.display(), path.join("::")));
            }
        }
    }
    upwards
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
