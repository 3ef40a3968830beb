//! What a key has spent, as OpenRouter reports it. Parsed leniently: missing or invalid values are ignored.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::lenient::timestamp;
use super::limits::LimitReset;

/// What a key has spent, in US dollars, as OpenRouter reports it. Reports may lag.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Usage {
    /// In total.
    #[serde(default, rename = "usage", deserialize_with = "amount")]
    pub ever: f64,
    /// In this UTC day.
    #[serde(default, rename = "usage_daily", deserialize_with = "amount")]
    pub daily: f64,
    /// In this week, from Monday.
    #[serde(default, rename = "usage_weekly", deserialize_with = "amount")]
    pub weekly: f64,
    /// In this month.
    #[serde(default, rename = "usage_monthly", deserialize_with = "amount")]
    pub monthly: f64,
    /// In total, on the account's own provider keys.
    #[serde(default, rename = "byok_usage", deserialize_with = "amount")]
    pub byok_ever: f64,
    /// The same in this UTC day.
    #[serde(default, rename = "byok_usage_daily", deserialize_with = "amount")]
    pub byok_daily: f64,
    /// The same in this week.
    #[serde(default, rename = "byok_usage_weekly", deserialize_with = "amount")]
    pub byok_weekly: f64,
    /// The same in this month.
    #[serde(default, rename = "byok_usage_monthly", deserialize_with = "amount")]
    pub byok_monthly: f64,
    /// What is left of the key's limit; `None` if that is missing.
    #[serde(default, deserialize_with = "maybe_amount")]
    pub limit_remaining: Option<f64>,
}

impl Usage {
    /// What was spent in the current window, or in total if there is none.
    #[must_use]
    pub fn within(&self, window: Option<LimitReset>, include_byok: bool) -> f64 {
        let (own, byok) = match window {
            None => (self.ever, self.byok_ever),
            Some(LimitReset::Daily) => (self.daily, self.byok_daily),
            Some(LimitReset::Weekly) => (self.weekly, self.byok_weekly),
            Some(LimitReset::Monthly) => (self.monthly, self.byok_monthly),
        };
        own + if include_byok { byok } else { 0.0 }
    }
}

/// What enforcement compares with a key's own limit: one of the `budgets` of `GET /key`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct KeyLimit {
    /// What counts as spent in the current window, in US dollars.
    pub spend_usd: f64,
    /// OpenRouter's name for the window; `None` if it never ends.
    #[serde(default, rename = "reset_interval")]
    pub reset: Option<String>,
    /// When the window ends.
    #[serde(default, deserialize_with = "timestamp")]
    pub resets_at: Option<Timestamp>,
}

impl KeyLimit {
    /// The key's own budget among the `budgets`, if there is a readable one.
    pub(super) fn among(budgets: &Value) -> Option<Self> {
        let budgets = budgets.as_array()?.iter();
        let mut own = budgets.filter(|budget| budget.get("scope") == Some(&"key_limit".into()));
        serde_json::from_value(own.next()?.clone()).ok()
    }
}

/// The budget that blocks a key's calls or, if none does, would block them first.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Effective {
    /// The owner of the budget, in OpenRouter's terms: the key itself (`key_limit`), its guardrail
    /// (`api_key`), the workspace, or a member.
    pub scope: String,
    /// US dollars for a window.
    pub limit_usd: f64,
    /// US dollars that are left; if zero or less, calls are rejected.
    pub remaining_usd: f64,
    /// When the window ends.
    #[serde(default, deserialize_with = "timestamp")]
    pub resets_at: Option<Timestamp>,
}

impl Effective {
    pub(super) fn of(report: &Value) -> Option<Self> {
        serde_json::from_value(report.clone()).ok()
    }
}

fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(maybe_amount(deserializer)?.unwrap_or(0.0))
}

fn maybe_amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_f64())
}
