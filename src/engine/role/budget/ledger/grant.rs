//! What the ledger knows of one key.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::clock::after;
use crate::engine::role::budget::Counting;
use crate::engine::role::budget::amount::Amount;
use crate::engine::role::rotating::Failure;
use crate::openrouter::{KeyHash, Limits};

/// The grant of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The key.
    pub hash: KeyHash,
    /// The last limit that OpenRouter has confirmed.
    pub limit: Amount,
    /// How OpenRouter counts the key's spending.
    pub counting: Counting,
    /// Its spending in the window, by the last reading.
    pub spent: Amount,
    /// The limit to lower it to; `None` if it is not to be lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Amount>,
    /// A limit call with an unknown outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::engine::role::budget) pending: Option<Pending>,
    /// What it could spend before it was lowered, until its actual spending is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::engine::role::budget) unread: Option<Pending>,
    /// When it was disabled in order to be ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Timestamp>,
    /// Whether `spent` is its final reading, taken long enough after it was disabled. It is not deleted yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::engine::role::budget) is_final: bool,
    /// Why it could not be read or changed, if it is not the current key. Such a failure does not delay other
    /// keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A possible amount, until a reading some time after `since` has shown the actual one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::engine::role::budget) struct Pending {
    /// The highest possible amount.
    pub(in crate::engine::role::budget) most: Amount,
    /// Since when it is possible.
    pub(in crate::engine::role::budget) since: Timestamp,
}

impl Grant {
    pub(super) fn new(hash: KeyHash, limit: Amount, counting: Counting) -> Self {
        Self {
            hash,
            limit,
            counting,
            spent: Amount::ZERO,
            target: None,
            pending: None,
            unread: None,
            disabled_at: None,
            is_final: false,
            failure: None,
        }
    }

    /// Records that from now on the key may have spent this much, until a later reading.
    pub(super) fn doubt(&mut self, could_spend: Amount, now: Timestamp) {
        let earlier = self.unread.map_or(Amount::ZERO, |unread| unread.most);
        self.unread = Some(Pending {
            most: earlier.max(could_spend),
            since: now,
        });
    }

    /// Records that the window begins later than the one in which the key was read: what was read is still
    /// possible, but no longer certain, so the key cannot keep it as its share.
    pub(super) fn narrow(&mut self, now: Timestamp) {
        let read = std::mem::take(&mut self.spent);
        if !read.is_zero() {
            self.doubt(read, now);
        }
    }

    /// Times from a clock that was ahead are corrected.
    pub(super) fn correct(&mut self, now: Timestamp) {
        for possible in [&mut self.pending, &mut self.unread].into_iter().flatten() {
            possible.since = possible.since.min(now);
        }
        self.disabled_at = self.disabled_at.map(|at| at.min(now));
    }

    /// Whether a reading now is final, since the key was disabled long enough ago.
    pub(super) fn has_settled(&self, now: Timestamp) -> bool {
        self.disabled_at
            .is_some_and(|disabled_at| after(disabled_at, SETTLED) <= now)
    }

    /// The most that the key was ever granted from the budget, or has spent.
    pub(super) fn granted(&self) -> Amount {
        if self.is_final {
            return self.counts();
        }
        let possible = [self.pending, self.unread].into_iter().flatten();
        let possible = possible.map(|possible| possible.most).chain([self.limit]);
        let granted = possible.filter(|most| *most != Amount::UNLIMITED);
        granted.fold(self.spent, Amount::max)
    }

    /// The most that the key may be able to spend in the window.
    pub fn counts(&self) -> Amount {
        let possible = [self.pending, self.unread];
        let possible = possible.into_iter().flatten().map(|pending| pending.most);
        let certain = if self.is_final {
            self.spent
        } else {
            self.limit.max(self.spent)
        };
        possible.fold(certain, Amount::max)
    }

    /// The limits that OpenRouter has confirmed; `None` if they are unclear.
    pub fn settled_limits(&self) -> Option<Limits> {
        let is_settled = self.pending.is_none() && self.limit != Amount::UNLIMITED;
        is_settled.then(|| self.counting.limits(self.limit))
    }

    /// Whether it is certain what the key may spend, or, if it is disabled, what it has spent.
    pub fn is_certain(&self) -> bool {
        self.pending.is_none() && self.counts() != Amount::UNLIMITED
    }

    /// The limit for an older key that is restored: what it has spent plus a share of what is `left`, but
    /// never less than it may have already.
    pub fn wanted_again(&self, left: Amount) -> Amount {
        let with_share = self.spent.plus(left.percent(SHARE));
        if self.is_final {
            with_share
        } else {
            with_share.max(self.limit)
        }
    }

    /// Whether a pending call may still raise its limit.
    pub fn may_rise(&self) -> bool {
        self.may_rise_over(self.limit)
    }

    /// Whether a pending call may still raise its limit above this one.
    pub fn may_rise_over(&self, limit: Amount) -> bool {
        self.pending.is_some_and(|pending| pending.most > limit)
    }
}

impl Pending {
    /// When a reading shows the actual amount.
    pub(in crate::engine::role::budget) fn settles_at(self) -> Timestamp {
        after(self.since, SETTLED)
    }
}

/// The share of all older keys during their grace periods, in percent of what is left.
pub(super) const SHARE: u64 = 10;

/// In seconds. After this time a call has taken effect or never will, and a reading shows what was spent by
/// then.
pub const SETTLED: u64 = 10 * 60;
