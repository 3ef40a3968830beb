//! Roles: named descriptions of the keys to hand out. What the two kinds have in common is here;
//! what only one of them has is in [`super::rotating`] and [`super::dynamic`].

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod entry;
mod fields;
mod kind;
mod name;
mod paths;
mod terms;
mod ttl;

pub use entry::Role;
pub use kind::Kind;
pub use name::{PREFIX, RoleName};
pub use paths::paths;
#[cfg(test)]
pub use terms::FIELDS as TERMS;
pub use terms::{LONGEST_KEY_NAME, Terms};
#[cfg(test)]
pub use ttl::TTL;
pub use ttl::{DEFAULT_TTL, capped, shortened};
