//! How a ledger follows OpenRouter's windows, and a budget that is changed.

use jiff::{SignedDuration, Timestamp};

use super::{Ledger, Reading, SETTLED};
use crate::engine::clock::after;
use crate::engine::role::budget::Budget;
use crate::engine::role::budget::amount::Amount;
use crate::engine::role::budget::window::Window;
use crate::openrouter::KeyHash;

impl Ledger {
    /// Whether a later window has begun at OpenRouter: by the reported end of its window, or, if that is
    /// missing, by a counter that has dropped or by the time at which it must have begun.
    pub fn has_rolled(&self, hash: &KeyHash, reading: Reading, now: Timestamp) -> bool {
        let Some(latest) = self.window.end().map(|end| after(end, SETTLED)) else {
            return false;
        };
        match reading.resets_at {
            Some(resets_at) => resets_at > latest,
            None => {
                let before = self.grant(hash).map_or(Amount::ZERO, |grant| grant.spent);
                reading.spent < before || latest <= now
            }
        }
    }

    /// Starts the later window that this reading shows. Nothing is spent in it yet, except by keys that have
    /// ended since. Older keys are to be lowered to their share of it. Until a reading has shown what they
    /// spend before that, they count as before.
    pub fn roll(&mut self, budget: &Budget, current: &KeyHash, reading: Reading, now: Timestamp) {
        // OpenRouter's window counts, even if the local clock is in another one.
        let before_its_end =
            |at: Timestamp| at.checked_sub(SignedDuration::from_secs(SETTLED.cast_signed()));
        let within = reading.resets_at.and_then(|at| before_its_end(at).ok());
        self.window = Window::at(self.window.reset(), within.unwrap_or(now));
        self.ended = std::mem::take(&mut self.ended_since);
        self.reset_checked = None;
        for grant in &mut self.grants {
            grant.spent = Amount::ZERO;
        }
        self.retarget(budget, current);
    }

    /// Records that the next window has not begun yet.
    pub fn has_not_rolled(&mut self, now: Timestamp) {
        self.reset_checked = Some(now);
    }

    /// Applies a changed budget or a changed way of counting. The spending of ended keys keeps counting until
    /// the window ends, and is at least `in_window`, their spending in the new window. What living keys have
    /// spent in a window that begins later than the one before is unknown until they are read again.
    pub fn rebudget(
        &mut self,
        budget: &Budget,
        current: &KeyHash,
        in_window: Amount,
        now: Timestamp,
    ) {
        if budget.reset != self.window.reset() {
            let before = std::mem::replace(&mut self.window, Window::at(budget.reset, now));
            self.reset_checked = None;
            if self.window.start() > before.start() {
                for grant in &mut self.grants {
                    grant.narrow(now);
                }
            }
        }
        self.ended = self.ended.max(in_window);
        for grant in &mut self.grants {
            // The reading was final for the window before.
            grant.is_final = false;
        }
        self.retarget(budget, current);
    }
}
