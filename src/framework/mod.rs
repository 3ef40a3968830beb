//! The equivalent of Vault's Go SDK for engines in Rust: paths with typed fields, help and OpenAPI
//! generated from them, secret types with leases, a write-ahead log, and locks.
//!
//! An engine describes itself with a [`Blueprint`] and is served as a [`Backend`], which implements
//! [`crate::logical::Backend`]. Nothing here knows what the engine does, or how the host's calls
//! arrive.

mod answer;
mod backend;
mod blueprint;
pub mod duration;
mod event;
mod field;
mod fields;
mod help;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../invariants/framework.rs"]
pub(crate) mod invariants;
mod locks;
mod openapi;
mod path;
mod pattern;
pub mod reference;
#[cfg(test)]
mod sample;
mod secret;
pub mod wal;

pub use answer::{Names, Table};
pub use backend::Backend;
pub use blueprint::{Blueprint, Lifecycle};
pub use event::EventKind;
pub use field::{Field, FieldKind, FieldValue};
pub use fields::{Fields, InvalidField};
pub use locks::{Held, Locks};
pub use path::{Call, Endpoint, Outcome, Path};
pub use pattern::{Captures, Pattern, is_name};
pub use secret::{SecretType, lease_data, under_lease, under_lease_with};
