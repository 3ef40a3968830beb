//! Rotation: how a role's keys are replaced and revoked. How a key is made is
//! [`keys`](super::keys)'.
//!
//! # How it is built
//! - [`next_step`](crate::engine::role::rotating::next_step) names the next step from a role's stored
//!   state and the time. Pure.
//! - [`perform`] does that step, one at a time under the role's lock, and stores what came of it.
//! - [`adopt`] makes an existing key a role's first one.
//! - [`ending`] ends superseded keys, and [`restore`] brings one back.
//! - [`budget`] divides what all keys of a role may spend between them.
//! - [`next_key`] has the role's next key made, as its entry is to hold it.
//! - [`failed`](crate::engine::role::rotating::failed) is what is stored of a step that failed, and when
//!   it is tried again.
//! - [`apply_guardrail`] holds living keys to the guardrail that the role has.
//! - [`manual`] is a rotation that a person asks for; [`teardown`] revokes all that a role has, and leaves it.
//! - [`usage`] is what a role's keys have spent.
//! - [`forget`] is the way out for a role whose keys cannot be revoked.
//!
//! # What holds, whatever dies and whenever
//! - Every key that is alive at OpenRouter is in its role's entry, or has an intent that leads to
//!   it: the intent is struck out only when the key is in the entry, or gone.
//! - A role always has a current key that works: one write makes the new key current and the old
//!   one superseded, and only after the new one has proved itself.
//! - A superseded key is in the role's entry until OpenRouter has confirmed that it is gone.
//! - A key dies only when its time has come by an entry that was stored before.

mod adopt;
mod budget;
mod delete;
mod ending;
mod forget;
mod guarding;
mod last_look;
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
pub use guarding::apply_guardrail;
pub use manual::rotate_by_hand;
pub use perform::tend;
pub use restore::restore;
pub use teardown::tear_down;
pub use usage::{RoleUsage, usage};
pub use write::{create, update};
