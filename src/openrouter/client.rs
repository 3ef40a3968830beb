//! The calls that the engine makes, one request each.
//!
//! No request is repeated here: the engine decides from the [`Error`] whether to retry, and what to
//! look up first.

use std::sync::Arc;

use reqwest::Method;
use secrecy::SecretString;
use serde::Serialize;

use super::error::{Bearer, Error, Invalid};
use super::http::Network;
use super::identifiers::KeyHash;
use super::keys::{CreateBody, CreatedKey, CurrentKey, Deletion, Key, NewKey};
use super::limits::Limits;
use super::settings::Settings;
use super::transport::{Credential, Transport};

/// A client of OpenRouter's key-management API with one management key. Clones share its connections;
/// create one for each set of [`Settings`] and keep it.
#[derive(Clone)]
pub struct Client {
    pub(super) transport: Arc<Transport>,
}

impl Client {
    /// A client that sends its requests over this network. Opens no connection.
    ///
    /// # Errors
    /// [`Invalid`] if no request can be made with these settings.
    pub fn new(settings: &Settings, network: &dyn Network) -> Result<Self, Invalid> {
        let transport = Arc::new(Transport::new(settings, network)?);
        Ok(Self { transport })
    }

    /// Describes a key, using that key itself (`GET /key`). Success proves that the key works.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] with [`Bearer::ApiKey`] if the key does not work (yet, or any more).
    pub async fn current_key(&self, secret: &SecretString) -> Result<CurrentKey, Error> {
        let credential =
            Credential::new(secret.clone(), Bearer::ApiKey).ok_or(Error::UnusableKey)?;
        self.describe(&credential).await
    }

    /// Describes the management key (`GET /key`). The call succeeds for other keys too: check
    /// [`CurrentKey::is_management_key`].
    ///
    /// # Errors
    /// Every variant of [`Error`] but `UnusableKey`.
    pub async fn current_management_key(&self) -> Result<CurrentKey, Error> {
        self.describe(self.transport.management_key()).await
    }

    /// Creates a key (`POST /keys`). OpenRouter has no idempotency key and returns the secret only
    /// once.
    ///
    /// # Errors
    /// After [`Error::Unclear`] there may be a key whose secret nobody knows: find it with
    /// [`find_by_nonces`](Self::find_by_nonces). After any other error there is none.
    pub async fn create_key(&self, new: &NewKey) -> Result<CreatedKey, Error> {
        let credential = self.transport.management_key();
        let body = CreateBody::from(new);
        self.transport
            .send(Method::POST, "/keys", credential, Some(&body))
            .await?
            .created_key()
    }

    /// Reads a key (`GET /keys/{hash}`).
    ///
    /// # Errors
    /// [`Error::NotFound`] if this management key does not see such a key.
    pub async fn key(&self, hash: &KeyHash) -> Result<Key, Error> {
        let credential = self.transport.management_key();
        let answer = self
            .transport
            .send(Method::GET, &key_path(hash), credential, NO_BODY)
            .await?;
        answer.key(hash)
    }

    /// Changes the limits of a key (`PATCH /keys/{hash}`); a limit that is `None` is cleared. Spending,
    /// name and secret do not change. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::NotFound`] if this management key does not see such a key.
    pub async fn update_limits(&self, hash: &KeyHash, limits: &Limits) -> Result<Key, Error> {
        self.patch_key(hash, limits).await
    }

    async fn patch_key(&self, hash: &KeyHash, body: &impl Serialize) -> Result<Key, Error> {
        let credential = self.transport.management_key();
        let answer = self
            .transport
            .send(Method::PATCH, &key_path(hash), credential, Some(body))
            .await?;
        answer.key(hash)
    }

    /// Switches a key off or on (`PATCH /keys/{hash}`). Safe to repeat.
    ///
    /// # Errors
    /// [`Error::NotFound`] if this management key does not see such a key; [`Error::Unclear`] too for
    /// an answer that does not show the change.
    pub async fn set_disabled(&self, hash: &KeyHash, disabled: bool) -> Result<(), Error> {
        let body = serde_json::json!({ "disabled": disabled });
        let key = self.patch_key(hash, &body).await?;
        if key.disabled == disabled {
            Ok(())
        } else {
            Err(Error::unclear("its answer does not show the change"))
        }
    }

    /// Gives a key another name (`PATCH /keys/{hash}`). Safe to repeat.
    ///
    /// # Errors
    /// As for [`set_disabled`](Self::set_disabled).
    pub async fn rename(&self, hash: &KeyHash, name: &str) -> Result<Key, Error> {
        let body = serde_json::json!({ "name": name });
        let key = self.patch_key(hash, &body).await?;
        if key.name == name {
            Ok(key)
        } else {
            Err(Error::unclear("its answer does not show the change"))
        }
    }

    /// Deletes a key for good (`DELETE /keys/{hash}`). Safe to repeat.
    ///
    /// # Errors
    /// After [`Error::Unclear`] the key may or may not exist. A 404 that is not in OpenRouter's own
    /// form is unclear too: a proxy's "not found" must not make the engine forget a live key.
    pub async fn delete_key(&self, hash: &KeyHash) -> Result<Deletion, Error> {
        let credential = self.transport.management_key();
        let answer = self
            .transport
            .send(Method::DELETE, &key_path(hash), credential, NO_BODY)
            .await?;
        answer.deletion()
    }

    async fn describe(&self, credential: &Credential) -> Result<CurrentKey, Error> {
        let answer = self
            .transport
            .send(Method::GET, "/key", credential, NO_BODY)
            .await?;
        answer.current_key()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// No trailing slash: whether OpenRouter redirects one is not documented.
pub(super) fn key_path(hash: &KeyHash) -> String {
    format!("/keys/{hash}")
}

pub(super) const NO_BODY: Option<&()> = None;
