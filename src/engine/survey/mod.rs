//! Reconciliation: compares the managed keys with those at OpenRouter, when the engine starts its work and at
//! every `reconcile_interval` of a connection.
//!
//! Storage can be older than OpenRouter's state, if a snapshot was restored. A server does not tell its
//! plugins about that, so every start of the work is treated as a possible restore. Also, people change keys
//! in OpenRouter's dashboard. Both are detected by listing each workspace in which roles have keys, in the
//! background, with one request per 99 keys. The expected state is in memory
//! ([`Register`](crate::engine::books::Register)): if nothing differs, this makes no storage call.
//!
//! - [`pass`]: one comparison of a connection, and when the next one is due.
//! - [`listing`]: lists the keys at a place and finds the differences. Changes nothing.
//! - [`roles`]: confirms the differences of a role's keys by hash, under the role's lock, and repairs them.
//! - [`leases`]: the same for the keys of leases, under the lease's lock.
//! - [`guardrails`]: compares the guardrail assignments of roles' and leases' keys.
//! - [`unknown`]: keys with this mount's mark that storage does not know. They are a sign of another copy of
//!   this storage, or belong to no role.
//! - [`report`]: publishes the findings.
//!
//! # Findings and actions
//! - **The current key is gone** (OpenRouter knows neither its hash nor its secret): it is no longer handed
//!   out, and is replaced if rotation is automated.
//! - **The current key was disabled:** it is no longer handed out, and is not replaced automatically, since
//!   someone may have disabled it on purpose.
//! - **The limits** of a current or leased key **were changed:** the granted limits are applied again.
//! - **A key was removed from its guardrail:** it is assigned again. A current key is not handed out until
//!   then.
//! - **A superseded key was disabled:** it stays disabled. **A held key was enabled:** it is disabled again.
//! - **A superseded, held or leased key is gone:** it is forgotten, if the management key can still see the
//!   account.
//! - **A key of a role is unknown to storage**, and was made before the work began. Its name contains the
//!   role's [`Origin`](crate::engine::names::Origin), it is neither being created nor under a lease, and
//!   OpenRouter still has it when asked under the role's lock. Applications may use it, so it is stored as a
//!   superseded key with the role's grace period. If it is newer than the current key, storage has lost a
//!   rotation, which is repeated. If the key is still in use one `ttl` later, a person has to decide.
//! - **The same, but made since the work began by another instance:** another copy of this storage is active.
//!   Until that is resolved, no more unknown keys are stored, and those that were stored are not revoked.
//! - **A key of a role that does not exist** is logged and left alone.
//!
//! All other keys at OpenRouter are ignored.

mod guardrails;
mod leases;
mod listing;
mod pass;
mod report;
mod roles;
mod unknown;

pub use listing::is_foreign;
pub use pass::{begin, elapsed, plan, reconcile};
