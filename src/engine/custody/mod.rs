//! Custody: every key that a management key can see, its owner, and how it is revoked.
//!
//! - [`inventory`](mod@inventory): all keys of a connection, in every workspace.
//! - [`lookup`]: one key, over all connections, and what to do about it ([`advice`]).
//! - [`health`](mod@health): the health of the mount, from memory.
//! - [`revoke`](mod@revoke), [`disable`](mod@disable): a person revokes or disables one key.
//!
//! # Guarantees
//! - The owner of a key is determined in one place: [`Owner`](super::keys::Owner).
//! - A listing that failed or ran out of time is never reported as complete.
//! - A current key is never revoked here, and neither is one whose outcome is unknown.
//! - A key that is unknown to storage is deleted only behind the fence.

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
pub use lookup::{Found, lookup, read_key};
pub use revoke::revoke;
