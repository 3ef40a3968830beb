//! The engine's paths, one file per family.

mod config;
mod creds;
mod custody;
mod forget;
mod keys;
mod lookup;
mod metrics;
mod restore_key;
mod roles;
mod rotate_role;
mod runs;
mod status;
mod usage;

use super::context::Engine;
use crate::framework::{Fields, Path};

/// The paths that need `sudo`: their effects reach beyond the roles of this mount, or they leave keys behind.
pub const ROOT: [&str; 5] = [
    "forget-role/*",
    "forget-connection/*",
    "revoke-key/*",
    "disable-key/*",
    "teardown",
];

/// Every path of the engine.
pub fn all() -> Vec<Path<Engine>> {
    let mut paths = config::paths();
    paths.extend(roles::paths());
    paths.extend(creds::paths());
    paths.push(rotate_role::path());
    paths.push(restore_key::path());
    paths.push(usage::path());
    paths.extend(forget::paths());
    paths.extend(keys::paths());
    paths.push(lookup::path());
    paths.extend(custody::paths());
    paths.extend(runs::paths());
    paths.push(status::path());
    paths.push(metrics::path());
    paths
}

/// A segment of the path. It always exists in a path that matched.
fn field_of_path<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.text(name).unwrap_or_default()
}
