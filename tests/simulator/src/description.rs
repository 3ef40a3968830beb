//! How the API describes a key: to its owner, and to its bearer.
//!
//! The fields are those of the OpenAPI document of August 2026 and of the Python SDK 1.3.84, which
//! refuses an answer that lacks a required one.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::keys::Key;
use crate::limits::{LimitReset, Spending, usd};

impl Key {
    /// The `data` of list, get, create and update.
    #[must_use]
    pub fn to_json(&self, now: Timestamp) -> Value {
        let mut object = json!({
            "hash": self.hash,
            "name": self.name,
            "disabled": self.disabled,
            "created_at": offset_notation(self.created_at),
            "updated_at": self.updated_at.map(offset_notation),
            "workspace_id": self.workspace_id,
            "external_user": self.external_user,
            "last_used_at": self.last_used_at.map(|instant| instant.to_string()),
        });
        merge(&mut object, self.shared_fields(now));
        object
    }

    /// The `data` of `GET /key` for this key.
    #[must_use]
    pub fn to_bearer_json(&self, now: Timestamp) -> Value {
        let mut object = bearer_fields(false, Some(&self.workspace_id));
        merge(&mut object, self.shared_fields(now));
        object
    }

    fn shared_fields(&self, now: Timestamp) -> Value {
        let mut fields = json!({
            "label": self.label,
            "limit": self.limit.map(usd),
            "limit_remaining": self.limit_remaining(now).map(usd),
            "limit_reset": self.limit_reset.map(LimitReset::as_str),
            "include_byok_in_limit": self.include_byok_in_limit,
            "expires_at": self.expires_at.map(|instant| instant.to_string()),
            "creator_user_id": self.creator_user_id,
        });
        merge(&mut fields, counters("usage", &self.usage, now));
        merge(&mut fields, counters("byok_usage", &self.byok_usage, now));
        fields
    }
}

/// The fields that only `GET /key` has. The last six came with the Python SDK 1.3, which requires them.
pub(crate) fn bearer_fields(is_management_key: bool, workspace_id: Option<&str>) -> Value {
    json!({
        "is_free_tier": false,
        "is_management_key": is_management_key,
        "is_provisioning_key": is_management_key,
        "rate_limit": {
            "requests": -1,
            "interval": "10s",
            "note": "This field is deprecated and safe to ignore.",
        },
        "allowed_data_regions": [],
        "budgets": [],
        "effective_budget": null,
        "free_model_daily_requests": { "used": 0, "limit": 1000, "remaining": 1000 },
        "organization_id": null,
        "workspace_id": workspace_id,
    })
}

/// A counter for ever and for the current day, week and month.
pub(crate) fn counters(name: &str, spending: &Spending, now: Timestamp) -> Value {
    let windows = [LimitReset::Daily, LimitReset::Weekly, LimitReset::Monthly];
    windows
        .into_iter()
        .map(|window| {
            (
                format!("{name}_{}", window.as_str()),
                usd(spending.within(window, now)),
            )
        })
        .chain([(name.to_owned(), usd(spending.total()))])
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Adds the members of one object to another.
pub(crate) fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// Microseconds and `+00:00`: the other of the two notations that OpenRouter's examples use.
fn offset_notation(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}
