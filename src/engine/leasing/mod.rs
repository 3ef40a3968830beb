//! Dynamic roles: a key of its own for every lease, gone when the lease is.
//!
//! - [`write`]: how a dynamic role is written, shown and deleted; what it is, is in
//!   [`role::dynamic`](super::role::dynamic).
//! - [`shared_key`]: a read of a rotating role, whose readers share a key.
//! - [`issue`]: a read of `creds/:name`; [`asked`]: a reader who asks for less than the role allows.
//! - [`guarding`]: holding keys under leases to another guardrail.
//! - [`lease`]: renewal and revocation.
//! - [`ending`]: the end of a key, and what becomes of one whose lease nobody knows of.
//! - [`usage`]: what a role's leases have spent.
//! - The records of those that are alive are in the [`books`](super::books).
//!
//! # Expected flow
//! 1. The intent is stored and the key ordered and proved, as for a rotation: see
//!    [`super::keys`].
//! 2. The intent becomes the record of the lease: it has the key's hash now, and the time until
//!    which the server may hold the lease. Only then is the key handed out.
//! 3. A renewal puts that time off, before the server hears of it.
//! 4. A revocation deletes the key at OpenRouter, then the record. Under a budget it disables the key;
//!    ten minutes later the key is read, what it did not spend is free again, and it is deleted.
//!
//! # Guarantees
//! - A key that is alive has a record that leads to it, from before it was ordered until OpenRouter
//!   has confirmed that it is gone.
//! - A key whose lease the server does not have is deleted by the engine itself when the record's
//!   time is over: the reply was lost, or the server died before it stored the lease. Should the
//!   engine be gone too, the key expires at OpenRouter a little after the longest lease.
//! - A key with a lease does not die before the lease does: the record's time is later than the
//!   server's, and the expiry later than any renewal.
//!
//! # Costs
//! A read is one order at OpenRouter and two storage writes; a renewal one write; a revocation one
//! deletion at OpenRouter and one write. Under a budget the end is two requests more.

mod asked;
mod ending;
mod guarding;
mod issue;
mod lease;
mod shared_key;
mod usage;
mod write;

pub use asked::{ASKED, Asked};
pub use ending::{end_early, give_up_waiting, lapse, overdue, watch};
pub use guarding::{resume_guardrail, tend};
pub use issue::{View as OwnKeyView, issue};
pub use lease::secret_type;
pub use shared_key::{View as SharedKeyView, leased, secret_type as shared_secret_type, unleased};
pub use usage::{LeasesUsage, usage};
pub use write::{View as StatusView, delete, status, write};
