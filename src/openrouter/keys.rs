//! A key at OpenRouter: as requested, and as reported.
//!
//! The engine builds [`NewKey`]; [`Client`](super::Client) returns the other types. Reports are parsed
//! leniently: a new feature of somebody else's key must not make a listing unreadable.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identifiers::{GuardrailId, KeyHash, WorkspaceId};
use super::lenient::{null_as_default, text, timestamp, workspace_id};
use super::limits::{LimitReset, Limits, ReportedLimits, Usd};
use super::quote::redact_keys;
use super::usage::{Effective, KeyLimit, Usage};

/// A key to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The displayed name. OpenRouter does not require it to be unique.
    pub name: String,
    /// The spending limits of the key.
    pub limits: Limits,
    /// When the key stops working, in whole seconds (a fraction is rounded up); `None` is never. It
    /// cannot be changed later.
    pub expires_at: Option<Timestamp>,
    /// The workspace; `None` is the account's default workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// The user id of the member to whom the key belongs; if `None`, OpenRouter decides. It cannot be
    /// changed later.
    pub creator_user_id: Option<String>,
}

/// A key as OpenRouter reports it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Key {
    /// The identifier of the key.
    pub hash: KeyHash,
    /// The displayed name, which may be any text. To show or store it, use
    /// [`shown_name`](Self::shown_name).
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// The abbreviated secret, such as `sk-or-v1-0e6...1c96`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub label: String,
    /// Whether the key is disabled.
    #[serde(default, deserialize_with = "null_as_default")]
    pub disabled: bool,
    /// The spending limits of the key.
    #[serde(flatten)]
    pub limits: ReportedLimits,
    /// What it has spent.
    #[serde(flatten)]
    pub usage: Usage,
    /// When it was created; `None` if that is missing or unreadable.
    #[serde(default, deserialize_with = "timestamp")]
    pub created_at: Option<Timestamp>,
    /// When it stops working; `None` if it never does, or if the time is missing or unreadable.
    #[serde(default, deserialize_with = "timestamp")]
    pub expires_at: Option<Timestamp>,
    /// When it was last used; `None` if that is not recorded, or unreadable.
    #[serde(default, deserialize_with = "timestamp")]
    pub last_used_at: Option<Timestamp>,
    /// Its workspace; `None` if that is missing or not a UUID.
    #[serde(default, deserialize_with = "workspace_id")]
    pub workspace_id: Option<WorkspaceId>,
    /// The user id of its owner; `None` if it has none, or if that is missing or unreadable.
    #[serde(default, deserialize_with = "text")]
    pub creator_user_id: Option<String>,
}

impl Key {
    /// Its name without anything that looks like an API key.
    pub fn shown_name(&self) -> String {
        redact_keys(&self.name)
    }

    /// Whether this is its name, or the shown form of its name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.shown_name() == name
    }
}

/// A key that was just created. The secret is returned only once. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    /// The secret.
    pub secret: SecretString,
    /// OpenRouter's description of the key. The hash is OpenRouter's too: compare it with
    /// [`KeyHash::of`] the secret.
    pub key: Key,
}

/// The answer of `GET /key` about the key that was used.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "CurrentKeyReport")]
pub struct CurrentKey {
    /// The abbreviated secret.
    pub label: String,
    /// Whether the key can manage keys.
    pub is_management_key: bool,
    /// The spending limits of the key.
    pub limits: ReportedLimits,
    /// What it has spent.
    pub usage: Usage,
    /// What enforcement compares with its limit; `None` if OpenRouter does not report that.
    pub key_limit: Option<KeyLimit>,
    /// The budget, of any layer, that blocks calls or would block them first; `None` if there is none.
    pub effective: Option<Effective>,
    /// When it stops working; `None` if it never does, or if the time is missing or unreadable.
    pub expires_at: Option<Timestamp>,
    /// Its workspace; `None` if that is missing or not a UUID.
    pub workspace_id: Option<WorkspaceId>,
    /// The guardrails that the key itself is assigned to and that have a budget: OpenRouter lists no others.
    pub guardrails: Vec<GuardrailId>,
}

/// The result of a deletion. In both cases the key no longer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The key existed and was deleted.
    Deleted,
    /// OpenRouter did not know the key.
    AlreadyGone,
}

/// The body of `POST /keys`; null fields may be omitted.
#[derive(Serialize)]
pub(super) struct CreateBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Usd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_reset: Option<LimitReset>,
    include_byok_in_limit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_id: Option<&'a WorkspaceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creator_user_id: Option<&'a str>,
}

impl<'a> From<&'a NewKey> for CreateBody<'a> {
    fn from(new: &'a NewKey) -> Self {
        Self {
            name: &new.name,
            limit: new.limits.limit,
            limit_reset: new.limits.reset,
            include_byok_in_limit: new.limits.include_byok,
            expires_at: new.expires_at.map(whole_seconds_utc),
            workspace_id: new.workspace_id.as_ref(),
            creator_user_id: new.creator_user_id.as_deref(),
        }
    }
}

/// The answer of `POST /keys`. The secret is beside `data` according to the OpenAPI document and the
/// SDKs, and inside it according to OpenRouter's guide to rotation. It is returned only once, so both
/// places are checked.
#[derive(Deserialize)]
pub(super) struct CreateAnswer {
    #[serde(default)]
    key: Option<SecretString>,
    data: CreateAnswerData,
}

#[derive(Deserialize)]
struct CreateAnswerData {
    #[serde(default)]
    key: Option<SecretString>,
    #[serde(flatten)]
    report: Key,
}

impl CreateAnswer {
    /// The created key, if the answer contains a secret that can be sent as a bearer.
    pub(super) fn into_created_key(self) -> Option<CreatedKey> {
        let secret = self.key.or(self.data.key)?;
        is_usable(&secret).then_some(CreatedKey {
            secret,
            key: self.data.report,
        })
    }
}

#[derive(Deserialize)]
struct CurrentKeyReport {
    #[serde(default, deserialize_with = "null_as_default")]
    label: String,
    #[serde(default)]
    is_management_key: Option<bool>,
    /// The deprecated name of `is_management_key`.
    #[serde(default)]
    is_provisioning_key: Option<bool>,
    #[serde(flatten)]
    limits: ReportedLimits,
    #[serde(flatten)]
    usage: Usage,
    #[serde(default)]
    effective_budget: Value,
    #[serde(default, deserialize_with = "timestamp")]
    expires_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "workspace_id")]
    workspace_id: Option<WorkspaceId>,
    #[serde(default)]
    budgets: Value,
}

impl CurrentKeyReport {
    fn guardrails(&self) -> Vec<GuardrailId> {
        let of_key = |budget: &&Value| budget.get("scope").is_some_and(|scope| scope == "api_key");
        let budgets = self.budgets.as_array().into_iter().flatten();
        budgets
            .filter(of_key)
            .filter_map(|budget| GuardrailId::parse(budget.get("guardrail_id")?.as_str()?).ok())
            .collect()
    }
}

impl From<CurrentKeyReport> for CurrentKey {
    fn from(report: CurrentKeyReport) -> Self {
        Self {
            guardrails: report.guardrails(),
            label: report.label,
            is_management_key: report
                .is_management_key
                .or(report.is_provisioning_key)
                .unwrap_or_default(),
            limits: report.limits,
            usage: report.usage,
            key_limit: KeyLimit::among(&report.budgets),
            effective: Effective::of(&report.effective_budget),
            expires_at: report.expires_at,
            workspace_id: report.workspace_id,
        }
    }
}

/// Whether a key can be sent in a header: visible ASCII characters, at least one.
pub(super) fn is_usable(secret: &SecretString) -> bool {
    let secret = secret.expose_secret();
    !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The only form of `expires_at` that every version of OpenRouter's documentation allows. Rounds up, so
/// that a key never expires before the requested time.
fn whole_seconds_utc(time: Timestamp) -> String {
    let up = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    // Rounding fails only in the last second that jiff can represent, in the year 9999.
    let time = time.round(up).unwrap_or(time);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HASH: &str = "8b2ab1b1c1a8f4a5b7d7e6f5a4b3c2d1e0f9e8d7c6b5a4938271605f4e3d2c1b";
    const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn body(new: &NewKey) -> Value {
        serde_json::to_value(CreateBody::from(new)).unwrap()
    }

    fn created(answer: Value) -> Option<CreatedKey> {
        serde_json::from_value::<CreateAnswer>(answer)
            .ok()?
            .into_created_key()
    }

    #[test]
    fn a_bare_new_key_leaves_every_null_out() {
        let new = NewKey {
            name: "bare".into(),
            limits: Limits::default(),
            expires_at: None,
            workspace_id: None,
            creator_user_id: None,
        };
        assert_eq!(
            body(&new),
            json!({"name": "bare", "include_byok_in_limit": false})
        );
    }

    #[test]
    fn a_full_new_key_is_written_as_the_api_wants_it() {
        let new = NewKey {
            name: "full".into(),
            limits: Limits {
                limit: Some(Usd::new(25.0).unwrap()),
                reset: Some(LimitReset::Monthly),
                include_byok: true,
            },
            expires_at: Some("2027-12-31T23:59:58.000001+00:00".parse().unwrap()),
            workspace_id: Some(WorkspaceId::parse(UUID).unwrap()),
            creator_user_id: Some("user_2dHF".into()),
        };
        let expected = json!({
            "name": "full", "limit": 25, "limit_reset": "monthly", "include_byok_in_limit": true,
            "expires_at": "2027-12-31T23:59:59Z", "workspace_id": UUID,
            "creator_user_id": "user_2dHF",
        });
        assert_eq!(body(&new), expected);
    }

    #[test]
    fn a_key_is_read_although_fields_are_missing_null_new_or_odd() {
        let bare: Key = serde_json::from_value(json!({ "hash": HASH })).unwrap();
        assert_eq!(
            (bare.name.as_str(), bare.disabled, bare.expires_at),
            ("", false, None)
        );
        let odd: Result<Key, _> = serde_json::from_value(json!({
            "hash": HASH, "name": null, "label": null, "disabled": null, "limit": null,
            "include_byok_in_limit": null, "created_at": "yesterday", "expires_at": 7,
            "workspace_id": "default", "external_user": {"new": true},
        }));
        let odd = odd.unwrap();
        assert_eq!(odd, bare);
    }

    #[test]
    fn times_are_read_in_both_forms_that_openrouter_writes() {
        let key: Key = serde_json::from_value(json!({
            "hash": HASH, "created_at": "2026-01-02T03:04:05Z",
            "expires_at": "2026-01-02T05:04:05.123456+02:00",
        }))
        .unwrap();
        let created = key.created_at.unwrap();
        assert_eq!(created.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(
            key.expires_at
                .unwrap()
                .duration_since(created)
                .subsec_micros(),
            123_456
        );
    }

    #[test]
    fn a_secret_is_found_beside_the_data_and_inside() {
        let beside = json!({"key": "sk-or-v1-a", "data": {"hash": HASH, "key": "sk-or-v1-b"}});
        let inside = json!({"data": {"hash": HASH, "key": "sk-or-v1-b", "limit": 3}});
        assert_eq!(
            created(beside).unwrap().secret.expose_secret(),
            "sk-or-v1-a"
        );
        let inside = created(inside).unwrap();
        assert_eq!(inside.secret.expose_secret(), "sk-or-v1-b");
        assert_eq!(inside.key.limits.limit, Some(3.0));
        assert!(!format!("{inside:?}").contains("sk-or-v1-b"));
    }

    #[test]
    fn an_answer_without_a_usable_secret_creates_nothing() {
        for answer in [
            json!({"data": {"hash": HASH}}),
            json!({"key": null, "data": {"hash": HASH}}),
            json!({"key": "", "data": {"hash": HASH}}),
            json!({"key": "two words", "data": {"hash": HASH}}),
            json!({"key": "sk-or-v1-a"}),
            json!({"key": "sk-or-v1-a", "data": {"hash": "?"}}),
        ] {
            assert!(created(answer.clone()).is_none(), "{answer}");
        }
    }

    #[test]
    fn a_management_key_is_known_by_its_new_name_first_then_by_the_old() {
        for (report, expected) in [
            (
                json!({"is_management_key": true, "is_provisioning_key": false}),
                true,
            ),
            (
                json!({"is_management_key": false, "is_provisioning_key": true}),
                false,
            ),
            (
                json!({"is_management_key": null, "is_provisioning_key": true}),
                true,
            ),
            (json!({}), false),
        ] {
            let key: CurrentKey = serde_json::from_value(report.clone()).unwrap();
            assert_eq!(key.is_management_key, expected, "{report}");
        }
    }
}
