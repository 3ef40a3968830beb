//! What users meet: the engine's paths, one file for each family.

mod config;
mod creds;
mod forget;
mod restore_key;
mod roles;
mod rotate_role;

use super::context::Engine;
use crate::framework::Path;

pub use forget::ROOT;

/// Every path of the engine.
pub fn all() -> Vec<Path<Engine>> {
    let mut paths = config::paths();
    paths.extend(roles::paths());
    paths.extend(creds::paths());
    paths.push(rotate_role::path());
    paths.push(restore_key::path());
    paths.extend(forget::paths());
    paths
}
