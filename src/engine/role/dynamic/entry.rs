//! A dynamic role as it is stored, its fields, and how a write changes them. Durations are in seconds.

use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{Life, RoleName};
use crate::engine::role::budget::{self, Alert, Pool, Watch};
use crate::engine::role::dynamic::NameTemplate;
use crate::engine::role::rotating::Failure;
use crate::engine::role::{DEFAULT_TTL, Terms};
use crate::framework::{Field, Fields};

/// A dynamic role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DynamicRole {
    /// The terms of its keys.
    pub terms: Terms,
    /// The life of the role, which distinguishes its keys from those of an earlier role with the same name.
    #[serde(default)]
    pub life: Life,
    /// The duration of a lease, and of a renewal.
    pub ttl: u64,
    /// The maximum duration of a lease with renewals.
    pub max_ttl: u64,
    /// The maximum number of living leases; `None` is unlimited.
    pub max_leases: Option<u32>,
    /// Whether the guardrails in the keys' records are unproved, because the guardrail is being changed.
    /// Stored together with the change, and cleared when all keys are proved to have their guardrail.
    #[serde(
        default,
        alias = "unproved",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub guardrails_unproved: bool,
    /// Why some of its keys do not have its guardrail yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_failure: Option<Failure>,
    /// What ended leases have spent of the budget; `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// The last report that a large part of the budget is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
}

impl DynamicRole {
    /// The role after a write to `before`. Fields that are not in the request are unchanged.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the field and its valid values.
    pub fn apply(name: &RoleName, before: Option<&Self>, fields: &Fields) -> Result<Self, Error> {
        let terms = Terms::apply(name, before.map(|b| &b.terms), fields)?;
        // An alert says nothing about another budget.
        let watched = terms.watched();
        let same = before.filter(|b| b.terms.watched() == watched);
        let role = Self {
            alert: same.and_then(|b| b.alert),
            terms,
            life: before.map(|b| b.life.clone()).unwrap_or_default(),
            ttl: fields
                .seconds("ttl")
                .unwrap_or_else(|| before.map_or(DEFAULT_TTL, |b| b.ttl)),
            max_ttl: fields
                .seconds("max_ttl")
                .unwrap_or_else(|| before.map_or(DEFAULT_MAX_TTL, |b| b.max_ttl)),
            max_leases: match fields.integer("max_leases") {
                Some(number) => Some(at_least_one(number)?),
                None if fields.is_null("max_leases") => None,
                None => before.and_then(|b| b.max_leases),
            },
            guardrails_unproved: before.is_some_and(|b| b.guardrails_unproved),
            guardrail_failure: before.and_then(|b| b.guardrail_failure.clone()),
            pool: before.and_then(|b| b.pool.clone()),
        };
        role.check()?;
        Ok(role)
    }

    /// The maximum lifetime of its keys, in seconds.
    pub fn lifetime(&self) -> u64 {
        self.max_ttl.saturating_add(LINGER)
    }

    /// What is to be watched of the budget, besides the readings of the leases that are not counted yet.
    pub fn watch(&self) -> Option<Watch> {
        let (budget, percent) = self.terms.watched()?;
        Some(Watch {
            budget,
            percent,
            ended: self.pool.as_ref().map(Pool::ended_in),
            last: self.alert,
        })
    }

    fn check(&self) -> Result<(), Error> {
        self.terms.check()?;
        budget::check_pooled(&self.terms)?;
        NameTemplate::parse(&self.terms.key_name)?;
        if self.ttl == 0 {
            return Err(Error::invalid("ttl must be at least 1 second"));
        }
        if self.ttl > self.max_ttl {
            return Err(Error::Invalid(format!(
                "ttl must be at most max_ttl, which is {} seconds, not {}",
                self.max_ttl, self.ttl
            )));
        }
        if self.max_ttl > LONGEST {
            return Err(Error::invalid("max_ttl must be at most 10 years"));
        }
        Ok(())
    }
}

fn at_least_one(number: i64) -> Result<u32, Error> {
    u32::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| {
            Error::invalid("max_leases must be a whole number of at least 1, or empty for no cap")
        })
}

/// The fields of a write, in addition to the terms of the keys and `ttl`.
pub const FIELDS: &[Field] = &[
    Field::duration(
        "max_ttl",
        "The maximum duration of a lease of a dynamic role, including renewals. The key expires\n\
         at OpenRouter shortly after that.",
    )
    .default("24h"),
    Field::integer(
        "max_leases",
        "The maximum number of concurrent leases of a dynamic role. An empty value means no limit.",
    )
    .nullable(),
];

/// In seconds: how long the engine waits after the end of a lease for the server to revoke its key, and how
/// much later than the longest lease the key expires. Long enough for a lease that starts late, since the
/// server counts from when it received the reply.
pub const LINGER: u64 = 5 * 60;

/// In seconds: 24 hours.
const DEFAULT_MAX_TTL: u64 = 24 * 60 * 60;
/// In seconds. A longer value is probably a wrong unit.
const LONGEST: u64 = 10 * 365 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::role::{TERMS, TTL};

    fn write(before: Option<&DynamicRole>, body: Value) -> Result<DynamicRole, String> {
        let Value::Object(body) = body else {
            panic!("not an object")
        };
        let known = [TTL];
        let known = known.iter().chain(TERMS).chain(FIELDS);
        let fields = Fields::parse(
            known.chain(crate::engine::role::rotating::FIELDS),
            &[],
            &body,
            true,
        );
        let name = RoleName::new("ci").unwrap();
        DynamicRole::apply(&name, before, &fields.map_err(|e| e.to_string())?)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_given_means_the_documented_defaults() {
        let role = write(None, json!({})).unwrap();
        assert_eq!((role.ttl, role.max_ttl), (3_600, 86_400));
        assert_eq!(role.max_leases, None);
        assert_eq!(role.terms.key_name, "ci");
    }

    #[test]
    fn what_an_update_does_not_name_stays() {
        let before = write(None, json!({"ttl": 60, "max_ttl": 600, "max_leases": 3})).unwrap();
        let after = write(Some(&before), json!({"description": "new"})).unwrap();
        assert_eq!((after.ttl, after.max_ttl), (60, 600));
        assert_eq!(after.max_leases, Some(3));
        let uncapped = write(Some(&before), json!({"max_leases": ""})).unwrap();
        assert_eq!(uncapped.max_leases, None);
    }

    #[test]
    fn contradictions_are_refused_with_the_field_that_is_wrong() {
        let table = [
            (json!({"ttl": 0}), "ttl must be at least 1"),
            (json!({"ttl": "2d"}), "ttl must be at most max_ttl"),
            (json!({"max_ttl": "20y"}), "max_ttl must be"),
            (json!({"max_ttl": 400_000_000}), "max_ttl must be at most"),
            (json!({"max_leases": 0}), "max_leases must be"),
            (json!({"max_leases": -1}), "max_leases must be"),
            (
                json!({"max_leases": 5_000_000_000_i64}),
                "max_leases must be",
            ),
            (json!({"limit_reset": "daily"}), "limit_reset needs a limit"),
            (json!({"key_name": "{{secret}}"}), "key_name can be filled"),
        ];
        for (body, reason) in table {
            let refusal = write(None, body.clone()).unwrap_err();
            assert!(refusal.contains(reason), "{body}: {refusal}");
        }
    }
}
