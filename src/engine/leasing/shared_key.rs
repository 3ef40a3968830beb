//! Hands out a rotating role's current key.
//!
//! A read makes no request to OpenRouter, and only rarely a storage call: see
//! [`cache`](crate::engine::cache). Its promise is described in [`Handout`]. A read waits only if the key is
//! dead and its rotation is due: see [`awaiting`].

mod awaiting;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Serialize;

use crate::engine::clock::seconds_until;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::rotating::{SharedKey, Successor, Withheld};
use crate::engine::stored;
use crate::framework::{SecretType, lease_data, under_lease_with};
use crate::logical::{Data, Lease, LeasedSecret, Rendered, Response};
use crate::openrouter::KeyHash;

/// The lease on a shared key. When a lease ends, the key stays valid for the other readers.
pub fn secret_type() -> SecretType<Engine> {
    SecretType::new(SECRET_TYPE, |_: Arc<Engine>, _: LeasedSecret| async {
        Ok(None)
    })
}

/// The response of `creds/:name`.
///
/// # Errors
/// [`Error::Unusable`] if there is no key to hand out; [`Error::Awaited`] if there will be one soon.
pub async fn leased(
    engine: &Engine,
    name: &RoleName,
    key: Arc<SharedKey>,
) -> Result<Response, Error> {
    let (handout, key) = awaiting::handout(engine, name, key).await?;
    let ttl = Duration::from_secs(handout.ttl);
    let internal_data = key.texts.lease.get_or_init(|| {
        let data = Data::from_iter([
            ("role".to_owned(), name.to_string().into()),
            ("key_version".to_owned(), key.version.into()),
        ]);
        lease_data(SECRET_TYPE, data)
    });
    let lease = Lease {
        ttl,
        max_ttl: ttl,
        // When this lease ends, Agent templates, Spring, VSO and Agent's cache read again, which gets them
        // the next key.
        renewable: false,
    };
    let mut response = handout.response(&key)?;
    response.secret = Some(under_lease_with(lease, internal_data.clone()));
    Ok(response)
}

/// The response of `static-creds/:name`.
///
/// # Errors
/// As for [`leased`].
pub async fn unleased(
    engine: &Engine,
    name: &RoleName,
    key: Arc<SharedKey>,
) -> Result<Response, Error> {
    let (handout, key) = awaiting::handout(engine, name, key).await?;
    handout.response(&key)
}

/// The terms on which a reader gets the current key.
///
/// The promise: the key works for at least `ttl` more seconds, through any rotation except an emergency
/// rotation, and unless OpenRouter itself ends it. A rotation leaves the key its grace period, which is
/// longer than the role's ttl, and `ttl` never exceeds the key's own expiry. The lease may be shorter: the
/// server caps it at the mount's maximum and adds a warning.
struct Handout {
    /// In seconds, at least 1.
    ttl: u64,
    warning: Option<String>,
}

impl Handout {
    fn of(key: &SharedKey, now: Timestamp) -> Result<Self, Error> {
        match &key.withheld {
            Some(Withheld::Deletion) => {
                return Err(Error::Unusable(
                    "the role is being deleted; its key is not handed out any more".to_owned(),
                ));
            }
            Some(Withheld::Gone(since)) => {
                let how = format!("is gone at OpenRouter, as was found at {since}");
                return Err(dead(key, &how));
            }
            Some(Withheld::Held(since)) => {
                let how = format!(
                    "was replaced and disabled before storage was restored, as was found at {since}"
                );
                return Err(dead(key, &how));
            }
            Some(Withheld::TornDown(since)) => {
                let how = format!("was revoked by a teardown of the mount, since {since}");
                return Err(dead(key, &how));
            }
            Some(Withheld::Disabled(since)) => {
                return Err(Error::Unusable(format!(
                    "the role's key was disabled at OpenRouter by somebody, as was found at {since}; it \
                     is handed out again when it is enabled there, and rotate-role replaces it"
                )));
            }
            Some(Withheld::Unguarded(reason)) => {
                return Err(Error::Awaited(format!(
                    "the role's key is not handed out until it has the role's guardrail: {reason}"
                )));
            }
            None => {}
        }
        let Some(expires_at) = key.expires_at else {
            return Ok(Self::in_full(key));
        };
        match seconds_until(now, expires_at) {
            0 => Err(dead(key, &format!("expired at {expires_at}"))),
            left if left < key.ttl => Ok(Self {
                ttl: left,
                warning: Some(format!(
                    "the key expires at {expires_at}, so the lease is {left} seconds instead of {}",
                    key.ttl
                )),
            }),
            _ => Ok(Self::in_full(key)),
        }
    }

    fn in_full(key: &SharedKey) -> Self {
        Self {
            ttl: key.ttl,
            warning: None,
        }
    }

    fn response(self, key: &SharedKey) -> Result<Response, Error> {
        let fields = if self.ttl == key.ttl {
            in_full(key)?
        } else {
            rendered(key, self.ttl)?
        };
        Ok(Response::with_rendered(fields).with_warnings(self.warning))
    }
}

/// The fields of most answers: the key works for the role's whole ttl.
fn in_full(key: &SharedKey) -> Result<Rendered, Error> {
    if let Some(fields) = key.texts.fields.get() {
        return Ok(fields.clone());
    }
    let fields = rendered(key, key.ttl)?;
    // If another caller was faster, the text is the same.
    let _ = key.texts.fields.set(fields.clone());
    Ok(fields)
}

fn rendered(key: &SharedKey, ttl: u64) -> Result<Rendered, Error> {
    let view = View {
        api_key: &key.secret,
        key_hash: &key.hash,
        key_name: &key.name,
        key_version: key.version,
        last_vault_rotation: key.since,
        rotation_period: key.period,
        ttl,
    };
    Rendered::showing(&view).map_err(Error::Answer)
}

/// The response to a reader. Between two rotations only `ttl` changes: clients compare the other fields to
/// decide whether to restart.
#[derive(Serialize, JsonSchema)]
pub struct View<'a> {
    /// The API key.
    #[serde(serialize_with = "stored::exposed")]
    #[schemars(with = "String")]
    api_key: &'a SecretString,
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    key_hash: &'a KeyHash,
    /// The key's name at OpenRouter.
    key_name: &'a str,
    /// The key's version: 1 is the role's first key.
    key_version: u64,
    /// When the key became the current key.
    last_vault_rotation: Timestamp,
    /// The time between two rotations, in seconds. With a schedule, the time from the last rotation to
    /// the next.
    rotation_period: u64,
    /// The minimum time that the key remains valid, in seconds.
    ttl: u64,
}

/// The error for a key that no longer works. It is temporary if the engine replaces the key automatically.
fn dead(key: &SharedKey, how: &str) -> Error {
    let because = |reason: &str| format!("the role's key {how}; {reason}");
    match &key.successor {
        Successor::Manual => Error::Unusable(because(
            "rotate-role makes a new one, since rotation is not automated",
        )),
        Successor::Due => Error::Awaited(because("its rotation is due")),
        Successor::Failed(message) => {
            Error::Awaited(because(&format!("its rotation failed: {message}")))
        }
    }
}

const SECRET_TYPE: &str = "rotating_key";

#[cfg(test)]
mod tests;
