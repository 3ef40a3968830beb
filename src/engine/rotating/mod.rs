//! Rotating roles: one current key that all readers share, replaced on a schedule. How it is
//! replaced is in [`super::rotation`].

mod definition;
mod delete;
mod entry;
mod fields;
mod handout;
#[cfg(test)]
pub mod sample;
mod status;
mod write;

pub use definition::{Definition, KeyLifetime, RotationPolicy};
pub use delete::{delete, finish_deletion};
#[cfg(test)]
pub use entry::Deletion;
pub use entry::{CurrentKey, Failure, Grace, Misfit, RotatingRole, Unfit};
pub use fields::FIELDS;
#[cfg(any(test, feature = "fuzzing"))]
pub use fields::apply;
pub use handout::{leased, secret_type, unleased};
pub use status::of as status;
pub use write::{create, update};
