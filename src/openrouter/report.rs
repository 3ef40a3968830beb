//! A key as it is shown to people: everything that OpenRouter reports, including unexpected values.
//!
//! Code that decides something uses a [`Key`](super::Key), which rejects what it does not understand. A
//! listing for people must not do that: a foreign key with an unexpected limit still spends.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Number, Value};

use super::identifiers::KeyHash;
use super::quote::Hidden;

/// OpenRouter's report about a key. Each text is one line of at most 300 characters, without anything that
/// looks like an API key. Values that are missing or unreadable are `None`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// The key's name at OpenRouter.
    pub name: String,
    /// The key as OpenRouter shows it, mostly masked.
    pub label: String,
    /// Whether the key is disabled.
    pub disabled: bool,
    /// The spending limit, in US dollars; null if there is none.
    pub limit: Option<Number>,
    /// What remains of the limit, in US dollars.
    pub limit_remaining: Option<Number>,
    /// When the limit starts anew; null if it does not.
    pub limit_reset: Option<String>,
    /// Whether spending through the account's own provider keys counts.
    pub include_byok_in_limit: bool,
    /// What the key has spent, in US dollars.
    pub usage: Option<Number>,
    /// What it has spent today.
    pub usage_daily: Option<Number>,
    /// What it has spent this week.
    pub usage_weekly: Option<Number>,
    /// What it has spent this month.
    pub usage_monthly: Option<Number>,
    /// What it has spent through the account's own provider keys, in US dollars.
    pub byok_usage: Option<Number>,
    /// When the key was created.
    pub created_at: Option<Timestamp>,
    /// When the key was last changed.
    pub updated_at: Option<Timestamp>,
    /// When the key was last used.
    pub last_used_at: Option<Timestamp>,
    /// When the key expires; null if it does not.
    pub expires_at: Option<Timestamp>,
    /// The UUID of the key's workspace.
    pub workspace_id: Option<String>,
    /// The member of the organization that the key belongs to.
    pub creator_user_id: Option<String>,
}

impl Report {
    /// Parses it. The hash, if known, is that of the key's secret. No text may contain that secret.
    pub(super) fn of(whole: &Value, hash: Option<&KeyHash>) -> Self {
        let text = |field: &str| {
            let text = whole.get(field)?.as_str()?;
            Some(printable(text)).filter(|text| !text.is_empty())
        };
        let number = |field: &str| whole.get(field)?.as_number().cloned();
        let time = |field: &str| whole.get(field)?.as_str()?.parse().ok();
        let switch = |field: &str| whole.get(field).and_then(Value::as_bool).unwrap_or(false);
        Self {
            name: text("name").unwrap_or_default(),
            label: label(whole, hash),
            disabled: switch("disabled"),
            limit: number("limit"),
            limit_remaining: number("limit_remaining"),
            limit_reset: text("limit_reset"),
            include_byok_in_limit: switch("include_byok_in_limit"),
            usage: number("usage"),
            usage_daily: number("usage_daily"),
            usage_weekly: number("usage_weekly"),
            usage_monthly: number("usage_monthly"),
            byok_usage: number("byok_usage"),
            created_at: time("created_at"),
            updated_at: time("updated_at"),
            last_used_at: time("last_used_at"),
            expires_at: time("expires_at"),
            workspace_id: text("workspace_id"),
            creator_user_id: text("creator_user_id"),
        }
    }
}

/// A label looks like a key on purpose; it must not be the key itself.
fn label(whole: &Value, hash: Option<&KeyHash>) -> String {
    let label = whole.get("label").and_then(Value::as_str);
    let label = label.unwrap_or_default();
    if hash.is_none_or(|hash| KeyHash::of(&label.into()) == *hash) {
        return String::new();
    }
    Hidden::of([]).label(label)
}

/// Foreign text, made safe for a terminal: no line ends, no control characters, no characters that change the
/// direction of text, and no key.
fn printable(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text: String = text.chars().filter(|c| !turns(*c)).collect();
    Hidden::of([]).quotable(&text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_odd_key_is_shown_as_far_as_it_can_be_read() {
        let hash = KeyHash::of(&"sk-or-v1-planted".into());
        let odd = json!({
            "hash": hash, "name": 7, "label": ["x"], "disabled": "yes", "limit": "much",
            "usage": 1.25, "last_used_at": "yesterday", "expires_at": "2026-11-28T00:00:00Z",
        });
        let report = Report::of(&odd, Some(&hash));
        assert_eq!((report.name.as_str(), report.label.as_str()), ("", ""));
        assert_eq!(
            (report.disabled, report.limit, report.last_used_at),
            (false, None, None)
        );
        assert_eq!(report.usage, Number::from_f64(1.25));
        assert_eq!(
            report.expires_at.unwrap().to_string(),
            "2026-11-28T00:00:00Z"
        );
    }

    #[test]
    fn a_name_is_one_short_line_without_a_key_in_it() {
        let name = format!(
            "a\u{1b}[2J\r\nb\u{202e}c sk-or-v1-0123 {}",
            "x".repeat(10_240)
        );
        let report = Report::of(&json!({ "name": name }), None);
        assert!(
            report.name.starts_with("a [2J bc [redacted] xxx"),
            "{}",
            report.name
        );
        assert_eq!(report.name.chars().count(), 301);
    }

    #[test]
    fn a_label_that_is_the_whole_secret_is_not_shown() {
        let hash = KeyHash::of(&"sk-or-v1-planted".into());
        for (told, shown) in [
            ("sk-or-v1-planted", ""),
            ("sk-or-v1-pla...ted", "sk-or-v1-pla...ted"),
        ] {
            let report = Report::of(&json!({ "label": told }), Some(&hash));
            assert_eq!(report.label, shown);
        }
        let unknown = Report::of(&json!({ "label": "sk-or-v1-planted" }), None);
        assert_eq!(unknown.label, "");
    }
}
