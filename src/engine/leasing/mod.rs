//! Dynamic roles: each lease has its own key, which is deleted when the lease ends.
//!
//! - [`write`]: writing, showing and deleting a dynamic role. The role itself is in
//!   [`role::dynamic`](super::role::dynamic).
//! - [`shared_key`]: reads of a rotating role, whose readers share a key.
//! - [`issue`]: reads of `creds/:name`; [`asked`]: reads that ask for less than the role allows.
//! - [`guarding`]: applies a changed guardrail to the keys under leases.
//! - [`lease`]: renewal and revocation.
//! - [`ending`]: the end of a key, and of keys whose lease the server does not have.
//! - [`usage`]: what a role's leases have spent.
//! - The records of living leases are in the [`books`](super::books).
//!
//! # Expected flow
//! 1. The intent is stored, and the key is ordered and proved, as for a rotation: see [`super::keys`].
//! 2. The intent is replaced by the record of the lease, which has the key's hash and the time until which
//!    the server may hold the lease. Only then is the key handed out.
//! 3. A renewal postpones that time before the server is told.
//! 4. A revocation deletes the key at OpenRouter, then the record. With a budget it disables the key first.
//!    Ten minutes later the key's usage is read, the unspent amount is returned to the budget, and the key is
//!    deleted.
//!
//! # Guarantees
//! - Every living key has a record that leads to it, from before it is ordered until OpenRouter has confirmed
//!   that it is gone.
//! - If the server does not have a key's lease, because the reply was lost or the server crashed before it
//!   stored the lease, the engine deletes the key when the record's time is over. If the engine is gone too,
//!   the key expires at OpenRouter shortly after the longest lease.
//! - A key never ends before its lease: the record's time is later than the server's, and the key's expiry is
//!   later than any renewal.
//!
//! # Costs
//! A read costs one key creation at OpenRouter and two storage writes; a renewal one write; a revocation one
//! deletion at OpenRouter and one write. With a budget, the end of a lease costs two more requests.

mod asked;
mod ending;
mod guardrail;
mod issue;
mod lease;
mod shared_key;
mod usage;
mod write;

pub use asked::{ASKED, Asked};
pub use ending::{end_early, give_up_waiting, lapse, overdue, watch};
pub use guardrail::{resume_guardrail, tend};
pub use issue::{View as OwnKeyView, issue};
pub use lease::secret_type;
pub use shared_key::{View as SharedKeyView, leased, secret_type as shared_secret_type, unleased};
pub use usage::{LeasesUsage, usage};
pub use write::{View as StatusView, delete, status, write};
