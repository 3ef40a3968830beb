//! The request log: the requests to the API, their callers and their outcomes.
//!
//! The pipeline writes it; tests read it through `Simulator::requests`. It never contains a secret:
//! callers appear by label or hash.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// One request to the API.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoggedRequest {
    /// Counted from 1 since the start; resetting the log does not reset it.
    pub number: u64,
    /// When it arrived, by the simulator's clock.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// The path below `/api/v1`.
    pub path: String,
    /// The query as it was sent.
    pub query: Option<String>,
    /// The body, if it was JSON.
    pub body: Option<Value>,
    /// The caller.
    pub caller: Caller,
    /// The status that was sent; `None` while the request runs, or if the connection was reset.
    pub status: Option<u16>,
    /// When the answer was ready, by the simulator's clock; `None` under the same conditions.
    pub answered_at: Option<Timestamp>,
    /// The fault that was applied, by kind.
    pub fault: Option<&'static str>,
}

/// The owner of a request's bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Caller {
    /// No token, or not a bearer token.
    Anonymous,
    /// A token that no account knows.
    Unknown,
    /// A key or management key that exists or existed but is not accepted.
    Refused {
        /// Its label.
        label: String,
    },
    /// A living management key.
    Management {
        /// Its label.
        label: String,
    },
    /// A living API key.
    Key {
        /// Its hash.
        hash: String,
    },
}

/// The log of one simulator. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RequestLog(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    requests: Vec<LoggedRequest>,
    arrived: u64,
    in_flight: usize,
    high_water_mark: usize,
}

impl LoggedRequest {
    /// Method and path with hashes and ids left out: `DELETE /keys/{hash}`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let templates = [
            ("/keys/*", "/keys/{hash}"),
            ("/workspaces/*", "/workspaces/{id}"),
            ("/workspaces/*/members", "/workspaces/{id}/members"),
            (
                "/guardrails/assignments/keys",
                "/guardrails/assignments/keys",
            ),
            ("/guardrails/*", "/guardrails/{id}"),
            (
                "/guardrails/*/assignments/keys",
                "/guardrails/{id}/assignments/keys",
            ),
            (
                "/guardrails/*/assignments/keys/remove",
                "/guardrails/{id}/assignments/keys/remove",
            ),
        ];
        let template = templates
            .into_iter()
            .find(|(pattern, _)| path_matches(pattern, &self.path));
        let path = template.map_or(self.path.as_str(), |(_, path)| path);
        format!("{} {path}", self.method)
    }
}

impl RequestLog {
    /// All requests since the start or the last reset, in order of arrival.
    #[must_use]
    pub fn all(&self) -> Vec<LoggedRequest> {
        self.entries(|entries| entries.requests.clone())
    }

    /// The requests with this method and path; the path may be a pattern as in a fault rule.
    #[must_use]
    pub fn to(&self, method: &str, path: &str) -> Vec<LoggedRequest> {
        let mut requests = self.all();
        requests.retain(|request| request.method == method && path_matches(path, &request.path));
        requests
    }

    /// How many requests there were, by [`LoggedRequest::endpoint`].
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.all()
            .iter()
            .fold(BTreeMap::new(), |mut counts, request| {
                *counts.entry(request.endpoint()).or_default() += 1;
                counts
            })
    }

    /// How many requests with a management key are being answered now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.entries(|entries| entries.in_flight)
    }

    /// The largest number of concurrent requests with a management key so far.
    #[must_use]
    pub fn high_water_mark(&self) -> usize {
        self.entries(|entries| entries.high_water_mark)
    }

    /// Forgets all requests and resets the high-water mark.
    pub fn reset(&self) {
        self.entries(|entries| {
            entries.requests.clear();
            entries.high_water_mark = entries.in_flight;
        });
    }

    /// Adds a request and assigns its number.
    pub(crate) fn begin(&self, mut request: LoggedRequest) -> Ticket {
        self.entries(|entries| {
            entries.arrived += 1;
            request.number = entries.arrived;
            let is_management = matches!(request.caller, Caller::Management { .. });
            if is_management {
                entries.in_flight += 1;
                entries.high_water_mark = entries.high_water_mark.max(entries.in_flight);
            }
            entries.requests.push(request);
            Ticket {
                log: self.clone(),
                number: entries.arrived,
                is_management,
            }
        })
    }

    fn entries<T>(&self, act: impl FnOnce(&mut Entries) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request that is being answered; dropping it marks the answer as sent.
#[derive(Debug)]
pub(crate) struct Ticket {
    log: RequestLog,
    number: u64,
    is_management: bool,
}

impl Ticket {
    pub(crate) fn note_fault(&self, kind: &'static str) {
        self.amend(|request| request.fault = Some(kind));
    }

    pub(crate) fn note_answer(&self, status: u16, now: Timestamp) {
        self.amend(|request| {
            request.status = Some(status);
            request.answered_at = Some(now);
        });
    }

    fn amend(&self, change: impl FnOnce(&mut LoggedRequest)) {
        self.log.entries(|entries| {
            // From the end, where the running requests are: a benchmark makes many thousands of them. The
            // log may have been reset in between.
            let own = entries
                .requests
                .iter_mut()
                .rfind(|request| request.number == self.number);
            own.map(change);
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_management {
            self.log.entries(|entries| entries.in_flight -= 1);
        }
    }
}

/// Whether `path` matches `pattern`: equal segment by segment, where `*` matches any one segment. The
/// pattern `*` matches every path.
pub(crate) fn path_matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    pattern == "*"
        || loop {
            match (wanted.next(), given.next()) {
                (None, None) => break true,
                (Some("*"), Some(segment)) if !segment.is_empty() => {}
                (Some(wanted), Some(given)) if wanted == given => {}
                _ => break false,
            }
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_exactly_one_segment() {
        assert!(path_matches("/keys/*", "/keys/ab"));
        assert!(!path_matches("/keys/*", "/keys"));
        assert!(!path_matches("/keys/*", "/keys/"));
        assert!(!path_matches("/keys/*", "/keys/ab/cd"));
        assert!(!path_matches("/keys", "/keys/"));
        assert!(path_matches("*", "/chat/completions"));
    }
}
