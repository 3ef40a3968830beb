//! What keys spend, and the budgets that they have to stay within.

use super::{Account, NoSuchKey};
use crate::budgets::{Budget, effective};
use crate::calls::{Call, CallRefused};

impl Account {
    /// Begins a call with a key, as `POST /chat/completions` does, without HTTP. It is charged when it is
    /// completed.
    ///
    /// # Errors
    /// If the key does not work, a guardrail does not allow the model, or a budget is spent.
    pub fn begin_call(&self, hash: &str, model: &str) -> Result<Call, CallRefused> {
        Call::begin(self, hash, model)
    }

    /// The budgets of a key in the order in which they are checked, as enforcement knows them now.
    #[must_use]
    pub fn budgets(&self, hash: &str) -> Vec<Budget> {
        let (now, rules) = (self.now(), self.billing().rules());
        self.with(|account| {
            let key = account.key(hash);
            key.map(|key| account.budgets(key, now, rules.enforced(now)))
                .unwrap_or_default()
        })
    }

    /// The budget that refuses calls with a key now or, if none does, would be the first to do so.
    #[must_use]
    pub fn effective_budget(&self, hash: &str) -> Option<Budget> {
        effective(&self.budgets(hash)).cloned()
    }

    /// Lets a key have spent so many US dollars, all of them now.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_usage(&self, hash: &str, usd: f64) -> Result<(), NoSuchKey> {
        let now = self.now();
        self.change(hash, |key| key.usage.replace(now, usd))
    }

    /// The same for what was spent through the owner's own provider keys.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_byok_usage(&self, hash: &str, usd: f64) -> Result<(), NoSuchKey> {
        let now = self.now();
        self.change(hash, |key| key.byok_usage.replace(now, usd))
    }
}
