//! What users meet: the engine's paths, one file for each family.

mod config;
mod creds;
mod forget;
mod roles;
mod rotate_role;
mod usage;

use super::context::Engine;
use crate::framework::Path;

pub use forget::ROOT;

/// Every path of the engine.
pub fn all() -> Vec<Path<Engine>> {
    let mut paths = config::paths();
    paths.extend(roles::paths());
    paths.extend(creds::paths());
    paths.push(rotate_role::path());
    paths.push(usage::path());
    paths.extend(forget::paths());
    paths
}
