//! How the API describes a key: to its owner, and to its bearer.
//!
//! The fields are those of the OpenAPI document of August 2026 and of the Python SDK 1.3.84, which
//! rejects an answer without a required field.

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::Serialize;
use serde_json::{Value, json};

use crate::billing::BillingRules;
use crate::budgets::{Budget, effective};
use crate::keys::Key;
use crate::limits::{LimitReset, usd};
use crate::management_keys::ManagementKey;
use crate::spending::{Seen, Spending};
use crate::state::AccountState;

/// The `data` of list, get, create and update.
#[derive(Serialize)]
pub(crate) struct Described<'a> {
    hash: &'a str,
    name: &'a str,
    disabled: bool,
    created_at: String,
    updated_at: Option<String>,
    workspace_id: &'a str,
    external_user: Option<&'a str>,
    last_used_at: Option<Timestamp>,
    #[serde(flatten)]
    shared: SharedFields<'a>,
}

/// The fields of a key that its bearer sees as well.
#[derive(Serialize)]
struct SharedFields<'a> {
    label: &'a str,
    limit: Option<Value>,
    limit_remaining: Option<Value>,
    limit_reset: Option<&'static str>,
    include_byok_in_limit: bool,
    expires_at: Option<Timestamp>,
    creator_user_id: Option<&'a str>,
    usage: Value,
    usage_daily: Value,
    usage_weekly: Value,
    usage_monthly: Value,
    byok_usage: Value,
    byok_usage_daily: Value,
    byok_usage_weekly: Value,
    byok_usage_monthly: Value,
}

impl Key {
    /// The `data` of list, get, create and update, without any lag.
    #[must_use]
    pub fn to_json(&self, now: Timestamp) -> Value {
        json!(self.described(now, Seen::ALL))
    }

    /// The `data` of list, get, create and update, as reports know it.
    pub(crate) fn described(&self, now: Timestamp, seen: Seen) -> Described<'_> {
        Described {
            hash: &self.hash,
            name: &self.name,
            disabled: self.disabled,
            created_at: offset_notation(self.created_at),
            updated_at: self.updated_at.map(offset_notation),
            workspace_id: &self.workspace_id,
            external_user: self.external_user.as_deref(),
            last_used_at: self.last_use(seen),
            shared: self.shared_fields(now, seen),
        }
    }

    fn shared_fields(&self, now: Timestamp, seen: Seen) -> SharedFields<'_> {
        let [usage, usage_daily, usage_weekly, usage_monthly] = counted(&self.usage, now, seen);
        let [
            byok_usage,
            byok_usage_daily,
            byok_usage_weekly,
            byok_usage_monthly,
        ] = counted(&self.byok_usage, now, seen);
        SharedFields {
            label: &self.label,
            limit: self.limit.map(usd),
            limit_remaining: self.remaining(now, seen).map(usd),
            limit_reset: self.limit_reset.map(LimitReset::as_str),
            include_byok_in_limit: self.include_byok_in_limit,
            expires_at: self.expires_at,
            creator_user_id: self.creator_user_id.as_deref(),
            usage,
            usage_daily,
            usage_weekly,
            usage_monthly,
            byok_usage,
            byok_usage_daily,
            byok_usage_weekly,
            byok_usage_monthly,
        }
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
        let shared = key.shared_fields(now, rules.reported(now));
        merge(&mut object, json!(shared));
        object
    }

    /// The `data` of `GET /key` for a management key, which spends nothing.
    pub(crate) fn described_to_manager(&self, key: &ManagementKey) -> Value {
        let mut object = self.bearer_fields(true, None);
        merge(
            &mut object,
            json!({
                "label": key.label,
                "limit": null,
                "limit_remaining": null,
                "limit_reset": null,
                "include_byok_in_limit": false,
                "expires_at": key.expires_at,
                "creator_user_id": self.owner.default_creator(),
                "usage": 0,
                "usage_daily": 0,
                "usage_weekly": 0,
                "usage_monthly": 0,
                "byok_usage": 0,
                "byok_usage_daily": 0,
                "byok_usage_weekly": 0,
                "byok_usage_monthly": 0,
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

/// What was spent in total, and in the current day, week and month.
fn counted(spending: &Spending, now: Timestamp, seen: Seen) -> [Value; 4] {
    let windows = [
        None,
        Some(LimitReset::Daily),
        Some(LimitReset::Weekly),
        Some(LimitReset::Monthly),
    ];
    windows.map(|window| usd(spending.seen(window, now, seen)))
}

/// Adds the members of one object to another.
pub(crate) fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// Microseconds and `+00:00`: the second of the two formats in OpenRouter's examples.
fn offset_notation(instant: Timestamp) -> String {
    format!("{:.6}", instant.display_with_offset(Offset::UTC))
}
