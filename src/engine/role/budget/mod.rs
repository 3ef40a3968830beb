//! A role's budget: an amount for each window that holds over all of the role's keys.
//!
//! - [`Amount`]: money, in whole millionths of a dollar.
//! - [`Window`]: the day, week or month that it is about. Pure date arithmetic.
//! - [`Ledger`]: what each living key was granted, and what ended keys have spent.
//! - [`Next`]: what is to be asked of OpenRouter next, from the ledger and the time.
//! - [`Reading`]: what OpenRouter says that a key has spent.
//! - [`Tally`]: what ended keys have spent in this day, week and month, and ever.
//! - [`Pool`]: the budget of a dynamic role: what ended leases have spent.
//! - [`fields`]: how a budget is written.
//!
//! Nothing here does I/O. What is done about a rotating role's budget is in `rotation::budget`, about a
//! dynamic one's in `leasing`.

mod amount;
mod fields;
mod ledger;
#[cfg(test)]
mod model;
mod next;
mod pool;
mod reading;
mod tally;
mod window;

pub use amount::Amount;
pub use fields::{FIELDS, apply, check_pooled, exclude_limit};
pub use ledger::{Begun, Grant, Ledger, Reading, SETTLED};
use next::AFTER_RESET;
pub use next::Next;
pub use pool::Pool;
pub use reading::{of_bearer, of_key};
pub use tally::{Spans, Tally};
pub use window::Window;

use serde::{Deserialize, Serialize};

use crate::openrouter::{LimitReset, Limits};

/// A role's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// What the role's keys may spend together in a window.
    pub amount: Amount,
    /// When the next window begins; `None` is never.
    pub reset: Option<LimitReset>,
}

impl Budget {
    /// How OpenRouter is to count what a key of the role's spends.
    pub fn counting(&self, include_byok: bool) -> Counting {
        Counting {
            reset: self.reset,
            include_byok,
        }
    }
}

/// How OpenRouter counts what a key spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counting {
    /// When the counter starts at zero again; `None` is never.
    pub reset: Option<LimitReset>,
    /// Whether spending on the account's own provider keys counts.
    pub include_byok: bool,
}

impl Counting {
    /// The limits of a key that may spend this much.
    pub fn limits(self, amount: Amount) -> Limits {
        Limits {
            limit: amount.as_limit(),
            reset: self.reset,
            include_byok: self.include_byok,
        }
    }
}
