//! Reconciliation: comparing what is managed with what is at OpenRouter, when the engine begins its work
//! and every `reconcile_interval` of a connection.
//!
//! Storage can be older than OpenRouter's state: somebody restored a snapshot. A server does not tell its
//! plugins of that, so every start of the work is taken for one. And people change keys in OpenRouter's
//! dashboard. Both are found by one listing of each workspace in which roles have keys, in the
//! background, with one request for 99 keys. What is expected is in memory
//! ([`Register`](crate::engine::books::Register)): as long as nothing differs, it costs no storage call.
//!
//! - [`pass`]: one comparison of a connection, and when the next one is due.
//! - [`listing`]: going through the keys at a place, and what differs there. Nothing is done about it.
//! - [`roles`]: what differs of a role's keys, confirmed by hash under the role's lock, and put right.
//! - [`leases`]: the same for the keys of leases, under the lock of the lease.
//! - [`guardrails`]: which keys are held to their guardrails, of roles and leases alike.
//! - [`unknown`]: keys with this mount's mark that nobody has: taken in by their role, or a sign of another
//!   copy of this storage.
//! - [`report`]: where findings are said.
//!
//! # What is found, and what is done
//! - **A current key that is gone** (OpenRouter knows neither its hash nor its secret) is not handed out
//!   any more, and replaced if rotation is automated.
//! - **A current key that is disabled:** somebody pulled the plug. It is not handed out, and not replaced
//!   by itself.
//! - **Limits that were changed** of a current or leased key: what was granted is applied again.
//! - **A key that is not held to its guardrail any more:** it is assigned again, and not handed out before.
//! - **A superseded key that is disabled** is left so. **A held key that is enabled** is disabled again.
//! - **A superseded, held or leased key that is gone** is forgotten, if the management key still sees the
//!   account.
//! - **A key of a role's that no entry has**, made before the work began. Its name says so
//!   ([`Origin`](crate::engine::names::Origin)), it is neither in the making nor under a lease, and
//!   OpenRouter still knows it when asked under the role's lock. Applications may hold it, so it is taken
//!   in as a superseded key, with the role's grace period. If it is newer than the current key, a rotation
//!   was forgotten, and is done again. One that is still in use one `ttl` later waits for a person.
//! - **The same, made since the work began, and not by this instance:** another copy of this storage is at
//!   work. While that stands nothing is taken in, and what was taken in is not revoked.
//! - **A key of a role that does not exist** is named in the log, and left alone.
//!
//! Whatever else is at OpenRouter is somebody else's, and not looked at.

mod guardrails;
mod leases;
mod listing;
mod pass;
mod report;
mod roles;
mod unknown;

pub use listing::is_foreign;
pub use pass::{begin, going_on, plan, reconcile};
