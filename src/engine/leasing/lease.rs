//! Renewal and revocation of a lease by the server.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ending::end;
use crate::engine::books::LeasedKey;
use crate::engine::clock::{after, seconds_until};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::role::dynamic::{DynamicRole, LINGER};
use crate::engine::role::{Role, capped};
use crate::framework::{Outcome, SecretType, under_lease};
use crate::logical::{Data, Lease, LeasedSecret, Response, Secret};

/// The lease on a dynamic role's key.
pub fn secret_type() -> SecretType<Engine> {
    SecretType::new(SECRET_TYPE, revoke).renewed_by(renew)
}

/// The data that the server stores with a lease and returns with it. It contains all that a revocation needs,
/// even if the role or the record is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LeaseData {
    #[serde(flatten)]
    pub key: LeasedKey,
    pub expires_at: Option<Timestamp>,
}

impl LeaseData {
    /// A lease with this data.
    pub fn under(&self, lease: Lease) -> Secret {
        let data = match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(data)) => data,
            // A structure of strings always serializes to an object.
            _ => Data::new(),
        };
        under_lease(SECRET_TYPE, lease, data)
    }

    fn of(secret: &LeasedSecret) -> Result<Self, Error> {
        let data = serde_json::Value::Object(secret.internal_data.clone());
        serde_json::from_value(data)
            .map_err(|reason| Error::Invalid(format!("the lease's data cannot be read: {reason}")))
    }
}

/// Ends the key. A key that is already gone counts as success. Any other failure is an error, so that the
/// server retries.
async fn revoke(engine: Arc<Engine>, secret: LeasedSecret) -> Outcome {
    let LeaseData { key, .. } = LeaseData::of(&secret)?;
    let lease = engine.books().await?.leases.lock(&key.nonce).await;
    end(&engine, &lease, &key).await?;
    tracing::info!(
        mount = engine.mount,
        role = %key.role,
        key_hash = %key.key_hash,
        "revoked a lease's key"
    );
    Ok(None)
}

/// Extends the lease by the requested increment or by the role's ttl, within max_ttl.
async fn renew(engine: Arc<Engine>, secret: LeasedSecret) -> Outcome {
    engine.require_in_service()?;
    let lease = LeaseData::of(&secret)?;
    let Some(Role::Dynamic(role)) = Role::load(&*engine.storage, &lease.key.role).await? else {
        return Err(Error::Missing(format!(
            "role {:?} is gone, so its leases cannot be renewed; this one ends at its time",
            lease.key.role.to_string()
        ))
        .into());
    };
    let books = engine.books().await?;
    let longest = engine.system.max_lease_ttl().await?;
    let guard = books.leases.lock(&lease.key.nonce).await;
    let record = guard.record();
    if record.is_some_and(|record| engine.runs().may_have_revoked(&record)) {
        return Err(Error::Missing(
            "the lease's key was to be revoked by a teardown or by \"rotate-all\", and may be deleted; read \
             again for a new key"
                .to_owned(),
        )
        .into());
    }
    let now = engine.now();
    let renewal = Renewal::of(&role, &lease, &secret, longest, now)?;
    let until = after(now, renewal.ttl);
    // Stored before the server is told: the record must outlast the lease.
    if !guard.extend(&*engine.storage, until).await? {
        return Err(Error::Missing(
            "the lease's key is already deleted; read again for a new key".to_owned(),
        )
        .into());
    }
    let mut response = Response::default().with_warnings(renewal.warning);
    response.secret = Some(lease.under(Lease {
        ttl: Duration::from_secs(renewal.ttl),
        max_ttl: Duration::from_secs(renewal.max_ttl),
        renewable: true,
    }));
    Ok(Some(response))
}

/// The duration of a renewed lease, in seconds.
struct Renewal {
    ttl: u64,
    max_ttl: u64,
    warning: Option<String>,
}

impl Renewal {
    /// Calculated as in Vault's own engines: the requested increment, or the role's ttl, counted from now,
    /// but no later than the longest lease, which is counted from the issue time.
    fn of(
        role: &DynamicRole,
        lease: &LeaseData,
        secret: &LeasedSecret,
        longest: Duration,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let issued_at = Timestamp::from_second(secret.issued_at).unwrap_or(now);
        let mut max_ttl = capped(role.max_ttl, longest);
        if let Some(expires_at) = lease.expires_at {
            // The role's max_ttl may have been raised since, but the key's expiry is fixed.
            let life = seconds_until(issued_at, expires_at);
            max_ttl = max_ttl.min(life.saturating_sub(LINGER));
        }
        let latest = after(issued_at, max_ttl);
        let left = seconds_until(now, latest);
        if left == 0 {
            return Err(Error::Invalid(format!(
                "the lease cannot be renewed past {latest}, the end of its max_ttl; read again for \
                 another key"
            )));
        }
        let asked = secret.increment.as_secs();
        let wanted = if asked == 0 { role.ttl } else { asked };
        // If a requested increment is cut short, the server adds its own warning.
        let warning = (asked == 0 && wanted > left).then(|| {
            format!(
                "the lease is renewed for {left} seconds instead of {wanted}, limited by its \
                     max_ttl"
            )
        });
        Ok(Self {
            ttl: wanted.min(left),
            // The server limits the requested increment by this, whatever ttl is.
            max_ttl,
            warning,
        })
    }
}

const SECRET_TYPE: &str = "dynamic_key";
