//! Rotation: how a role's keys are replaced and revoked. How a key is made is described in
//! [`keys`](super::keys).
//!
//! # Parts
//! - [`next_step`](crate::engine::role::rotating::next_step) determines the next step from a role's stored
//!   state and the time. It is pure.
//! - [`perform`] performs that step under the role's lock and stores the result.
//! - [`adopt`] makes an existing key a role's first key; [`candidate`] checks that key before.
//! - [`ending`] ends superseded keys, and [`restore`] restores one.
//! - [`budget`] divides a role's budget among its keys.
//! - [`next_key`] makes the role's next key.
//! - [`failed`](crate::engine::role::rotating::failed) is the record of a failed step, with the time of its
//!   retry.
//! - [`apply_guardrail`] applies the role's guardrail to its living keys.
//! - [`manual`] is a rotation that a person requests; [`teardown`] revokes all keys of a role and keeps the
//!   role.
//! - [`usage`] is what a role's keys have spent.
//! - [`forget`] removes a role whose keys cannot be revoked.
//!
//! # Guarantees, even if the process dies at any point
//! - Every key that is alive at OpenRouter is in its role's entry, or has an intent that leads to it. The
//!   intent is deleted only when the key is in the entry or gone.
//! - A role always has a current key that works: a single write makes the new key current and the old one
//!   superseded, after the new key has proved that it works.
//! - A superseded key stays in the role's entry until OpenRouter has confirmed that it is gone.
//! - A key is ended only if it is due according to an entry that was stored before.

mod adopt;
mod budget;
mod candidate;
mod delete;
mod ending;
mod forget;
mod guardrail;
mod last_check;
mod manual;
mod next_key;
mod perform;
mod restore;
mod teardown;
mod usage;
mod write;

pub use adopt::adopt;
pub use delete::delete;
pub use ending::{revoke_all, revoke_early};
pub use forget::forget;
pub use guardrail::apply_guardrail;
pub use manual::rotate_manually;
pub use perform::tend;
pub use restore::restore;
pub use teardown::tear_down;
pub use usage::{RoleUsage, usage};
pub use write::{create, update};
