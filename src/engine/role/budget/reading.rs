//! OpenRouter's reports about a key's spending, converted to what the ledger counts.

use jiff::Timestamp;

use super::{Amount, Counting, Reading, Spans, Window};
use crate::openrouter::{CurrentKey, Effective, Key, KeyLimit, LimitReset, Usage};

/// Reads what the key itself is told (`GET /key`): the value that OpenRouter enforces, so it is complete. The
/// second result is `false` if OpenRouter does not report that value, and its general reports are used, which
/// may lag behind.
pub fn of_bearer(key: &CurrentKey, counting: Counting) -> (Reading, bool) {
    let enforced = key.key_limit.as_ref();
    read(&key.usage, key.limits.limit, enforced, counting)
}

/// Reads what the management key is told (`GET /keys/{hash}`, or the answer to a change): OpenRouter's
/// reports, which may lag behind.
pub fn of_key(key: &Key, counting: Counting) -> Reading {
    read(&key.usage, key.limits.limit, None, counting).0
}

/// What OpenRouter last reported about a key, in a listing, or when it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    usage: Usage,
    limit: Option<f64>,
    limit_reset: Option<LimitReset>,
    enforced: Option<KeyLimit>,
    /// The budget that blocks the key's requests or, if none does, would be the first to. Only the key itself
    /// is told.
    pub effective: Option<Effective>,
    /// When it was reported.
    pub at: Timestamp,
}

impl Report {
    /// What the management key is told.
    pub fn of_key(key: &Key, at: Timestamp) -> Self {
        Self {
            usage: key.usage.clone(),
            limit: key.limits.limit,
            limit_reset: key.limits.as_asked().and_then(|limits| limits.reset),
            enforced: None,
            effective: None,
            at,
        }
    }

    /// What the key itself is told.
    pub fn of_bearer(key: &CurrentKey, at: Timestamp) -> Self {
        Self {
            usage: key.usage.clone(),
            limit: key.limits.limit,
            limit_reset: key.limits.as_asked().and_then(|limits| limits.reset),
            enforced: key.key_limit.clone(),
            effective: key.effective.clone(),
            at,
        }
    }

    /// What it says of the key's spending and limit.
    pub fn reading(&self, counting: Counting) -> Reading {
        let mut usage = self.usage.clone();
        if self.limit_reset != counting.reset {
            // What is missing from the limit was spent in another window.
            usage.limit_remaining = None;
        }
        read(&usage, self.limit, self.enforced.as_ref(), counting).0
    }

    /// What it says of the key's spending in each span.
    pub fn spans(&self, counting: Counting) -> Spans {
        Spans::of(&self.usage, counting)
    }

    /// The same report for those who read it at `now`: in spans that began since, it shows no spending.
    #[must_use]
    pub fn seen_at(mut self, now: Timestamp) -> Self {
        let usage = &mut self.usage;
        let spans = [
            (LimitReset::Daily, &mut usage.daily, &mut usage.byok_daily),
            (
                LimitReset::Weekly,
                &mut usage.weekly,
                &mut usage.byok_weekly,
            ),
            (
                LimitReset::Monthly,
                &mut usage.monthly,
                &mut usage.byok_monthly,
            ),
        ];
        let is_over = |reset| Window::at(Some(reset), self.at) != Window::at(Some(reset), now);
        for (reset, own, byok) in spans {
            if is_over(reset) {
                (*own, *byok) = (0.0, 0.0);
            }
        }
        let limit_reset = self.limit_reset;
        if limit_reset.is_some_and(is_over) {
            // Nothing is missing from the limit yet.
            usage.limit_remaining = None;
        }
        let ends_at = |enforced: &KeyLimit| enforced.resets_at.is_some_and(|end| end <= now);
        if self.enforced.as_ref().is_some_and(ends_at) {
            self.enforced = None;
        }
        self.effective = self.effective.filter(|effective| {
            let ends_at = effective.resets_at;
            ends_at.is_none_or(|end| end > now)
        });
        self
    }
}

fn read(
    usage: &Usage,
    limit: Option<f64>,
    enforced: Option<&KeyLimit>,
    counting: Counting,
) -> (Reading, bool) {
    let enforced =
        enforced.filter(|e| e.reset.as_deref() == counting.reset.map(LimitReset::as_str));
    let reading = Reading {
        spent: enforced.map_or_else(
            || spent(usage, limit, counting),
            |e| Amount::spent(e.spend_usd),
        ),
        limit: Amount::of_limit(limit),
        resets_at: enforced.and_then(|e| e.resets_at),
    };
    (reading, enforced.is_some())
}

/// The larger of the counted spending and the used part of the limit.
fn spent(usage: &Usage, limit: Option<f64>, counting: Counting) -> Amount {
    let counted = usage.within(counting.reset, counting.include_byok);
    let missing = match (limit, usage.limit_remaining) {
        (Some(limit), Some(remaining)) => limit - remaining,
        _ => 0.0,
    };
    Amount::spent(counted.max(missing))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAILY: Counting = Counting {
        reset: Some(LimitReset::Daily),
        include_byok: true,
    };

    #[test]
    fn what_is_missing_from_a_limit_of_another_window_was_spent_in_that() {
        let report = |reset: &str| {
            let key = json!({
                "hash": "0".repeat(64), "limit": 100, "limit_reset": reset, "limit_remaining": 15,
                "usage": 85, "usage_daily": 2,
            });
            let key: Key = serde_json::from_value(key).unwrap();
            let report = Report::of_key(&key, Timestamp::UNIX_EPOCH);
            report.reading(DAILY).spent.as_usd()
        };
        assert_eq!((report("daily"), report("weekly")), (85.0, 2.0));
    }

    fn key(extra: serde_json::Value) -> Key {
        let mut key =
            json!({"hash": "0".repeat(64), "usage": 9, "usage_daily": 2, "byok_usage_daily": 0.5});
        let fields = key.as_object_mut().unwrap();
        fields.extend(extra.as_object().unwrap().clone());
        serde_json::from_value(key).unwrap()
    }

    #[test]
    fn what_counts_is_the_larger_of_the_counters_and_what_is_missing_from_the_limit() {
        assert_eq!(of_key(&key(json!({})), DAILY).spent.as_usd(), 2.5);
        let without = Counting {
            include_byok: false,
            ..DAILY
        };
        assert_eq!(of_key(&key(json!({})), without).spent.as_usd(), 2.0);
        let ever = Counting {
            reset: None,
            ..without
        };
        assert_eq!(of_key(&key(json!({})), ever).spent.as_usd(), 9.0);
        let missing = key(json!({"limit": 10, "limit_remaining": 6}));
        let reading = of_key(&missing, DAILY);
        assert_eq!(
            (reading.spent.as_usd(), reading.limit.as_usd()),
            (4.0, 10.0)
        );
        assert_eq!(
            of_key(&key(json!({"limit": null})), DAILY).limit,
            Amount::UNLIMITED
        );
    }

    #[test]
    fn what_enforcement_compares_stands_before_what_is_reported() {
        let bearer = |budgets: serde_json::Value| -> CurrentKey {
            serde_json::from_value(json!({
                "limit": 10, "limit_reset": "daily", "usage_daily": 2, "budgets": budgets,
            }))
            .unwrap()
        };
        let key_limit = |reset: &str| {
            json!([
                {"scope": "member", "spend_usd": 99, "reset_interval": reset},
                {"scope": "key_limit", "spend_usd": 3, "reset_interval": reset,
                 "resets_at": "2026-11-21T00:00:00Z"},
            ])
        };
        let (reading, exact) = of_bearer(&bearer(key_limit("daily")), DAILY);
        assert!(exact);
        assert_eq!(reading.spent.as_usd(), 3.0);
        assert_eq!(
            reading.resets_at,
            Some("2026-11-21T00:00:00Z".parse().unwrap())
        );
        for other in [key_limit("monthly"), json!([]), json!("odd"), json!(null)] {
            let (reading, exact) = of_bearer(&bearer(other), DAILY);
            assert!(!exact);
            assert_eq!((reading.spent.as_usd(), reading.resets_at), (2.0, None));
        }
    }
}
