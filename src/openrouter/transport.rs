//! One HTTP request and its answer, and which network failures leave no doubt.
//!
//! [`Client`](super::Client) sends through it. It follows no redirect (the bearer must not reach
//! another server), takes no proxy from the environment (the process inherits Vault's), repeats
//! nothing (a repeated create is a second key), and reads no more of an answer than is reasonable.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::answer::{Answer, retry_after};
use super::error::{Bearer, Error, Invalid};
use super::keys::is_usable;
use super::quote::Hidden;
use super::settings::{ProxyUrl, Settings};

/// The way to the API, with the management key at hand.
pub(super) struct Transport {
    http: reqwest::Client,
    api_url: String,
    /// The API's URL and the proxy, for error messages.
    target: String,
    management_key: Credential,
    proxy: Option<ProxyUrl>,
}

impl Transport {
    pub(super) fn new(settings: &Settings) -> Result<Self, Invalid> {
        let management_key =
            Credential::new(settings.management_key.clone(), Bearer::ManagementKey)
                .ok_or(Invalid::ManagementKey)?;
        let target = match &settings.proxy_url {
            Some(proxy) => format!("{} through the proxy {proxy}", settings.api_url),
            None => settings.api_url.to_string(),
        };
        Ok(Self {
            http: http_client(settings)?,
            api_url: settings.api_url.to_string(),
            target,
            management_key,
            proxy: settings.proxy_url.clone(),
        })
    }

    /// The bearer of every request but one.
    pub(super) fn management_key(&self) -> &Credential {
        &self.management_key
    }

    /// Sends one request, once. `path` starts with a slash and needs no escaping.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no connection came about, [`Error::Unclear`] if there was one but
    /// no status arrived over it. Whatever has a status is an answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        credential: &Credential,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, Error> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.api_url))
            .header(AUTHORIZATION, credential.header.clone());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.failure(&error, credential))?;
        Ok(Answer {
            status: response.status(),
            retry_after: response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| retry_after(value.to_str().ok()?)),
            body: read_body(response).await,
            bearer: credential.bearer,
            hidden: self.hidden(credential),
        })
    }

    /// What a request with this credential carries and no text may show.
    fn hidden(&self, credential: &Credential) -> Hidden {
        let proxy = self.proxy.as_ref().map(ProxyUrl::secrets);
        let bearer = credential.secret.clone();
        Hidden::of(proxy.into_iter().flatten().chain([bearer]))
    }

    /// Tells a request that was never sent from one that may have been.
    ///
    /// `is_connect` covers name resolution, TCP, a proxy's CONNECT and the TLS handshake, time
    /// limits on these included, and nothing after them. A builder error precedes everything.
    /// All else (the overall time limit, a reset, a stream that HTTP/2 refused) may have come after
    /// the first byte of the request, and nobody can tell what OpenRouter made of it.
    fn failure(&self, error: &reqwest::Error, credential: &Credential) -> Error {
        let cause = self.hidden(credential).quotable(&innermost(error));
        if error.is_connect() || error.is_builder() {
            let target = self.target.clone();
            Error::Unreachable { target, cause }
        } else if error.is_timeout() {
            Error::unclear("it did not answer within the request timeout")
        } else {
            Error::unclear(format!(
                "the connection was lost before an answer came: {cause}"
            ))
        }
    }
}

/// A key in the form in which requests carry it.
pub(super) struct Credential {
    secret: SecretString,
    header: HeaderValue,
    bearer: Bearer,
}

impl Credential {
    /// `None` if the key contains what a header, or a key, cannot.
    pub(super) fn new(secret: SecretString, bearer: Bearer) -> Option<Self> {
        if !is_usable(&secret) {
            return None;
        }
        let mut header =
            HeaderValue::try_from(format!("Bearer {}", secret.expose_secret())).ok()?;
        header.set_sensitive(true);
        Some(Self {
            secret,
            header,
            bearer,
        })
    }
}

fn http_client(settings: &Settings) -> Result<reqwest::Client, Invalid> {
    if settings.request_timeout.is_zero() {
        return Err(Invalid::RequestTimeout);
    }
    let unusable = |error: reqwest::Error| Invalid::HttpClient(innermost(&error));
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .timeout(settings.request_timeout)
        // Shorter than the whole, so that a connection that never comes about is reported as such.
        .connect_timeout(CONNECT_TIMEOUT.min(settings.request_timeout / 2))
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        .no_proxy();
    if let Some(proxy) = &settings.proxy_url {
        // A plain request shows the proxy the management key, so both must be on this host.
        if !settings.api_url.is_https() && !proxy.is_loopback() {
            return Err(Invalid::PlainHttpThroughProxy);
        }
        builder = builder.proxy(reqwest::Proxy::all(proxy.expose()).map_err(unusable)?);
    }
    if let Some(bundle) = &settings.ca_certificate {
        builder = builder.tls_certs_merge(bundle.certificates().iter().cloned());
    }
    builder.build().map_err(unusable)
}

/// Reads a body to its end, or says why not.
async fn read_body(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                return Err("the body does not end".to_owned());
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => {
                return Err("the body did not arrive within the request timeout".to_owned());
            }
            Err(_) => return Err("the body broke off".to_owned()),
        }
    }
}

/// The last cause of an error. The outer ones only say that a request failed, and name the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// As many as the engine has requests under way at a time.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// A page of 100 keys is about 100 KiB.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_marked_so_that_nothing_prints_or_indexes_it() {
        let secret = SecretString::from("sk-or-v1-planted");
        let credential = Credential::new(secret, Bearer::ApiKey).unwrap();
        assert_eq!(credential.header, "Bearer sk-or-v1-planted");
        assert_eq!(format!("{:?}", credential.header), "Sensitive");
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_no_credential() {
        for secret in ["", "two words", "line\nbreak", "schlüssel"] {
            let secret = SecretString::from(secret);
            assert!(Credential::new(secret, Bearer::ApiKey).is_none());
        }
    }
}
