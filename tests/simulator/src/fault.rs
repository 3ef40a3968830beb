//! The faults that a request can meet.
//!
//! The faults of the script, in Rust and in JSON. They are applied in `pipeline.rs` and, for faults of
//! creation, in `api/keys.rs`.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::LimitReset;

/// A fault. *Before the effect*: the account is not changed. *After the effect*: the request has been
/// carried out, whatever the client receives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// After the effect the connection is reset: the client never sees the reply.
    LostReply,
    /// The connection is reset before the effect.
    ResetBeforeEffect,
    /// An answer with this status and OpenRouter's error body.
    Status {
        /// The HTTP status; an invalid one is sent as 502.
        status: u16,
        /// `error.message`; the status's standard text if absent.
        #[serde(default)]
        message: Option<String>,
        /// Seconds, sent as `Retry-After`.
        #[serde(default)]
        retry_after: Option<u64>,
        /// Whether the request is carried out nevertheless.
        #[serde(default)]
        after_effect: bool,
    },
    /// An answer of a proxy in between: HTML with this status.
    Html {
        /// The HTTP status; an invalid one is sent as 502.
        status: u16,
        /// Whether the request is carried out nevertheless.
        #[serde(default)]
        after_effect: bool,
    },
    /// The correct answer, late. The request is carried out even if the client stops waiting.
    Slow {
        /// The delay, in real time.
        milliseconds: u64,
        /// Whether the delay comes after the effect instead of before it.
        #[serde(default)]
        after_effect: bool,
    },
    /// The correct answer, but only after the script is cleared. The request is then carried out even
    /// if the client has stopped waiting.
    Held {
        /// Whether it is held after the effect instead of before it.
        #[serde(default)]
        after_effect: bool,
    },
    /// After the effect: the reply's `Content-Length` is larger than its body.
    TruncatedBody,
    /// After the effect: the reply's status with JSON that has none of the documented fields.
    NonsenseJson,
    /// After the effect: the correct reply, declared as `text/plain`.
    WrongContentType,
    /// A redirect before the effect (307, which requires the same method and body).
    Redirect {
        /// The target.
        location: String,
    },
    /// After the effect: the reply's status and a body that never ends.
    EndlessBody,
    /// After the effect: the correct reply, with these fields of `data` replaced. In a list they are
    /// replaced in every row of the page; in a reply without `data`, at the top level.
    EditedReply {
        /// The fields and their values.
        data: serde_json::Map<String, serde_json::Value>,
    },
    /// A created key whose secret is not accepted.
    CreatedKeyDoesNotAuthenticate {
        /// How many uses of it fail; all of them if absent.
        #[serde(default)]
        uses: Option<u32>,
    },
    /// A created key that differs from the request; the reply and the account agree.
    CreatedOtherwise(KeyChanges),
}

/// The properties of the key to change; `None` leaves one unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the key itself")]
pub struct KeyChanges {
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub limit: Option<Option<f64>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub limit_reset: Option<Option<LimitReset>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub include_byok_in_limit: Option<bool>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Option<Timestamp>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
}

impl Fault {
    /// An error status with OpenRouter's error body, before the effect.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            message: None,
            retry_after: None,
            after_effect: false,
        }
    }

    /// A 429 with the number of seconds to wait.
    #[must_use]
    pub fn rate_limited(retry_after: u64) -> Self {
        Self::Status {
            status: 429,
            message: None,
            retry_after: Some(retry_after),
            after_effect: false,
        }
    }

    /// A request that waits before its effect until the script is cleared.
    #[must_use]
    pub fn held() -> Self {
        Self::Held {
            after_effect: false,
        }
    }

    /// A reply in which these fields of `data`, an object, are replaced.
    #[must_use]
    pub fn edited_reply(data: serde_json::Value) -> Self {
        let data = match data {
            serde_json::Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        };
        Self::EditedReply { data }
    }

    /// The same, but the request is carried out first. Changes only faults that have this option.
    #[must_use]
    pub fn after_the_effect(mut self) -> Self {
        if let Self::Status { after_effect, .. }
        | Self::Html { after_effect, .. }
        | Self::Slow { after_effect, .. }
        | Self::Held { after_effect } = &mut self
        {
            *after_effect = true;
        }
        self
    }

    /// Its name in the script's JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LostReply => "lost_reply",
            Self::ResetBeforeEffect => "reset_before_effect",
            Self::Status { .. } => "status",
            Self::Html { .. } => "html",
            Self::Slow { .. } => "slow",
            Self::Held { .. } => "held",
            Self::TruncatedBody => "truncated_body",
            Self::NonsenseJson => "nonsense_json",
            Self::WrongContentType => "wrong_content_type",
            Self::Redirect { .. } => "redirect",
            Self::EndlessBody => "endless_body",
            Self::EditedReply { .. } => "edited_reply",
            Self::CreatedKeyDoesNotAuthenticate { .. } => "created_key_does_not_authenticate",
            Self::CreatedOtherwise(_) => "created_otherwise",
        }
    }
}

/// Distinguishes a field that is `null` from an absent one.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
