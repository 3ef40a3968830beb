//! A connection as it is stored: one OpenRouter management key, and how to reach the API with it.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::engine::connection::Bounds;
use crate::engine::error::Error;
use crate::engine::names::{Address, ConnectionName};
use crate::engine::stored::{self, Stored};
use crate::logical::Storage;
use crate::openrouter::{ApiUrl, CaBundle, ProxyUrl, Settings, Workspace};

/// A connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// The management key. It is sent only to OpenRouter.
    #[serde(serialize_with = "stored::exposed")]
    pub management_key: SecretString,
    /// The address of the API.
    pub api_url: ApiUrl,
    /// The operator's description.
    pub description: String,
    /// The time limit of one request, in seconds.
    pub request_timeout: u64,
    /// Trusted certificates in addition to the system's.
    pub ca_certificate: Option<CaBundle>,
    /// The proxy.
    pub proxy_url: Option<ProxyUrl>,
    /// What OpenRouter reported about the management key when it was verified; `None` if it was not.
    pub proof: Option<Proof>,
    /// Identifies the address that `api_url`, `proxy_url` and `ca_certificate` form, and says which keys may
    /// be sent there.
    #[serde(default)]
    pub address: Address,
    /// The time between two comparisons with OpenRouter, in seconds; 0 compares only when the work begins.
    #[serde(default = "every_hour", skip_serializing_if = "is_every_hour")]
    pub reconcile_interval: u64,
    /// The bounds of the roles that use it.
    #[serde(default, skip_serializing_if = "Bounds::are_open")]
    pub bounds: Bounds,
}

/// The default interval.
pub(super) fn every_hour() -> u64 {
    60 * 60
}

fn is_every_hour(seconds: &u64) -> bool {
    *seconds == every_hour()
}

/// OpenRouter's report about a management key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The key, mostly masked.
    pub label: String,
    /// When it expires; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// When it was verified.
    pub verified_at: Timestamp,
    /// The workspaces that the key could see then; `None` if they could not be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<Workspace>>,
}

impl Connection {
    /// The settings of an API client.
    pub fn settings(&self) -> Settings {
        Settings {
            api_url: self.api_url.clone(),
            management_key: self.management_key.clone(),
            request_timeout: Duration::from_secs(self.request_timeout),
            ca_certificate: self.ca_certificate.clone(),
            proxy_url: self.proxy_url.clone(),
        }
    }

    /// Reads a connection: one storage call.
    ///
    /// # Errors
    /// Errors from storage.
    pub async fn load(storage: &dyn Storage, name: &ConnectionName) -> Result<Option<Self>, Error> {
        Ok(stored::load(storage, &name.key()).await?)
    }

    /// Writes it: one storage call.
    ///
    /// # Errors
    /// Errors from storage.
    pub async fn store(&self, storage: &dyn Storage, name: &ConnectionName) -> Result<(), Error> {
        Ok(stored::store::<Self>(storage, &name.key(), self).await?)
    }

    /// Whether both have the same address.
    pub fn has_address_of(&self, other: &Self) -> bool {
        self.api_url == other.api_url
            && self.ca_certificate == other.ca_certificate
            && self.proxy_url == other.proxy_url
    }

    /// Whether both have the same management key.
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.management_key.expose_secret() == other.management_key.expose_secret()
    }
}

impl Stored for Connection {
    /// Version 2 adds `address`; without it an older build would send keys to addresses where they must not
    /// go. Version 3 adds `reconcile_interval` and `bounds`; without them an older build would let every role
    /// create any key.
    const VERSION: u32 = 3;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_shows_no_secret_by_debug() {
        let connection = Connection {
            management_key: SecretString::from("sk-or-v1-planted"),
            api_url: ApiUrl::default(),
            description: String::new(),
            request_timeout: 30,
            ca_certificate: None,
            proxy_url: Some(ProxyUrl::parse("http://vault:planted@proxy.example:3128").unwrap()),
            proof: None,
            address: Address::default(),
            reconcile_interval: 0,
            bounds: Bounds::default(),
        };
        let shown = format!("{connection:?} {:?}", connection.settings());
        assert!(shown.contains("proxy.example"), "{shown}");
        assert!(!shown.contains("planted"), "{shown}");
    }
}
