//! Roles: named descriptions of the keys to hand out. What both kinds have in common is here; what only one
//! kind has is in [`rotating`] and [`dynamic`]. [`budget`] limits what all keys of a role may spend together.

pub mod budget;
pub mod dynamic;
mod entry;
pub mod fields;
mod kind;
pub mod rotating;
mod terms;
mod ttl;
mod usage;

pub use entry::Role;
pub use kind::Kind;
#[cfg(test)]
pub use terms::FIELDS as TERMS;
pub use terms::{LONGEST_KEY_NAME, Terms, TermsView};
#[cfg(test)]
pub use ttl::TTL;
pub use ttl::{DEFAULT_TTL, capped, shortened};
pub use usage::Usage;
