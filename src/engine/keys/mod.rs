//! Minting: how a key is made at OpenRouter, and what becomes of an order that went wrong.
//!
//! Whoever needs a key comes here, for whatever [`Purpose`]; what a key is then used for is theirs.
//!
//! # Expected flow
//! 1. [`mint()`] waits for its turn with OpenRouter, stores an [`intent`], orders the key, has it
//!    proved ([`proof`]), and hands it out with its intent in flight.
//! 2. The caller stores the key, or hands it on, and strikes the intent out: [`strike`].
//! 3. Where that did not come to its end, the intent is adrift, and [`recover()`] looks for the key
//!    and deletes it; [`looks`] remembers what each look has shown.
//!
//! # Guarantees
//! - Every key that is alive at OpenRouter and was made here is with its caller, or has an intent
//!   that leads to it: an intent is stored before the order, and struck out only when the key is
//!   with its caller, or gone, or cannot exist.
//! - An error of [`mint()`] leaves either no key and no intent, or an intent that is adrift. The same
//!   holds when the process dies at any point, or the future is dropped at any await.
//! - Whoever gives up while waiting for a turn has cost nothing: no intent, no request.
//! - While it is not known what came of an order for a role, the role orders no other; what is
//!   still possible after a look has found nothing is bounded: see [`mod@recover`].
//! - All looks in one workspace through one connection share their listings.
//! - A key that is current or superseded in storage is never deleted here.
//! - A key that is ordered with a guardrail is held to it, and that is proved, before its caller gets it.
//!
//! # Assumptions
//! - An order that OpenRouter has received takes effect, and shows in its lists, within
//!   [`recover::SETTLED`], and where its answer says: in another workspace than was ordered the key
//!   is found only if that answer arrived and what it told could be stored.
//! - One order per role at a time: callers hold the role's lock. Leases need no lock.
//!
//! # Errors
//! A definite refusal strikes the intent out at once, and so does the deletion of a key that did not
//! prove itself; whatever is unclear leaves it adrift.

mod guard;
mod holdings;
mod mint;
mod pin;
mod presence;
mod prove;
mod recover;
mod retire;
mod unclaimed;
mod whose;

pub use guard::{Holding, How, assign, half_done};
pub use holdings::{Holder, Holdings, mentioned};
pub use mint::{Minted, Order, Recipient, discard, mint, reject, strike};
pub use pin::pin;
pub use presence::{Presence, is_there, presence, seen, sees_another};
pub use recover::{next_look, recover};
pub use retire::{Switched, Warrant, hold, release, retire};
pub use unclaimed::prove_unclaimed;
pub use whose::{Known, Owner, State};
