//! Calls in flight: a test decides how much time passes between the check of the budgets and the
//! charge.
//!
//! OpenRouter charges a call when it completes, so changes to the key in the meantime (a reset, a new
//! limit, deletion) do not undo the charge. Completions over HTTP and calls that a test starts directly
//! are handled alike.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

use crate::account::Account;
use crate::billing::{ChargedIn, Price};
use crate::budgets::{Budget, exhausted};
use crate::spending::Seen;
use crate::state::AccountState;

/// A call that has started and was not charged yet. If it is dropped, it has failed and costs nothing.
#[must_use = "a call that is dropped is never charged"]
pub struct Call {
    account: Account,
    key: usize,
    price: Price,
    entry: CallInFlight,
    completed: Arc<Notify>,
}

/// The visible part of a call in flight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallInFlight {
    /// Counted from 1 since the start.
    pub number: u64,
    /// The key that is charged.
    pub key_hash: String,
    /// The requested model.
    pub model: String,
    /// When it began.
    pub started_at: Timestamp,
}

/// Why a call does not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallRefused {
    /// There is no such key, or it is disabled, expired or deleted.
    #[error("the key does not work")]
    KeyDoesNotWork,
    /// A guardrail does not allow the model.
    #[error("a guardrail of the key does not allow the model")]
    ModelNotAllowed,
    /// This budget is spent.
    #[error("a budget of the key is spent")]
    Exhausted(Box<Budget>),
}

/// The calls in flight of one simulator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<Register>>);

#[derive(Debug, Default)]
struct Register {
    begun: u64,
    in_flight: BTreeMap<u64, (CallInFlight, Arc<Notify>)>,
}

impl Call {
    /// Starts a call, if the key works and enforcement knows no reason to reject it.
    pub(crate) fn begin(account: &Account, hash: &str, model: &str) -> Result<Self, CallRefused> {
        let (now, rules) = (account.now(), account.billing().rules());
        let key = account.with(|state| state.admit(hash, model, now, rules.enforced(now)))?;
        let (entry, completed) = account.billing().calls.enter(hash, model, now);
        Ok(Self {
            account: account.clone(),
            key,
            price: rules.price_of(model),
            entry,
            completed,
        })
    }

    /// The same call at another price.
    pub fn at_price(mut self, price: Price) -> Self {
        self.price = price;
        self
    }

    /// The cost according to the rules or [`Call::at_price`].
    #[must_use]
    pub fn price(&self) -> Price {
        self.price
    }

    /// Charges the key now, even if the key has changed, and returns the cost in US dollars.
    pub fn complete(self) -> f64 {
        let now = self.account.now();
        let counts_at = match self.account.billing().rules().charged_in {
            ChargedIn::Completion => now,
            ChargedIn::Start => self.entry.started_at,
        };
        let Price { usd, byok } = self.price;
        self.account.with(|account| {
            // Keys are never removed, not even when they are deleted.
            if let Some(key) = account.keys.get_mut(self.key) {
                let spending = if byok {
                    &mut key.byok_usage
                } else {
                    &mut key.usage
                };
                spending.charge(usd, now, counts_at);
                key.last_used_at = key.last_used_at.max(Some(now));
            }
        });
        usd
    }

    /// Waits as long as the rules keep a call in flight.
    pub(crate) async fn stay_in_flight(&self) {
        let rules = self.account.billing().rules();
        if rules.hold_calls {
            self.completed.notified().await;
        } else if rules.call_milliseconds > 0 {
            tokio::time::sleep(Duration::from_millis(rules.call_milliseconds)).await;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let calls = &self.account.billing().calls;
        calls.with(|register| register.in_flight.remove(&self.entry.number));
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.entry).finish()
    }
}

impl AccountState {
    /// The key, if it may pay for a call to `model` now.
    fn admit(
        &self,
        hash: &str,
        model: &str,
        now: Timestamp,
        seen: Seen,
    ) -> Result<usize, CallRefused> {
        let mut keys = self.keys.iter().enumerate().rev();
        let (place, key) = keys
            .find(|(_, key)| key.hash == hash && key.is_usable(now))
            .ok_or(CallRefused::KeyDoesNotWork)?;
        if !self.allows_model(key, model) {
            return Err(CallRefused::ModelNotAllowed);
        }
        match exhausted(&self.budgets(key, now, seen)) {
            Some(budget) => Err(CallRefused::Exhausted(Box::new(budget.clone()))),
            None => Ok(place),
        }
    }
}

impl Calls {
    /// The calls in flight, in the order in which they began.
    pub(crate) fn all(&self) -> Vec<CallInFlight> {
        let entries = |register: &mut Register| {
            register
                .in_flight
                .values()
                .map(|(call, _)| call.clone())
                .collect()
        };
        self.with(entries)
    }

    /// Completes one held call. Returns whether there was one.
    pub(crate) fn complete(&self, number: u64) -> bool {
        self.with(|register| {
            let call = register.in_flight.get(&number);
            call.map(|(_, completed)| completed.notify_one()).is_some()
        })
    }

    pub(crate) fn complete_all(&self) {
        self.with(|register| {
            let held = register.in_flight.values();
            held.for_each(|(_, completed)| completed.notify_one());
        });
    }

    fn enter(&self, hash: &str, model: &str, now: Timestamp) -> (CallInFlight, Arc<Notify>) {
        self.with(|register| {
            register.begun += 1;
            let call = CallInFlight {
                number: register.begun,
                key_hash: hash.to_owned(),
                model: model.to_owned(),
                started_at: now,
            };
            let completed = Arc::new(Notify::new());
            let entry = (call.clone(), Arc::clone(&completed));
            register.in_flight.insert(call.number, entry);
            (call, completed)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Register) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
