//! How the API describes a key: to its owner, and to its bearer.
//!
//! The fields are those of the OpenAPI document of August 2026 and of the Python SDK 1.3.84, which
//! rejects an answer without a required field.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::billing::BillingRules;
use crate::budgets::{Budget, effective};
use crate::keys::Key;
use crate::limits::{LimitReset, usd};
use crate::management_keys::ManagementKey;
use crate::spending::{Seen, Spending};
use crate::state::AccountState;

impl Key {
    /// The `data` of list, get, create and update, without any lag.
    #[must_use]
    pub fn to_json(&self, now: Timestamp) -> Value {
        self.described(now, Seen::ALL)
    }

    /// The `data` of list, get, create and update, as reports know it.
    pub(crate) fn described(&self, now: Timestamp, seen: Seen) -> Value {
        let mut object = json!({
            "hash": self.hash,
            "name": self.name,
            "disabled": self.disabled,
            "created_at": offset_notation(self.created_at),
            "updated_at": self.updated_at.map(offset_notation),
            "workspace_id": self.workspace_id,
            "external_user": self.external_user,
            "last_used_at": self.last_use(seen).map(|instant| instant.to_string()),
        });
        merge(&mut object, self.shared_fields(now, seen));
        object
    }

    fn shared_fields(&self, now: Timestamp, seen: Seen) -> Value {
        let mut fields = json!({
            "label": self.label,
            "limit": self.limit.map(usd),
            "limit_remaining": self.remaining(now, seen).map(usd),
            "limit_reset": self.limit_reset.map(LimitReset::as_str),
            "include_byok_in_limit": self.include_byok_in_limit,
            "expires_at": self.expires_at.map(|instant| instant.to_string()),
            "creator_user_id": self.creator_user_id,
        });
        merge(&mut fields, counters("usage", &self.usage, now, seen));
        merge(
            &mut fields,
            counters("byok_usage", &self.byok_usage, now, seen),
        );
        fields
    }
}

impl AccountState {
    /// The `data` of `GET /key` for an ordinary key: the budgets as enforcement knows them, the rest as
    /// reports know it.
    pub(crate) fn described_to_bearer(
        &self,
        key: &Key,
        rules: &BillingRules,
        now: Timestamp,
    ) -> Value {
        let budgets = self.budgets(key, now, rules.enforced(now));
        let mut object = self.bearer_fields(false, Some(&key.workspace_id));
        merge(
            &mut object,
            json!({
                "budgets": budgets.iter().map(Budget::to_json).collect::<Vec<_>>(),
                "effective_budget": effective(&budgets).map(Budget::to_json),
            }),
        );
        merge(&mut object, key.shared_fields(now, rules.reported(now)));
        object
    }

    /// The `data` of `GET /key` for a management key, which spends nothing.
    pub(crate) fn described_to_manager(&self, key: &ManagementKey, now: Timestamp) -> Value {
        let nothing = Spending::default();
        let mut object = self.bearer_fields(true, None);
        merge(&mut object, counters("usage", &nothing, now, Seen::ALL));
        merge(
            &mut object,
            counters("byok_usage", &nothing, now, Seen::ALL),
        );
        merge(
            &mut object,
            json!({
                "label": key.label,
                "limit": null,
                "limit_remaining": null,
                "limit_reset": null,
                "include_byok_in_limit": false,
                "expires_at": key.expires_at.map(|instant| instant.to_string()),
                "creator_user_id": self.owner.default_creator(),
            }),
        );
        object
    }

    /// The fields that only `GET /key` has. The Python SDK requires the last six since version 1.3.
    fn bearer_fields(&self, is_management_key: bool, workspace_id: Option<&str>) -> Value {
        json!({
            "is_free_tier": false,
            "is_management_key": is_management_key,
            "is_provisioning_key": is_management_key,
            "rate_limit": {
                "requests": -1,
                "interval": "10s",
                "note": "This field is deprecated and safe to ignore.",
            },
            // Without guardrails about regional routing: the common host.
            "allowed_data_regions": ["global"],
            "budgets": [],
            "effective_budget": null,
            "free_model_daily_requests": { "used": 0, "limit": 1000, "remaining": 1000 },
            "organization_id": self.owner.organization_id(),
            "workspace_id": workspace_id,
        })
    }
}

/// A total counter, and counters for the current day, week and month.
fn counters(name: &str, spending: &Spending, now: Timestamp, seen: Seen) -> Value {
    let windows = [LimitReset::Daily, LimitReset::Weekly, LimitReset::Monthly];
    windows
        .into_iter()
        .map(|window| {
            (
                format!("{name}_{}", window.as_str()),
                usd(spending.seen(Some(window), now, seen)),
            )
        })
        .chain([(name.to_owned(), usd(spending.seen(None, now, seen)))])
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Adds the members of one object to another.
pub(crate) fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// Microseconds and `+00:00`: the second of the two formats in OpenRouter's examples.
fn offset_notation(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}
