//! The rules that a test or a person sets: what calls cost, and when spending becomes known.
//!
//! Where OpenRouter's documents contradict each other or are silent, a rule offers the choices. Calls
//! are in `calls.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::calls::{CallInFlight, Calls};
use crate::spending::Seen;

/// The rules of one simulator, for all of its accounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BillingRules {
    /// The cost of a call to a model without a price: a cent.
    pub price: Price,
    /// The prices of models, by name.
    pub prices: BTreeMap<String, Price>,
    /// The delay between a charge and its appearance in `usage`, `limit_remaining` and `last_used_at`,
    /// in seconds of the simulator's clock.
    pub reporting_lag_seconds: u64,
    /// The delay until a charge counts against limits and budgets, and appears in `budgets`.
    pub enforcement_lag_seconds: u64,
    /// How long a call is in flight, in milliseconds of real time.
    pub call_milliseconds: u64,
    /// Whether calls stay in flight until they are completed one by one or this is unset.
    pub hold_calls: bool,
    /// The window of a call that was in flight during a reset.
    pub charged_in: ChargedIn,
    /// How a call is rejected if the money is spent.
    pub exhausted: Exhausted,
    /// The answer of `GET /credits` to an ordinary key.
    pub credits_with_ordinary_key: CreditsAnswer,
}

/// The price of one call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// US dollars.
    pub usd: f64,
    /// Whether it is spent through the owner's own provider key.
    #[serde(default)]
    pub byok: bool,
}

/// The window of a call that was in flight during a reset. It is charged on completion in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargedIn {
    /// The window in which it was completed.
    #[default]
    Completion,
    /// The window in which it began.
    Start,
}

/// How a call is rejected if the money is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    /// 403, as seen by many users.
    #[default]
    Forbidden,
    /// 402 with `metadata.limit_source`, according to the guide to limits.
    PaymentRequired,
}

/// The answer of `GET /credits` to an ordinary key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditsAnswer {
    /// 403, according to the specification.
    #[default]
    Forbidden,
    /// 200 with zeros, as it was seen once.
    Zeros,
}

/// The rules and the calls in flight of one simulator. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Billing {
    rules: Arc<Mutex<BillingRules>>,
    pub(crate) calls: Calls,
}

impl Default for BillingRules {
    fn default() -> Self {
        Self {
            price: Price::usd(0.01),
            prices: BTreeMap::new(),
            reporting_lag_seconds: 0,
            enforcement_lag_seconds: 0,
            call_milliseconds: 0,
            hold_calls: false,
            charged_in: ChargedIn::default(),
            exhausted: Exhausted::default(),
            credits_with_ordinary_key: CreditsAnswer::default(),
        }
    }
}

impl Price {
    /// A price in credits.
    #[must_use]
    pub fn usd(usd: f64) -> Self {
        Self { usd, byok: false }
    }
}

impl BillingRules {
    /// The cost of a call to `model`.
    #[must_use]
    pub fn price_of(&self, model: &str) -> Price {
        self.prices.get(model).copied().unwrap_or(self.price)
    }

    /// The spending that reports know at `now`.
    pub(crate) fn reported(&self, now: Timestamp) -> Seen {
        Seen::lagging(now, Duration::from_secs(self.reporting_lag_seconds))
    }

    /// The spending that enforcement knows at `now`.
    pub(crate) fn enforced(&self, now: Timestamp) -> Seen {
        Seen::lagging(now, Duration::from_secs(self.enforcement_lag_seconds))
    }
}

impl Billing {
    /// The current rules.
    #[must_use]
    pub fn rules(&self) -> BillingRules {
        self.with(|rules| rules.clone())
    }

    /// Changes the rules for calls and answers from now on. Unsetting [`BillingRules::hold_calls`]
    /// completes the calls in flight.
    pub fn change(&self, change: impl FnOnce(&mut BillingRules)) {
        let is_holding = self.with(|rules| {
            change(rules);
            rules.hold_calls
        });
        if !is_holding {
            self.calls.complete_all();
        }
    }

    /// The calls in flight, in the order in which they began.
    #[must_use]
    pub fn calls(&self) -> Vec<CallInFlight> {
        self.calls.all()
    }

    /// Completes one call that [`BillingRules::hold_calls`] keeps in flight. Returns whether there is a
    /// call with this number.
    pub fn complete(&self, number: u64) -> bool {
        self.calls.complete(number)
    }

    fn with<T>(&self, act: impl FnOnce(&mut BillingRules) -> T) -> T {
        act(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
