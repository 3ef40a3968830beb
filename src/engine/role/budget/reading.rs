//! OpenRouter's reports about a key's spending, converted to what the ledger counts.

use super::{Amount, Counting, Reading};
use crate::openrouter::{CurrentKey, Key, LimitReset, Usage};

/// Reads what the key itself is told (`GET /key`): the value that OpenRouter enforces, so it is complete. The
/// second result is `false` if OpenRouter does not report that value, and its general reports are used, which
/// may lag behind.
pub fn of_bearer(key: &CurrentKey, counting: Counting) -> (Reading, bool) {
    let enforced = key.key_limit.as_ref();
    let enforced =
        enforced.filter(|e| e.reset.as_deref() == counting.reset.map(LimitReset::as_str));
    let limit = Amount::of_limit(key.limits.limit);
    let reported = spent(&key.usage, key.limits.limit, counting);
    let reading = Reading {
        spent: enforced.map_or(reported, |e| Amount::spent(e.spend_usd)),
        limit,
        resets_at: enforced.and_then(|e| e.resets_at),
    };
    (reading, enforced.is_some())
}

/// Reads what the management key is told (`GET /keys/{hash}`, or the answer to a change): OpenRouter's
/// reports, which may lag behind.
pub fn of_key(key: &Key, counting: Counting) -> Reading {
    Reading {
        spent: spent(&key.usage, key.limits.limit, counting),
        limit: Amount::of_limit(key.limits.limit),
        resets_at: None,
    }
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
