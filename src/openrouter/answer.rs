//! Interprets an answer: status and body become a value or an [`Error`].
//!
//! [`Transport`](super::transport::Transport) returns answers, [`Client`](super::Client) interprets
//! them, and [`reading`](super::reading) parses successes. A refusal counts as OpenRouter's only if its
//! body is OpenRouter's error object: anything else may come from a proxy, which does not know what
//! OpenRouter did.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{Bearer, Error};
use super::quote::Hidden;

/// A complete answer, or the part of it that arrived.
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// The value of the `Retry-After` header, at most [`MAX_WAIT`].
    pub(super) retry_after: Option<Duration>,
    /// The body, or why there is none.
    pub(super) body: Result<Vec<u8>, String>,
    /// The key that the request was made with.
    pub(super) bearer: Bearer,
    /// What the request contained and no text may show.
    pub(super) hidden: Hidden,
}

impl Answer {
    /// Reads the body of a success.
    ///
    /// # Errors
    /// The error of the status and body; a success that cannot be parsed is [`Error::Unclear`].
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        if !self.status.is_success() {
            return Err(self.failure());
        }
        let parsed = match &self.body {
            Ok(body) => serde_json::from_slice(body).ok(),
            Err(reason) => return Err(self.unclear(reason)),
        };
        parsed.ok_or_else(|| self.unclear("the body is not what the API documents"))
    }

    /// The error that a failed answer stands for.
    fn failure(&self) -> Error {
        let message = self.message();
        let status = self.status.as_u16();
        match (status, message) {
            // A server that answers 429 counts requests before it reads them, so the body's form does
            // not matter.
            (429, message) => Error::RateLimited {
                retry_after: self.retry_after,
                message: message.unwrap_or_else(|| "no reason given".to_owned()),
            },
            (401 | 403, Some(message)) => Error::Unauthorized {
                bearer: self.bearer,
                status,
                message,
            },
            (404, Some(message)) => Error::NotFound { message },
            // 408 and 499 are timeouts, possibly behind OpenRouter's front end.
            (408 | 499, Some(message)) => self.unclear(&message),
            (400..=499, Some(message)) => Error::Refused { status, message },
            (300..=399, _) => self.unclear("redirects are not followed, the API URL may be wrong"),
            (_, Some(message)) => self.unclear(&message),
            (_, None) => match &self.body {
                Ok(_) => self.unclear("the body is not OpenRouter's"),
                Err(reason) => self.unclear(reason),
            },
        }
    }

    /// The message of OpenRouter's error object, `{"error": {"code": <status>, "message": …}}`. If the code
    /// contradicts the status, the body is not from OpenRouter.
    fn message(&self) -> Option<String> {
        let body = self.body.as_ref().ok()?;
        let ErrorBody { error } = serde_json::from_slice(body).ok()?;
        let contradicts = |code: u64| code != u64::from(self.status.as_u16());
        if error.code.as_u64().is_some_and(contradicts) {
            return None;
        }
        Some(match self.hidden.quotable(&error.message) {
            empty if empty.is_empty() => "no reason given".to_owned(),
            message => message,
        })
    }

    fn unclear(&self, reason: &str) -> Error {
        Error::Unclear {
            reason: format!("it answered with status {}: {reason}", self.status.as_u16()),
            retry_after: self.retry_after,
        }
    }
}

/// Parses a `Retry-After` in seconds. The date form is ignored: it would need a clock, and OpenRouter
/// documents seconds.
pub(super) fn retry_after(header: &str) -> Option<Duration> {
    let wait = Duration::from_secs(header.trim().parse().ok()?);
    Some(wait.min(MAX_WAIT))
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorObject,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(default)]
    code: serde_json::Value,
    message: String,
}

/// Longer waits are the server's mistake, and could overflow when added to a time.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: Ok(body.as_bytes().to_vec()),
            bearer: Bearer::ManagementKey,
            hidden: Hidden::of([SecretString::from("planted")]),
        }
    }

    fn meaning(status: u16, body: &str) -> Error {
        answer(status, body)
            .read::<serde_json::Value>()
            .unwrap_err()
    }

    fn refusal(status: u16) -> Error {
        meaning(
            status,
            &format!(r#"{{"error":{{"code":{status},"message":"No."}}}}"#),
        )
    }

    #[test]
    fn every_status_in_openrouters_own_form_has_its_meaning() {
        let message = || String::from("No.");
        for status in [400, 402, 405, 409, 413, 422] {
            assert_eq!(
                refusal(status),
                Error::Refused {
                    status,
                    message: message()
                }
            );
        }
        for status in [401, 403] {
            let bearer = Bearer::ManagementKey;
            assert_eq!(
                refusal(status),
                Error::Unauthorized {
                    bearer,
                    status,
                    message: message()
                }
            );
        }
        assert_eq!(refusal(404), Error::NotFound { message: message() });
        let limited = Error::RateLimited {
            retry_after: None,
            message: message(),
        };
        assert_eq!(refusal(429), limited);
        for status in [301, 307, 308, 408, 499, 500, 502, 503, 504, 524] {
            assert!(!refusal(status).is_definite(), "{status}");
        }
    }

    #[test]
    fn a_refusal_in_any_other_form_is_unclear() {
        for body in [
            "",
            "<html>Access denied</html>",
            r#"{"message":"Not found"}"#,
            r#"{"error":"Not found"}"#,
            r#"{"error":{"code":404}}"#,
            r#"{"error":{"code":502,"message":"Bad gateway"}}"#,
            r#"{"error":{"code":404,"message":"Not fo"#,
        ] {
            for status in [400, 401, 403, 404] {
                assert!(!meaning(status, body).is_definite(), "{status} {body}");
            }
        }
    }

    #[test]
    fn too_many_requests_is_definite_whoever_says_it() {
        let error = meaning(429, "<html>Slow down</html>");
        assert_eq!(
            error.to_string(),
            "OpenRouter's rate limit is reached (429): no reason given"
        );
        assert!(error.is_definite());
    }

    #[test]
    fn a_success_that_cannot_be_read_is_unclear() {
        let error = answer(201, "<html>Please log in</html>")
            .read::<Vec<u8>>()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is unclear whether OpenRouter carried out the request: \
             it answered with status 201: the body is not what the API documents"
        );
    }

    #[test]
    fn an_error_without_code_or_with_a_word_for_it_is_still_openrouters() {
        for code in ["null", "\"invalid_request\"", "400"] {
            let body = format!(r#"{{"error":{{"code":{code},"message":"Bad name"}}}}"#);
            let message = String::from("Bad name");
            assert_eq!(
                meaning(400, &body),
                Error::Refused {
                    status: 400,
                    message
                }
            );
        }
    }

    #[test]
    fn a_message_that_echoes_the_key_does_not_show_it() {
        let error = meaning(
            400,
            r#"{"error":{"code":400,"message":"bad token planted"}}"#,
        );
        assert!(
            error.to_string().ends_with("bad token [redacted]"),
            "{error}"
        );
    }

    #[test]
    fn a_wait_is_in_seconds_and_at_most_a_day() {
        assert_eq!(retry_after(" 17 "), Some(Duration::from_secs(17)));
        assert_eq!(retry_after("18446744073709551615"), Some(MAX_WAIT));
        for text in ["", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(retry_after(text), None, "{text}");
        }
    }
}
