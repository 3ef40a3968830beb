//! Sends one request, and decides which failures are certain.
//!
//! [`Client`](super::Client) sends through it. It adds the key to a request and removes secrets from
//! the answer; [`Http`] carries the request.

use reqwest::Method;
use reqwest::header::{HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::answer::{Answer, retry_after};
use super::error::{Bearer, Error, Invalid};
use super::http::{Failure, Http, HttpRequest, Network};
use super::keys::is_usable;
use super::quote::Hidden;
use super::settings::{ProxyUrl, Settings};

/// The connection to the API, with the management key.
pub(super) struct Transport {
    http: Box<dyn Http>,
    api_url: String,
    /// The API's URL and the proxy, for error messages.
    target: String,
    management_key: Credential,
    proxy: Option<ProxyUrl>,
}

impl Transport {
    pub(super) fn new(settings: &Settings, network: &dyn Network) -> Result<Self, Invalid> {
        let management_key =
            Credential::new(settings.management_key.clone(), Bearer::ManagementKey)
                .ok_or(Invalid::ManagementKey)?;
        if settings.request_timeout.is_zero() {
            return Err(Invalid::RequestTimeout);
        }
        let target = match &settings.proxy_url {
            // A plain request reveals the management key to the proxy, so both must be on this host.
            Some(proxy) if !settings.api_url.is_https() && !proxy.is_loopback() => {
                return Err(Invalid::PlainHttpThroughProxy);
            }
            Some(proxy) => format!("{} through the proxy {proxy}", settings.api_url),
            None => settings.api_url.to_string(),
        };
        Ok(Self {
            http: network.connect(settings)?,
            api_url: settings.api_url.to_string(),
            target,
            management_key,
            proxy: settings.proxy_url.clone(),
        })
    }

    /// The key of every request but one.
    pub(super) fn management_key(&self) -> &Credential {
        &self.management_key
    }

    /// Sends one request, once. `path` starts with a slash and needs no escaping.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no connection was made, [`Error::Unclear`] if there was one but no
    /// status arrived. Anything with a status is an answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        credential: &Credential,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, Error> {
        let failed = |failure| self.error(failure, credential);
        let json = body.map(serde_json::to_vec).transpose();
        let request = HttpRequest {
            method,
            url: format!("{}{path}", self.api_url),
            authorization: credential.header.clone(),
            json: json.map_err(|error| failed(Failure::NotSent(error.to_string())))?,
        };
        let answer = self.http.send(request, MAX_BODY_BYTES).await;
        let answer = answer.map_err(failed)?;
        Ok(Answer {
            status: answer.status,
            retry_after: answer
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| retry_after(value.to_str().ok()?)),
            body: answer.body.map_err(str::to_owned),
            bearer: credential.bearer,
            hidden: self.hidden(credential),
        })
    }

    /// What a request with this credential contains and no text may show.
    fn hidden(&self, credential: &Credential) -> Hidden {
        let proxy = self.proxy.as_ref().map(ProxyUrl::secrets);
        let bearer = credential.secret.clone();
        Hidden::of(proxy.into_iter().flatten().chain([bearer]))
    }

    /// The error for a failure, without the secrets that the failure may quote.
    fn error(&self, failure: Failure, credential: &Credential) -> Error {
        let quoted = |cause: &str| self.hidden(credential).quotable(cause);
        match failure {
            Failure::NotSent(cause) => Error::Unreachable {
                target: self.target.clone(),
                cause: quoted(&cause),
            },
            Failure::TimedOut => Error::unclear("it did not answer within the request timeout"),
            Failure::Lost(cause) => Error::unclear(format!(
                "the connection was lost before an answer came: {}",
                quoted(&cause)
            )),
        }
    }
}

/// A key in the form that requests carry.
pub(super) struct Credential {
    secret: SecretString,
    header: HeaderValue,
    bearer: Bearer,
}

impl Credential {
    /// `None` if the key contains characters that a header, or a key, cannot contain.
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
