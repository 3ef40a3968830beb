//! The real network: HTTP over TCP and TLS.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect;

use super::error::Invalid;
use super::http::{Failure, Http, HttpAnswer, HttpRequest, Network};
use super::settings::Settings;

/// The system's network. Ignores proxy variables in the environment, which is inherited from Vault.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    /// Reads the system's CA certificates.
    fn connect(&self, settings: &Settings) -> Result<Box<dyn Http>, Invalid> {
        let unusable = |error: reqwest::Error| Invalid::HttpClient(innermost(&error));
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(settings.request_timeout)
            // Shorter than the whole timeout, so that a failed connection is reported as such.
            .connect_timeout(CONNECT_TIMEOUT.min(settings.request_timeout / 2))
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .no_proxy();
        if let Some(proxy) = &settings.proxy_url {
            builder = builder.proxy(reqwest::Proxy::all(proxy.expose()).map_err(unusable)?);
        }
        if let Some(bundle) = &settings.ca_certificate {
            builder = builder.tls_certs_merge(bundle.certificates().iter().cloned());
        }
        Ok(Box::new(builder.build().map_err(unusable)?))
    }
}

#[async_trait]
impl Http for reqwest::Client {
    async fn send(&self, request: HttpRequest, largest_body: usize) -> Result<HttpAnswer, Failure> {
        let mut builder = self
            .request(request.method, request.url)
            .header(AUTHORIZATION, request.authorization);
        if let Some(json) = request.json {
            let content_type = HeaderValue::from_static("application/json");
            builder = builder.header(CONTENT_TYPE, content_type).body(json);
        }
        let mut response = builder.send().await.map_err(|error| failure(&error))?;
        Ok(HttpAnswer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: read_body(response, largest_body).await,
        })
    }
}

/// Distinguishes a request that was never sent from one that may have been.
///
/// `is_connect` covers name resolution, TCP, a proxy's CONNECT and the TLS handshake, including their
/// timeouts, and nothing later. A builder error precedes everything. Any other error (the overall
/// timeout, a reset, a stream that HTTP/2 refused) may have come after the first byte of the request,
/// so the outcome is unknown.
fn failure(error: &reqwest::Error) -> Failure {
    if error.is_connect() || error.is_builder() {
        Failure::NotSent(innermost(error))
    } else if error.is_timeout() {
        Failure::TimedOut
    } else {
        Failure::Lost(innermost(error))
    }
}

/// Reads the whole body, or says why it could not.
async fn read_body(
    mut response: reqwest::Response,
    largest: usize,
) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > largest => {
                return Err("the body does not end");
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => {
                return Err("the body did not arrive within the request timeout");
            }
            Err(_) => return Err("the body broke off"),
        }
    }
}

/// The root cause of an error. The outer ones only say that a request failed, and name the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of requests that the engine has in flight at most.
const MAX_IDLE_CONNECTIONS: usize = 8;
