//! The spending limits of a key: as requested, and as reported by OpenRouter.
//!
//! These are two types on purpose. Requested limits are always valid ([`Limits`]). Reported limits
//! ([`ReportedLimits`]) may be negative, or have a reset that did not exist when this was written, and
//! must not be mistaken for "no limit".

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::error::Invalid;
use super::lenient::null_as_default;

/// The spending limits for a key. Serialized as the API's fields, including nulls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How much the key may spend; `None` is unlimited.
    #[serde(default)]
    pub limit: Option<Usd>,
    /// When the spending resets to zero; `None` is never.
    #[serde(default, rename = "limit_reset")]
    pub reset: Option<LimitReset>,
    /// Whether spending on the account's own provider keys counts too.
    #[serde(default, rename = "include_byok_in_limit")]
    pub include_byok: bool,
}

/// An amount of US dollars: finite and not negative. A key with a limit of 0 can spend nothing.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, JsonSchema)]
#[serde(try_from = "f64")]
pub struct Usd(f64);

impl Usd {
    /// Checks an amount of US dollars.
    ///
    /// # Errors
    /// [`Invalid::Limit`] unless it is finite and at least 0.
    pub fn new(amount: f64) -> Result<Self, Invalid> {
        if amount.is_finite() && amount >= 0.0 {
            // Not -0.
            Ok(Self(amount.abs()))
        } else {
            Err(Invalid::Limit)
        }
    }

    /// Checks an amount of US dollars that is not nothing.
    ///
    /// # Errors
    /// [`Invalid::Limit`] unless it is finite and greater than 0.
    pub fn positive(amount: f64) -> Result<Self, Invalid> {
        let amount = Self::new(amount)?;
        (amount.0 > 0.0).then_some(amount).ok_or(Invalid::Limit)
    }

    /// The amount in US dollars.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0
    }
}

// NaN, the reason why f64 is not Eq, is not an amount.
impl Eq for Usd {}

impl TryFrom<f64> for Usd {
    type Error = Invalid;

    fn try_from(amount: f64) -> Result<Self, Invalid> {
        Self::new(amount)
    }
}

impl Serialize for Usd {
    /// Writes whole dollars as an integer, because people write 25, not `25.0`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0 <= MAX_EXACT_INTEGER {
            serializer.serialize_u64(self.0 as u64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a limit resets, always at 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitReset {
    /// Every day.
    Daily,
    /// Every Monday.
    Weekly,
    /// On the first of every month.
    Monthly,
}

impl LimitReset {
    /// The API's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }
}

impl FromStr for LimitReset {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        [Self::Daily, Self::Weekly, Self::Monthly]
            .into_iter()
            .find(|reset| reset.as_str() == text)
            .ok_or(Invalid::LimitReset)
    }
}

impl fmt::Display for LimitReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The limits of a key as OpenRouter reports them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ReportedLimits {
    /// US dollars; `None` is unlimited. Can be negative, unlike [`Usd`].
    #[serde(default)]
    pub limit: Option<f64>,
    /// `daily`, `weekly`, `monthly`, or a value that OpenRouter added later.
    #[serde(default, rename = "limit_reset")]
    pub reset: Option<String>,
    /// Whether spending on the account's own provider keys counts too.
    #[serde(
        default,
        rename = "include_byok_in_limit",
        deserialize_with = "null_as_default"
    )]
    pub include_byok: bool,
}

impl ReportedLimits {
    /// Whether these are the requested limits, to a millionth of a dollar: OpenRouter does not document
    /// how many digits it keeps.
    #[must_use]
    pub fn agree_with(&self, asked: &Limits) -> bool {
        let same_limit = match (self.limit, asked.limit) {
            (None, None) => true,
            (Some(reported), Some(asked)) => (reported - asked.as_f64()).abs() < 1e-6,
            _ => false,
        };
        same_limit
            && self.reset.as_deref() == asked.reset.map(LimitReset::as_str)
            && self.include_byok == asked.include_byok
    }
}

impl ReportedLimits {
    /// These limits in the form of a request; `None` if they cannot be requested.
    #[must_use]
    pub fn as_asked(&self) -> Option<Limits> {
        let limit = self.limit.map(Usd::new).transpose().ok()?;
        let reset = self.reset.as_deref().map(str::parse).transpose().ok()?;
        // Without a limit there is nothing to reset.
        let reset = reset.filter(|_| limit.is_some());
        Some(Limits {
            limit,
            reset,
            include_byok: self.include_byok,
        })
    }
}

impl fmt::Display for ReportedLimits {
    /// In words, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "a limit of {limit} dollars")?,
            None => f.write_str("no limit")?,
        }
        match self.reset.as_deref() {
            // Unknown values may contain anything.
            Some(reset) if reset.parse::<LimitReset>().is_ok() => write!(f, ", reset {reset}")?,
            Some(_) => f.write_str(", reset at another time")?,
            None => {}
        }
        if self.include_byok {
            f.write_str(", with spending on own provider keys")?;
        }
        Ok(())
    }
}

/// Up to this value, each whole f64 is a different integer (2^53).
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_finite_and_not_negative() {
        for amount in [-0.01, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Usd::new(amount), Err(Invalid::Limit), "{amount}");
        }
        assert_eq!(Usd::new(0.01).unwrap().as_f64(), 0.01);
        assert!(serde_json::from_str::<Usd>("-1").is_err());
        let nothing = Usd::new(-0.0).unwrap();
        assert_eq!(serde_json::to_string(&nothing).unwrap(), "0");
    }

    #[test]
    fn whole_dollars_are_written_as_integers() {
        for (amount, text) in [
            (25.0, "25"),
            (12.5, "12.5"),
            (0.1, "0.1"),
            (1e300, "1e+300"),
        ] {
            let amount = Usd::new(amount).unwrap();
            assert_eq!(serde_json::to_string(&amount).unwrap(), text);
            assert_eq!(serde_json::from_str::<Usd>(text).unwrap(), amount);
        }
        assert_eq!(Usd::new(25.0).unwrap().to_string(), "25");
    }

    #[test]
    fn limits_are_written_in_full_so_that_a_change_can_clear_them() {
        let none = serde_json::to_value(Limits::default()).unwrap();
        let expected = serde_json::json!({
            "limit": null, "limit_reset": null, "include_byok_in_limit": false
        });
        assert_eq!(none, expected);
        assert_eq!(
            serde_json::from_str::<Limits>("{}").unwrap(),
            Limits::default()
        );
    }

    #[test]
    fn a_limit_reset_is_one_of_three_words() {
        for word in ["daily", "weekly", "monthly"] {
            assert_eq!(word.parse::<LimitReset>().unwrap().to_string(), word);
            let json = format!("\"{word}\"");
            let reset = serde_json::from_str::<LimitReset>(&json).unwrap();
            assert_eq!(serde_json::to_string(&reset).unwrap(), json);
        }
        assert_eq!("Daily".parse::<LimitReset>(), Err(Invalid::LimitReset));
    }

    #[test]
    fn reported_limits_agree_only_with_what_was_asked_for() {
        let asked = Limits {
            limit: Some(Usd::new(0.3).unwrap()),
            reset: Some(LimitReset::Daily),
            include_byok: true,
        };
        let reported = ReportedLimits {
            limit: Some(0.1 + 0.2),
            reset: Some("daily".into()),
            include_byok: true,
        };
        assert!(reported.agree_with(&asked));
        assert!(!reported.agree_with(&Limits {
            include_byok: false,
            ..asked
        }));
        assert!(!reported.agree_with(&Limits {
            reset: None,
            ..asked
        }));
        assert!(!reported.agree_with(&Limits {
            limit: None,
            ..asked
        }));
        assert!(ReportedLimits::default().agree_with(&Limits::default()));
    }

    #[test]
    fn reported_limits_can_be_asked_for_unless_nobody_could_have() {
        let asked = |json| {
            serde_json::from_str::<ReportedLimits>(json)
                .unwrap()
                .as_asked()
        };
        let daily = asked(r#"{"limit":2,"limit_reset":"daily","include_byok_in_limit":true}"#);
        let expected = Limits {
            limit: Some(Usd::new(2.0).unwrap()),
            reset: Some(LimitReset::Daily),
            include_byok: true,
        };
        assert_eq!(daily, Some(expected));
        assert_eq!(asked("{}"), Some(Limits::default()));
        assert_eq!(asked(r#"{"limit_reset":"daily"}"#), Some(Limits::default()));
        assert_eq!(asked(r#"{"limit":-1}"#), None);
        assert_eq!(asked(r#"{"limit":1,"limit_reset":"yearly"}"#), None);
    }

    #[test]
    fn reported_limits_are_shown_without_foreign_words() {
        let shown = |json| {
            serde_json::from_str::<ReportedLimits>(json)
                .unwrap()
                .to_string()
        };
        let full = r#"{"limit":2.5,"limit_reset":"daily","include_byok_in_limit":true}"#;
        assert_eq!(
            shown(full),
            "a limit of 2.5 dollars, reset daily, with spending on own provider keys"
        );
        assert_eq!(
            shown(r#"{"limit_reset":"x\ny"}"#),
            "no limit, reset at another time"
        );
    }

    #[test]
    fn a_reported_limit_of_zero_is_not_taken_for_no_limit() {
        let reported: ReportedLimits =
            serde_json::from_str(r#"{"limit":0,"limit_reset":"yearly"}"#).unwrap();
        assert_eq!(reported.limit, Some(0.0));
        assert_eq!(reported.reset.as_deref(), Some("yearly"));
        assert!(!reported.agree_with(&Limits::default()));
    }
}
