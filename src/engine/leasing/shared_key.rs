//! Handing a rotating role's current key out.
//!
//! A read costs one storage call and no call to OpenRouter. What it promises is in [`Handout`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;

use crate::engine::clock::seconds_until;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::rotating::{Misfit, RotatingRole};
use crate::engine::role::{capped, shortened};
use crate::engine::stored;
use crate::framework::{SecretType, under_lease};
use crate::logical::{Data, Lease, LeasedSecret, Response};
use crate::openrouter::KeyHash;

/// The lease on a shared key. Its end is one reader's affair: the key stays for the others.
pub fn secret_type() -> SecretType<Engine> {
    SecretType::new(SECRET_TYPE, |_: Arc<Engine>, _: LeasedSecret| async {
        Ok(None)
    })
}

/// The answer of `creds/:name`.
///
/// # Errors
/// [`Error::Unusable`] when there is no key to hand out.
pub fn leased(
    engine: &Engine,
    name: &RoleName,
    role: &RotatingRole,
    longest: Duration,
) -> Result<Response, Error> {
    let handout = Handout::of(role, engine.now(), Some(longest))?;
    let ttl = Duration::from_secs(handout.ttl);
    let internal_data = Data::from_iter([
        ("role".to_owned(), name.to_string().into()),
        ("key_version".to_owned(), role.current.version.into()),
    ]);
    let lease = Lease {
        ttl,
        max_ttl: ttl,
        // Agent templates, Spring, VSO and the Agent's cache then read again, which is what brings
        // them the next key.
        renewable: false,
    };
    let mut response = handout.response(role)?;
    response.secret = Some(under_lease(SECRET_TYPE, lease, internal_data));
    Ok(response)
}

/// The answer of `static-creds/:name`.
///
/// # Errors
/// [`Error::Unusable`] when there is no key to hand out.
pub fn unleased(engine: &Engine, role: &RotatingRole) -> Result<Response, Error> {
    Handout::of(role, engine.now(), None)?.response(role)
}

/// The terms on which a reader gets the current key.
///
/// The promise: it works for at least `ttl` seconds more, whatever rotation comes, short of an
/// emergency rotation or OpenRouter's own doing. A rotation leaves it its grace period, which is
/// longer than the role's ttl; and `ttl` never reaches past the key's own expiry.
struct Handout {
    /// In seconds, at least one.
    ttl: u64,
    warnings: Vec<String>,
}

impl Handout {
    fn of(role: &RotatingRole, now: Timestamp, longest: Option<Duration>) -> Result<Self, Error> {
        if role.deletion.is_some() {
            return Err(Error::Unusable(
                "the role is being deleted; its key is not handed out any more".to_owned(),
            ));
        }
        match role.unfit {
            Some(unfit) if unfit.reason == Misfit::Gone => {
                let how = format!("is gone at OpenRouter, as was found at {}", unfit.since);
                return Err(dead(role, &how));
            }
            Some(unfit) if unfit.reason == Misfit::Disabled => {
                return Err(Error::Unusable(format!(
                    "the role's key was disabled at OpenRouter by somebody, as was found at {}; it is \
                     handed out again when it is enabled there, and rotate-role replaces it",
                    unfit.since
                )));
            }
            _ => {}
        }
        let wanted = role.definition.rotation.ttl;
        let mut ttl = longest.map_or(wanted, |longest| capped(wanted, longest));
        let mut warnings = Vec::from_iter(shortened(wanted, ttl));
        if let Some(expires_at) = role.current.expires_at {
            let left = seconds_until(now, expires_at);
            if left == 0 {
                return Err(dead(role, &format!("expired at {expires_at}")));
            }
            if left < ttl {
                ttl = left;
                warnings.push(format!(
                    "the key expires at {expires_at}, so the lease is {ttl} seconds instead of \
                     {wanted}"
                ));
            }
        }
        Ok(Self { ttl, warnings })
    }

    fn response(self, role: &RotatingRole) -> Result<Response, Error> {
        let key = &role.current;
        let view = View {
            api_key: &key.secret,
            key_hash: &key.hash,
            key_name: &key.name,
            key_version: key.version,
            last_vault_rotation: key.since,
            rotation_period: period(role),
            ttl: self.ttl,
        };
        let shown = Response::showing(&view).map_err(Error::Answer)?;
        Ok(shown.with_warnings(self.warnings))
    }
}

/// What a reader gets. Nothing here but `ttl` changes between two rotations: clients compare the rest
/// to decide whether to restart.
#[derive(Serialize)]
struct View<'a> {
    #[serde(serialize_with = "stored::exposed")]
    api_key: &'a SecretString,
    key_hash: &'a KeyHash,
    key_name: &'a str,
    key_version: u64,
    last_vault_rotation: Timestamp,
    rotation_period: u64,
    ttl: u64,
}

/// In seconds, for clients that want a number whatever the schedule is: for cron, the time from
/// this key's rotation to the next.
fn period(role: &RotatingRole) -> u64 {
    let schedule = &role.definition.rotation.schedule;
    if let Some(period) = schedule.period() {
        return period.as_duration().as_secs();
    }
    let since = role.current.anchor;
    let next = schedule.next_after(since);
    next.map_or(0, |next| seconds_until(since, next)).max(1)
}

fn dead(role: &RotatingRole, how: &str) -> Error {
    let reason = match &role.rotation_failure {
        Some(failure) => format!("its rotation failed: {}", failure.message),
        None if !role.definition.rotation.automated => {
            "rotate-role makes a new one, since rotation is not automated".to_owned()
        }
        None => "its rotation is due".to_owned(),
    };
    Error::Unusable(format!("the role's key {how}; {reason}"))
}

const SECRET_TYPE: &str = "rotating_key";

#[cfg(test)]
mod tests;
