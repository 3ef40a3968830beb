//! Made-up sources with an upward reference, in each form in which Rust can express it. The walls detect all
//! of them.

use std::path::Path;

use crate::order::{between_floors, between_rooms};
use crate::sources::File;

/// What the walls report about a file of a low room.
fn complaints(text: &str) -> Vec<String> {
    let path = Path::new("engine/keys/mint.rs");
    let complaints = between_rooms(&[File::new(path, text.to_owned())]);
    let of_the_file = complaints.iter().map(|one| one.split_once(": ").unwrap());
    of_the_file
        .map(|(file, named)| {
            assert_eq!(Path::new(file), path);
            named.to_owned()
        })
        .collect()
}

#[test]
fn what_is_below_may_be_named() {
    let allowed = "
        use super::retire::{Warrant, retire};
        use super::super::books::Intent;
        use crate::engine::{clock::after, keys::holdings::{self, Holdings}, role::budget::*};
        pub(in crate::engine::keys) fn f() -> crate::engine::books::Finding { g(crate::openrouter::Key::new()) }
    ";
    assert_eq!(complaints(allowed), [""; 0]);
}

#[test]
fn an_import_of_a_room_above_is_noticed() {
    for import in [
        "use crate::engine::paths::config;",
        "pub use crate::engine::paths::config;",
        "use crate::engine::paths::config as settings;",
        "use super::super::paths::config;",
        "use super::{super::paths::config};",
        "use super::super::{paths::config};",
        "mod tests { use super::super::super::paths::config; }",
        "mod tests { mod more { use crate::engine::paths::config; } }",
    ] {
        assert_eq!(complaints(import), ["engine::paths::config"], "{import}");
    }
}

#[test]
fn a_room_above_is_noticed_in_nested_braces_and_beside_what_is_allowed() {
    let imports = "use crate::{engine::{books::{Intent, Looks}, paths::{self, config::{Fields, read}}}, openrouter::Key};";
    let all = [
        "engine::paths",
        "engine::paths::config::Fields",
        "engine::paths::config::read",
    ];
    assert_eq!(complaints(imports), all);
}

#[test]
fn whoever_takes_in_all_of_the_engine_is_noticed() {
    for import in [
        "use crate::engine;",
        "use crate::engine as all;",
        "use super::super::*;",
        "use crate::engine::{self, books::Intent};",
    ] {
        assert_eq!(complaints(import), ["engine"], "{import}");
    }
}

#[test]
fn a_room_above_is_noticed_in_the_middle_of_the_code() {
    for code in [
        "fn f() { crate::engine::paths::config() }",
        "fn f(fields: &[crate::engine::paths::config]) {}",
        "fn f() { let all = Vec::<crate::engine::paths::config>::new(); }",
        "fn f() { super::super::paths::config(); }",
        "fn f() { tracing::info!(%crate::engine::paths::config); }",
        "impl crate::engine::paths::config for Order {}",
        "macro_rules! f { () => { $crate::engine::paths::config } }",
        "fn f() { if let [crate::engine::paths::config] = g() {} }",
    ] {
        assert_eq!(complaints(code), ["engine::paths::config"], "{code}");
    }
}

#[test]
fn words_in_texts_and_comments_are_no_paths() {
    let words = "
        //! See [`crate::engine::paths`].
        /// As [`super::super::paths`] says.
        fn f() { g(\"crate::engine::paths\"); /* crate::engine::paths */ }
    ";
    assert_eq!(complaints(words), [""; 0]);
}

#[test]
fn a_floor_above_is_noticed() {
    for (path, text) in [
        ("framework/wal.rs", "use crate::engine::Engine;"),
        ("goplugin/mod.rs", "use crate::{logical::Storage};"),
        ("schedule/cron.rs", "fn f(key: crate::openrouter::Key) {}"),
        ("openrouter/client.rs", "use super::super::engine::clock;"),
    ] {
        let file = File::new(Path::new(path), text.to_owned());
        assert_eq!(between_floors(&[file]).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        (
            "engine/mod.rs",
            "use crate::{framework, goplugin, openrouter::Key};",
        ),
        (
            "framework/wal.rs",
            "use crate::logical::Storage; use super::Fields;",
        ),
    ] {
        let file = File::new(Path::new(path), text.to_owned());
        assert_eq!(between_floors(&[file]), [""; 0], "{path}: {text}");
    }
}
