//! Connections: the OpenRouter management keys that the engine works with, and their paths.

mod entry;
mod fields;
mod links;
mod paths;
mod proof;

pub use entry::{ConnectionName, PREFIX};
pub use links::{Link, Links, Making};
pub use paths::paths;
