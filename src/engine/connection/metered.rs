//! The way to OpenRouter, with a meter on it: how many requests there are, what comes of them, how long
//! they take; and of each connection when it worked last, and what went wrong last.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::engine::clock::Clock;
use crate::engine::meters::Meters;
use crate::openrouter::{Failure, Http, HttpAnswer, HttpRequest, Invalid, Network, Settings};

/// Who counts, and by what time.
#[derive(Clone)]
pub(super) struct Meter {
    pub(super) meters: Arc<Meters>,
    pub(super) clock: Arc<dyn Clock>,
}

/// How a connection is doing.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Heartbeats>);

/// When a connection worked last, and when it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeats {
    /// When OpenRouter last did as it was asked, or said why not.
    pub last_success: Option<Timestamp>,
    /// When it last failed, and in which way.
    pub last_error: Option<(Timestamp, &'static str)>,
}

impl Pulse {
    pub(super) fn last(&self) -> Heartbeats {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, outcome: Outcome, now: Timestamp) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome.trouble() {
            None => last.last_success = Some(now),
            Some(what) => last.last_error = Some((now, what)),
        }
    }
}

/// A network with a meter on it.
pub(super) struct Metered<'a> {
    pub(super) network: &'a dyn Network,
    pub(super) meter: Meter,
    /// Of a connection whose settings are stored.
    pub(super) pulse: Option<Arc<Pulse>>,
}

impl Network for Metered<'_> {
    fn connect(&self, settings: &Settings) -> Result<Box<dyn Http>, Invalid> {
        Ok(Box::new(MeteredHttp {
            http: self.network.connect(settings)?,
            meter: self.meter.clone(),
            pulse: self.pulse.clone(),
        }))
    }
}

struct MeteredHttp {
    http: Box<dyn Http>,
    meter: Meter,
    pulse: Option<Arc<Pulse>>,
}

#[async_trait]
impl Http for MeteredHttp {
    async fn send(&self, request: HttpRequest, largest_body: usize) -> Result<HttpAnswer, Failure> {
        let method = method(request.method.as_str());
        let begun = self.meter.clock.now();
        let answer = self.http.send(request, largest_body).await;
        let now = self.meter.clock.now();
        // Zero where the clock was set back.
        let took = Duration::try_from(now.duration_since(begun)).unwrap_or_default();
        let outcome = Outcome::of(&answer);
        self.meter.meters.requested(method, outcome.name(), took);
        if let Some(pulse) = &self.pulse {
            pulse.note(outcome, now);
        }
        answer
    }
}

fn method(name: &str) -> &'static str {
    ["GET", "POST", "PATCH", "DELETE"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("other")
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Refused,
    Unauthorized,
    RateLimited,
    ServerError,
    TimedOut,
    Lost,
    NotSent,
}

impl Outcome {
    fn of(answer: &Result<HttpAnswer, Failure>) -> Self {
        match answer {
            Ok(answer) => match answer.status.as_u16() {
                200..=299 => Self::Success,
                401 | 403 => Self::Unauthorized,
                429 => Self::RateLimited,
                400..=499 => Self::Refused,
                _ => Self::ServerError,
            },
            Err(Failure::TimedOut) => Self::TimedOut,
            Err(Failure::Lost(_)) => Self::Lost,
            Err(Failure::NotSent(_)) => Self::NotSent,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::TimedOut => "timeout",
            Self::Lost => "lost",
            Self::NotSent => "unreachable",
        }
    }

    /// What is wrong with the connection, if something is. That a key does not exist, say, is an answer.
    fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Success | Self::Refused => None,
            Self::Unauthorized => Some("OpenRouter does not accept a key"),
            Self::RateLimited => Some("OpenRouter's rate limit is reached"),
            Self::ServerError => Some("OpenRouter answered with a server error"),
            Self::TimedOut => Some("OpenRouter did not answer within the request timeout"),
            Self::Lost => Some("the connection was lost before an answer came"),
            Self::NotSent => Some("OpenRouter cannot be reached"),
        }
    }
}
