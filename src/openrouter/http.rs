//! HTTP, as the client of the API is given it.
//!
//! [`SystemNetwork`](super::SystemNetwork) is the real thing. Whoever implements these traits only
//! carries requests: what an answer or a failure means, and what of it may be shown, is decided
//! above.

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};

use super::error::Invalid;
use super::settings::Settings;

/// Where ways to an API come from.
pub trait Network: Send + Sync {
    /// A way to the API with these settings: its time limit, its proxy, its trust roots. Opens no
    /// connection.
    ///
    /// # Errors
    /// [`Invalid::HttpClient`] if there can be none with these settings.
    fn connect(&self, settings: &Settings) -> Result<Box<dyn Http>, Invalid>;
}

/// A way to one API.
#[async_trait]
pub trait Http: Send + Sync {
    /// Sends a request once: follows no redirect (the bearer must not reach another server) and
    /// repeats nothing (a repeated create is a second key). Reads at most `largest_body` bytes.
    ///
    /// # Errors
    /// What happened instead of a status. Whatever has a status is an answer.
    async fn send(&self, request: HttpRequest, largest_body: usize) -> Result<HttpAnswer, Failure>;
}

/// One request.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// The bearer, marked as sensitive.
    pub authorization: HeaderValue,
    /// The body, if there is one: JSON.
    pub json: Option<Vec<u8>>,
}

/// What came back.
#[derive(Debug)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body, or what went wrong with it in a few words.
    pub body: Result<Vec<u8>, &'static str>,
}

/// What happened instead of an answer. The causes are for people, and may quote what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Certainly nothing was sent.
    NotSent(String),
    /// The time limit was over; the request may have been carried out.
    TimedOut,
    /// The connection was lost; the request may have been carried out.
    Lost(String),
}
