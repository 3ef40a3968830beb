//! Rotating roles: one current key that all readers share, replaced on a schedule. Their data and their next
//! steps are here, without I/O. The work is in [`rotation`](crate::engine::rotation).

mod budgeted;
mod change;
mod definition;
mod entry;
mod failure;
mod fields;
mod guarded;
mod keys;
mod mismatch;
#[cfg(test)]
pub mod sample;
mod shared_key;
mod stage;
mod status;
mod step;

pub use change::Grace;
pub use definition::{Definition, KeyLifetime, RotationPolicy};
pub use entry::{Deletion, RotatingRole};
pub use failure::{Failure, failed};
pub use fields::{FIELDS, apply};
pub use guarded::Guarded;
pub use keys::{CurrentKey, Standing, SupersededKey};
pub use mismatch::{Mismatch, MismatchReason};
pub use shared_key::{SharedKey, Successor, Withheld};
pub use stage::{LateUse, Stage};
pub use status::{Health, Unconfirmed, View as StatusView, of as status};
pub use step::{Circumstances, MAX_SUPERSEDED, Step, next_step, rotation_due};
