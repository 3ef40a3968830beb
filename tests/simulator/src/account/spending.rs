//! The spending of keys, and their budgets.

use super::{Account, NoSuchKey};
use crate::budgets::{Budget, effective};
use crate::calls::{Call, CallRefused};

impl Account {
    /// Starts a call with a key, as `POST /chat/completions` does, without HTTP. It is charged on
    /// completion.
    ///
    /// # Errors
    /// If the key does not work, a guardrail does not allow the model, or a budget is exhausted.
    pub fn begin_call(&self, hash: &str, model: &str) -> Result<Call, CallRefused> {
        Call::begin(self, hash, model)
    }

    /// The budgets of a key in the order of enforcement, as enforcement knows them now.
    #[must_use]
    pub fn budgets(&self, hash: &str) -> Vec<Budget> {
        let (now, rules) = (self.now(), self.billing().rules());
        self.with(|account| {
            let key = account.key(hash);
            key.map(|key| account.budgets(key, now, rules.enforced(now)))
                .unwrap_or_default()
        })
    }

    /// The budget that rejects calls with a key now; if there is none, the first one that would.
    #[must_use]
    pub fn effective_budget(&self, hash: &str) -> Option<Budget> {
        effective(&self.budgets(hash)).cloned()
    }

    /// Sets what a key has spent, in US dollars, all of it now.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_usage(&self, hash: &str, usd: f64) -> Result<(), NoSuchKey> {
        let now = self.now();
        self.change(hash, |key| key.usage.replace(now, usd))
    }

    /// The same for spending through the owner's own provider keys.
    ///
    /// # Errors
    /// See [`Account::delete_key`].
    pub fn set_byok_usage(&self, hash: &str, usd: f64) -> Result<(), NoSuchKey> {
        let now = self.now();
        self.change(hash, |key| key.byok_usage.replace(now, usd))
    }
}
