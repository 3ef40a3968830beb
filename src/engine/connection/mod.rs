//! Connections: the OpenRouter management keys that the engine works with, and their paths.

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod entry;
mod fields;
mod links;
mod paths;
mod proof;

pub use entry::{ConnectionName, PREFIX};
pub use links::{Link, Links, Making};
pub use paths::paths;
