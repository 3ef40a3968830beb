//! Custody: every key that a management key sees, whose it is, and how it ends.
//!
//! - [`inventory`](mod@inventory): all keys of a connection, in every workspace.
//! - [`lookup`]: one key, over all connections, and what to do about it ([`advice`]).
//! - [`health`](mod@health): how the mount is doing, from memory.
//! - [`revoke`](mod@revoke), [`disable`](mod@disable): ending one key, or switching it off, because a person has ordered that.
//!
//! # Guarantees
//! - Whose a key is comes from one place: [`Owner`](super::keys::Owner).
//! - A listing that broke off, or ran out of time, is never passed off as complete.
//! - A current key is never revoked here, and neither is one whose outcome is unknown.
//! - A key dies because storage does not know it only behind the fence.

mod advice;
mod cursor;
mod disable;
mod health;
mod inventory;
mod lookup;
mod revoke;

pub use cursor::Cursor;
pub use disable::set_disabled;
pub use health::{MountHealth, OtherKeys, expiry, health};
pub use inventory::{Inventory, Selection, inventory};
pub use lookup::{Found, look_at, lookup};
pub use revoke::revoke;
