//! What can go wrong with OpenRouter, by what it means for the caller.
//!
//! Each variant of [`Error`] says whether the request may have taken effect: a create whose reply is
//! lost leaves a key whose secret nobody knows. [`Invalid`] is for values that are rejected before any
//! request is made. No text contains a secret: OpenRouter's messages pass through
//! [`Hidden`](super::quote::Hidden) first.

use std::time::Duration;

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// OpenRouter rejected the content of the request. Nothing was done; a retry cannot succeed.
    #[error("OpenRouter refused the request with status {status}: {message}")]
    Refused {
        /// The HTTP status, 4xx.
        status: u16,
        /// OpenRouter's own words, fit to be shown.
        message: String,
    },

    /// OpenRouter rejected the key of the request (401 or 403). Nothing was done.
    #[error("OpenRouter does not accept {bearer} ({status}: {message}); {}", bearer.advice())]
    Unauthorized {
        /// The key that the request was made with.
        bearer: Bearer,
        /// 401 or 403. OpenRouter does not document the difference.
        status: u16,
        /// OpenRouter's own words, fit to be shown.
        message: String,
    },

    /// The object that the request names does not exist (404 in OpenRouter's own form). Nothing was
    /// done.
    #[error("OpenRouter did not find what the request names (404): {message}")]
    NotFound {
        /// OpenRouter's own words, fit to be shown.
        message: String,
    },

    /// Too many requests (429). Nothing was done.
    #[error("OpenRouter's rate limit is reached (429): {message}")]
    RateLimited {
        /// How long OpenRouter asks to wait, at most a day.
        retry_after: Option<Duration>,
        /// OpenRouter's own words, fit to be shown.
        message: String,
    },

    /// No connection was made, so the request was never sent.
    #[error("OpenRouter cannot be reached at {target}, nothing was sent: {cause}")]
    Unreachable {
        /// The API's URL, and the proxy if there is one.
        target: String,
        /// The error of the network or the TLS handshake.
        cause: String,
    },

    /// The key cannot be sent in an HTTP header, so no request was made.
    #[error("the API key contains characters that no OpenRouter key has, nothing was sent")]
    UnusableKey,

    /// The request was or may have been sent, and no answer tells whether it took effect: a timeout, a
    /// lost connection, a 5xx, a redirect, a body that is not OpenRouter's.
    #[error("it is unclear whether OpenRouter carried out the request: {reason}")]
    Unclear {
        /// What arrived instead of a clear answer.
        reason: String,
        /// How long the answer asks to wait, at most a day.
        retry_after: Option<Duration>,
    },
}

impl Error {
    /// Whether the request certainly had no effect.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unclear { .. })
    }

    /// How long OpenRouter asks to wait before the next request, at most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unclear { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    pub(super) fn unclear(reason: impl Into<String>) -> Self {
        Self::Unclear {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

/// The key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// The management key of the [`Client`](super::Client).
    ManagementKey,
    /// An API key that is used to describe itself.
    ApiKey,
}

impl Bearer {
    fn advice(self) -> &'static str {
        match self {
            // OpenRouter answers "User not found." for unknown, revoked and expired keys alike.
            Self::ManagementKey => {
                "make sure that it is a management key, that it has neither expired nor been \
                 deleted, and that the account's IP allowlist admits this server"
            }
            Self::ApiKey => "it is unknown to OpenRouter, disabled, expired or deleted",
        }
    }
}

impl std::fmt::Display for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ManagementKey => "the management key",
            Self::ApiKey => "the API key",
        })
    }
}

/// A value that no request can be made with; the text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// From [`ApiUrl::parse`](super::ApiUrl::parse).
    #[error(
        "the API URL must be an https:// URL, or http:// to a loopback address, \
         without user name, query and fragment"
    )]
    ApiUrl,
    /// From [`CaBundle::parse`](super::CaBundle::parse).
    #[error("the CA certificate must be one or more X.509 certificates in PEM form")]
    CaCertificate,
    /// From [`CaBundle::parse`](super::CaBundle::parse).
    #[error("the CA certificate must not include a private key, which is never needed")]
    PrivateKey,
    /// From [`ProxyUrl::parse`](super::ProxyUrl::parse).
    #[error(
        "the proxy URL must be http://host:port or https://host:port, \
         optionally with user:password@ before the host"
    )]
    ProxyUrl,
    /// From [`Client::new`](super::Client::new): the proxy would read the management key.
    #[error("a proxy that is not on a loopback address can only be used with an https:// API URL")]
    PlainHttpThroughProxy,
    /// From [`Client::new`](super::Client::new).
    #[error("the management key must consist of visible ASCII characters")]
    ManagementKey,
    /// From [`Client::new`](super::Client::new).
    #[error("the request timeout must be longer than zero")]
    RequestTimeout,
    /// From [`Client::new`](super::Client::new): usually a system without CA certificates.
    #[error(
        "the HTTP client cannot be set up, either the system's CA certificates or an extra \
         CA certificate must be usable: {0}"
    )]
    HttpClient(String),
    /// From [`Usd::new`](super::Usd::new).
    #[error("a limit must be an amount of US dollars greater than 0")]
    Limit,
    /// From [`LimitReset`](super::LimitReset)'s `FromStr`.
    #[error("a limit reset must be daily, weekly or monthly")]
    LimitReset,
    /// From [`KeyHash::parse`](super::KeyHash::parse).
    #[error("a key hash must be 64 lowercase hexadecimal digits")]
    KeyHash,
    /// From [`WorkspaceId::parse`](super::WorkspaceId::parse).
    #[error("a workspace ID must be a UUID such as 0f8fad5b-d9cb-469f-a165-70867728950e")]
    WorkspaceId,
    /// From [`GuardrailId::parse`](super::GuardrailId::parse).
    #[error("a guardrail ID must be a UUID such as 0f8fad5b-d9cb-469f-a165-70867728950e")]
    GuardrailId,
    /// From [`WorkspaceRef::parse`](super::WorkspaceRef::parse).
    #[error(
        "a workspace must be called by its UUID, or by its slug of 1 to 50 lowercase letters, \
         digits and hyphens"
    )]
    WorkspaceRef,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unclear_outcome_is_not_definite() {
        let message = String::from("m");
        let wait = Some(Duration::from_secs(7));
        let definite = [
            Error::Refused {
                status: 400,
                message: message.clone(),
            },
            Error::Unauthorized {
                bearer: Bearer::ApiKey,
                status: 401,
                message: message.clone(),
            },
            Error::NotFound {
                message: message.clone(),
            },
            Error::RateLimited {
                retry_after: wait,
                message: message.clone(),
            },
            Error::Unreachable {
                target: message.clone(),
                cause: message.clone(),
            },
            Error::UnusableKey,
        ];
        assert!(definite.iter().all(Error::is_definite));
        assert!(!Error::unclear("u").is_definite());
    }

    #[test]
    fn a_wait_is_reported_where_the_answer_can_carry_one() {
        let wait = Some(Duration::from_secs(7));
        let limited = Error::RateLimited {
            retry_after: wait,
            message: String::new(),
        };
        let unclear = Error::Unclear {
            reason: String::new(),
            retry_after: wait,
        };
        assert_eq!((limited.retry_after(), unclear.retry_after()), (wait, wait));
        assert_eq!(Error::UnusableKey.retry_after(), None);
    }

    #[test]
    fn a_refused_management_key_comes_with_advice() {
        let error = Error::Unauthorized {
            bearer: Bearer::ManagementKey,
            status: 401,
            message: "User not found.".into(),
        };
        let text = error.to_string();
        assert!(text.starts_with(
            "OpenRouter does not accept the management key (401: User not found.); make sure"
        ));
        assert!(text.contains("expired") && text.contains("IP allowlist"));
    }
}
