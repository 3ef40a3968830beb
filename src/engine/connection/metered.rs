//! A metered network: it counts requests to OpenRouter with their outcomes and durations, and keeps for each
//! connection when it last succeeded and how it last failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::engine::clock::Clock;
use crate::engine::meters::Meters;
use crate::openrouter::{Failure, Http, HttpAnswer, HttpRequest, Invalid, Network, Settings};

/// The counters and the clock.
#[derive(Clone)]
pub(super) struct Meter {
    pub(super) meters: Arc<Meters>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The health of a connection.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Heartbeats>);

/// When a connection last succeeded and failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeats {
    /// When OpenRouter last gave a proper answer, including a refusal.
    pub last_success: Option<Timestamp>,
    /// When it last failed, and how.
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
        match outcome.fault() {
            None => last.last_success = Some(now),
            Some(what) => last.last_error = Some((now, what)),
        }
    }
}

/// A metered network.
pub(super) struct Metered<'a> {
    pub(super) network: &'a dyn Network,
    pub(super) meter: Meter,
    /// Present for a connection whose settings are stored.
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
        // Zero if the clock was set back.
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

/// The outcome of a request.
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

    /// The fault of the connection, if there is one. An answer that a key does not exist, for example, is not
    /// a fault.
    fn fault(self) -> Option<&'static str> {
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
