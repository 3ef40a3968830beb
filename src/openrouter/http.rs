//! The HTTP interface that the client is given.
//!
//! [`SystemNetwork`](super::SystemNetwork) is the production implementation. Implementations only carry
//! requests: the layers above interpret answers and failures, and decide what may be shown.

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};

use super::error::Invalid;
use super::settings::Settings;

/// Creates connections to an API.
pub trait Network: Send + Sync {
    /// A connection to the API with these settings: time limit, proxy, trust roots. Opens no socket
    /// yet.
    ///
    /// # Errors
    /// [`Invalid::HttpClient`] if these settings cannot be used.
    fn connect(&self, settings: &Settings) -> Result<Box<dyn Http>, Invalid>;
}

/// A connection to one API.
#[async_trait]
pub trait Http: Send + Sync {
    /// Sends a request once. Follows no redirect (the key must not reach another server) and repeats
    /// nothing (a repeated create makes a second key). Reads at most `largest_body` bytes.
    ///
    /// # Errors
    /// What happened instead of a status. Anything with a status is an answer.
    async fn send(&self, request: HttpRequest, largest_body: usize) -> Result<HttpAnswer, Failure>;
}

/// One request.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// The key, marked as sensitive.
    pub authorization: HeaderValue,
    /// The JSON body, if there is one.
    pub json: Option<Vec<u8>>,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body, or a short reason why it is missing.
    pub body: Result<Vec<u8>, &'static str>,
}

/// What happened instead of an answer. The texts are for people, and may quote what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was sent.
    NotSent(String),
    /// The request timed out; it may have been carried out.
    TimedOut,
    /// The connection was lost; the request may have been carried out.
    Lost(String),
}
