//! Rotation: how a role's keys are made, replaced and revoked.
//!
//! # How it is built
//! - [`step`] names the next step from a role's stored state and the time. Pure.
//! - [`perform`] does that step, one at a time under the role's lock, and stores what came of it.
//! - [`mint`] makes a key: intent, order, proof.
//! - [`recover`] cleans up after an order of which nobody knows what came of it.
//! - [`backoff`] says when something that failed is tried again.
//!
//! # What holds, whatever dies and whenever
//! - Every key that is alive at OpenRouter is in its role's entry, or has an intent that leads to
//!   it. An intent is stored before a key is ordered, and struck out only when the key is in an
//!   entry or gone.
//! - A role always has a current key that works: one write makes the new key current and the old
//!   one superseded, and only after the new one has proved itself.
//! - A superseded key is in the role's entry until OpenRouter has confirmed that it is gone.
//! - A key dies only when its time has come by an entry that was stored before.

mod backoff;
mod intent;
mod mint;
mod paths;
mod perform;
mod recover;
mod step;

pub use backoff::{delay, failed};
pub use intent::Intents;
pub use mint::{Order, mint, strike};
pub use paths::path;
pub(crate) use perform::delete_key;
pub use perform::{apply_limits, tend};
pub use recover::{Recovery, recover};
pub use step::{MOST_SUPERSEDED, Step, next_step, rotation_due};
