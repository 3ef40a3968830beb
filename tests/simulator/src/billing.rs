//! What calls cost and how spending becomes known: the rules that a test or a person sets.
//!
//! Where OpenRouter's documents contradict each other or say nothing, a rule offers the choices. The calls
//! themselves are in `calls.rs`.

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
    /// What a call costs whose model has no price of its own: a cent.
    pub price: Price,
    /// The prices of models by their names.
    pub prices: BTreeMap<String, Price>,
    /// How much later than the charge it shows in `usage`, `limit_remaining` and `last_used_at`, in seconds
    /// of the simulator's clock.
    pub reporting_lag_seconds: u64,
    /// How much later than the charge it counts against limits and budgets, and shows in `budgets`.
    pub enforcement_lag_seconds: u64,
    /// How long a call is in flight, in milliseconds of real time.
    pub call_milliseconds: u64,
    /// Whether calls stay in flight until they are completed one by one or this is taken back.
    pub hold_calls: bool,
    /// The window that a call belongs to which was in flight over a reset.
    pub charged_in: ChargedIn,
    /// How a call is refused for which there is no money left.
    pub exhausted: Exhausted,
    /// What `GET /credits` answers to an ordinary key.
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

/// The window of a call that was in flight over a reset; it is charged at its completion in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargedIn {
    /// The window in which it was completed.
    #[default]
    Completion,
    /// The window in which it began.
    Start,
}

/// How a call is refused for which there is no money left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    /// 403, as seen by many users.
    #[default]
    Forbidden,
    /// 402 with `metadata.limit_source`, as the guide to limits says.
    PaymentRequired,
}

/// What `GET /credits` answers to an ordinary key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditsAnswer {
    /// 403, as the specification says.
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
    /// What a call to `model` costs.
    #[must_use]
    pub fn price_of(&self, model: &str) -> Price {
        self.prices.get(model).copied().unwrap_or(self.price)
    }

    /// What reports know at `now`.
    pub(crate) fn reported(&self, now: Timestamp) -> Seen {
        Seen::lagging(now, Duration::from_secs(self.reporting_lag_seconds))
    }

    /// What enforcement knows at `now`.
    pub(crate) fn enforced(&self, now: Timestamp) -> Seen {
        Seen::lagging(now, Duration::from_secs(self.enforcement_lag_seconds))
    }
}

impl Billing {
    /// The rules as they are.
    #[must_use]
    pub fn rules(&self) -> BillingRules {
        self.with(|rules| rules.clone())
    }

    /// Changes the rules for calls and answers from now on. Taking back [`BillingRules::hold_calls`] lets
    /// the calls in flight complete.
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

    /// Lets one call complete that [`BillingRules::hold_calls`] keeps in flight. Whether there is one with
    /// this number.
    pub fn complete(&self, number: u64) -> bool {
        self.calls.complete(number)
    }

    fn with<T>(&self, act: impl FnOnce(&mut BillingRules) -> T) -> T {
        act(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
