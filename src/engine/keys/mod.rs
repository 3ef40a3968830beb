//! Keys at OpenRouter: how they are created and revoked, and how failed orders are recovered.
//!
//! All keys are created here, whatever their [`Purpose`]. The caller decides what a key is used for.
//!
//! # Expected flow
//! 1. [`mint()`] waits for its turn with OpenRouter, stores an [intent](crate::engine::books), orders
//!    the key, verifies it ([`prove`]), and returns it with its intent in flight.
//! 2. The caller stores the key or hands it on, and deletes the intent: [`delete_intent`].
//! 3. If one of these steps fails, the intent is adrift. [`recover()`] then searches for the key and deletes
//!    it, and the [`books`](crate::engine::books) remember the result of each search.
//!
//! [`pin()`] looks up what a role refers to; [`assign`] assigns keys to a guardrail; [`retire`] ends keys;
//! [`holdings`] and [`whose`] say whose a key is.
//!
//! # Guarantees
//! - Every living key that was created here is with its caller, or has an intent that leads to it. The intent
//!   is stored before the order, and deleted only when the key is with its caller, is gone, or cannot exist.
//! - An error of [`mint()`] leaves either no key and no intent, or an intent that is adrift. The same is true
//!   if the process dies at any point, or the future is dropped at any await.
//! - A caller that gives up while waiting for a turn leaves no intent and causes no request.
//! - While the outcome of an order for a role is unknown, the role orders no other key. What is still possible
//!   after a search has found nothing is bounded: see [`mod@recover`].
//! - All searches in one workspace through one connection share their listings.
//! - A key that is current or superseded in storage is never deleted here.
//! - A key that is ordered with a guardrail is assigned to it, and that is verified, before its caller gets it.
//!
//! # Assumptions
//! - An order that OpenRouter has received takes effect, and appears in its lists, within
//!   [`recover::SETTLED`]. If the key is created in another workspace than ordered, it is found only if the
//!   answer arrived and could be stored.
//! - One order per role at a time: callers hold the role's lock. Leases need no lock.
//!
//! # Errors
//! A definite refusal deletes the intent immediately, and so does the deletion of a key that failed its
//! verification. An unclear outcome leaves the intent adrift.

mod assign;
mod holdings;
mod mint;
mod pin;
mod presence;
mod prove;
mod recover;
mod retire;
mod unclaimed;
mod whose;

pub use assign::{Failures, Target, assign_each, half_done};
pub use holdings::{Holder, Holdings, mentioned};
pub use mint::{Minted, Order, Recipient, delete_intent, discard, mint, reject};
pub use pin::pin;
pub use presence::{Presence, is_there, presence, seen, sees_another};
pub use recover::recover;
pub use retire::{Switched, Warrant, hold, release, retire};
pub use unclaimed::{Unclaimed, prove_unclaimed};
pub use whose::{Known, Owner, State};
