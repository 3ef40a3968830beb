//! Comparing what is stored with what is at OpenRouter, when the engine begins its work.
//!
//! Storage can be older than OpenRouter's state: somebody restored a snapshot. Then roles were
//! rotated of which their entries know nothing: the current key is gone, or is about to be, and the
//! key in its place is one whose secret nobody knows. A server does not tell its plugins of that, so
//! every start of the work is taken for one: it costs one listing of each place that rotating roles
//! have keys in, in the background.
//!
//! # What is found, and what is done
//! - **A key of a role's that no entry has.** Its name says so ([`Origin`]), it is neither in the
//!   making nor under a lease, and OpenRouter still knows it when asked under the role's lock.
//!   Applications may hold it, so it is taken in as a superseded key, with the role's grace period. If
//!   it is newer than the current key, a rotation was forgotten, and is done again.
//! - **A current key that is gone:** OpenRouter knows neither its hash nor its secret. (A management
//!   key of another account does not know the hash either, but the secret still works.) It is not
//!   handed out any more, and replaced if rotation is automated.
//! - **A key that is not held to its guardrail any more:** it is assigned again, and not handed out before.
//! - **A key of a role that does not exist** is named in the log, and left alone.
//!
//! Whatever else is at OpenRouter is somebody else's, and not looked at.

mod compare;
mod guardrails;
mod settle;

pub use compare::{begin, going_on, reconcile};
