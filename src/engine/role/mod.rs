//! Roles: named descriptions of the keys to hand out, with the keys that they have now.

mod definition;
mod delete;
mod entry;
mod fields;
mod paths;
mod status;
mod write;

pub use definition::{Definition, KeyLifetime, RotationPolicy};
pub use delete::finish_deletion;
#[cfg(test)]
pub use entry::Deletion;
pub use entry::{CurrentKey, Failure, Grace, PREFIX, Role, RoleName};
pub use paths::paths;
