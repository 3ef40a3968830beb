//! A role's budget: an amount per window, shared by all of the role's keys.
//!
//! - [`Amount`]: money, in whole millionths of a dollar.
//! - [`Window`]: a day, week or month of the budget. Pure date arithmetic.
//! - [`Ledger`]: what each living key was granted, and what ended keys have spent.
//! - [`Next`]: the next request to OpenRouter, determined from the ledger and the time.
//! - [`Reading`]: OpenRouter's report about a key's spending.
//! - [`Report`]: the last report about a key, for those who have no ledger at hand.
//! - [`Watch`]: tells from readings when a large part of the budget is spent, an [`Alert`].
//! - [`Tally`]: what ended keys have spent today, this week, this month, and in total.
//! - [`Pool`]: the budget of a dynamic role: the spending of its ended leases.
//! - [`fields`]: the fields of a budget.
//!
//! Nothing here does I/O. The work on a rotating role's budget is in `rotation::budget`, on a dynamic role's
//! in `leasing`.

mod alert;
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

pub use alert::{ALERT_PERCENT, Alert, Level, Watch};
pub use amount::{Amount, Total};
pub use fields::{FIELDS, alert_percent, apply, check_pooled, exclude_limit};
pub use ledger::{Begun, Grant, Ledger, Reading, SETTLED};
use next::AFTER_RESET;
pub use next::Next;
pub use pool::Pool;
pub use reading::{Report, of_bearer, of_key};
pub use tally::{Spans, Tally};
pub use window::Window;

use serde::{Deserialize, Serialize};

use crate::openrouter::{LimitReset, Limits};

/// A role's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The amount that the role's keys may spend together in a window.
    pub amount: Amount,
    /// When the next window begins; `None` means never.
    pub reset: Option<LimitReset>,
}

impl Budget {
    /// How OpenRouter must count the spending of the role's keys.
    pub fn counting(&self, include_byok: bool) -> Counting {
        Counting {
            reset: self.reset,
            include_byok,
        }
    }
}

/// How OpenRouter counts a key's spending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counting {
    /// When the counter is reset to zero; `None` means never.
    pub reset: Option<LimitReset>,
    /// Whether spending on the account's own provider keys counts.
    pub include_byok: bool,
}

impl Counting {
    /// The limits of a key that may spend this amount.
    pub fn limits(self, amount: Amount) -> Limits {
        Limits {
            limit: amount.as_limit(),
            reset: self.reset,
            include_byok: self.include_byok,
        }
    }
}
