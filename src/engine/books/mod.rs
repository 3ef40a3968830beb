//! The books: what is open now, kept in memory, and in the write-ahead log where it must outlive the
//! process.
//!
//! - [`intents`]: keys that were ordered and not confirmed yet.
//! - [`looks`]: what the looks for those that are adrift have shown.
//! - [`leases`]: the leases on keys of their own.
//! - [`ledger`]: what is still to be compared with what is at OpenRouter.

mod intents;
mod leases;
mod ledger;
mod looks;

pub use intents::{InFlight, Intent, Intents, Purpose};
pub use leases::{LeasedKey, Leases, Record};
pub use ledger::{Ledger, Owner};
pub use looks::Looks;
