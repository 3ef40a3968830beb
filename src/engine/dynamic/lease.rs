//! What becomes of the lease on a key: renewed, revoked, or never heard of.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::DynamicRole;
use super::leases::Record;
use crate::engine::backoff::delay;
use crate::engine::clock::{after, seconds_until};
use crate::engine::connection::ConnectionName;
use crate::engine::error::Error;
use crate::engine::keeper::Task;
use crate::engine::nonce::Nonce;
use crate::engine::role::{Role, RoleName};
use crate::engine::rotation::delete_key;
use crate::engine::state::Engine;
use crate::framework::{Outcome, SecretType, under_lease};
use crate::logical::{Data, Lease, LeasedSecret, Response, Secret};
use crate::openrouter::KeyHash;

/// The lease on a key of its own.
pub fn secret_type() -> SecretType<Engine> {
    SecretType::new(SECRET_TYPE, revoke).renewed_by(renew)
}

/// What the server keeps with a lease and gives back with it: all that a revocation needs, whatever
/// has become of the role or of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LeaseData {
    pub role: RoleName,
    pub nonce: Nonce,
    pub connection: ConnectionName,
    pub key_hash: KeyHash,
    pub expires_at: Option<Timestamp>,
}

impl LeaseData {
    /// A lease with this data.
    pub fn under(&self, lease: Lease) -> Secret {
        let data = match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(data)) => data,
            // A structure of texts is an object.
            _ => Data::new(),
        };
        under_lease(SECRET_TYPE, lease, data)
    }

    fn of(secret: &LeasedSecret) -> Result<Self, Error> {
        let data = serde_json::Value::Object(secret.internal_data.clone());
        serde_json::from_value(data)
            .map_err(|reason| Error::Invalid(format!("the lease's data makes no sense: {reason}")))
    }
}

/// Deletes the key. One that is not there any more is as good; any other failure is an error, so
/// that the server tries again.
async fn revoke(engine: Arc<Engine>, secret: LeasedSecret) -> Outcome {
    let lease = LeaseData::of(&secret)?;
    engine.load_log().await?;
    end(&engine, &lease.nonce, &lease.connection, &lease.key_hash).await?;
    tracing::info!(
        mount = engine.mount,
        role = %lease.role,
        key_hash = %lease.key_hash,
        "revoked a lease's key"
    );
    Ok(None)
}

async fn end(
    engine: &Engine,
    nonce: &Nonce,
    connection: &ConnectionName,
    key_hash: &KeyHash,
) -> Result<(), Error> {
    // The record goes second: as long as the key may be alive, something leads to it.
    delete_key(engine, connection, key_hash).await?;
    engine.leases.end(&*engine.storage, nonce).await?;
    engine.keeper.forget(&Task::Lapse(nonce.clone()));
    Ok(())
}

/// Puts the end of the lease off, by what was asked for or by the role's ttl, within max_ttl.
async fn renew(engine: Arc<Engine>, secret: LeasedSecret) -> Outcome {
    let lease = LeaseData::of(&secret)?;
    let Some(Role::Dynamic(role)) = Role::load(&*engine.storage, &lease.role).await? else {
        return Err(Error::Missing(format!(
            "role {:?} is gone, so its leases cannot be renewed; this one ends at its time",
            lease.role.to_string()
        ))
        .into());
    };
    engine.load_log().await?;
    let now = engine.clock.now();
    let renewal = Renewal::of(
        &role,
        &lease,
        &secret,
        engine.system.max_lease_ttl().await?,
        now,
    )?;
    let until = after(now, renewal.ttl);
    // Stored before the server hears of it: the record must outlast the lease.
    let known = engine
        .leases
        .extend(&*engine.storage, &lease.nonce, until)
        .await?;
    if !known {
        return Err(Error::Missing(
            "the lease's key is deleted already; read again for another".to_owned(),
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

/// A lease from now on, in seconds.
struct Renewal {
    ttl: u64,
    max_ttl: u64,
    warning: Option<String>,
}

impl Renewal {
    /// As Vault's own engines reckon: what was asked for, or the role's ttl; counted from now, but
    /// not past the longest lease, which is counted from when it was issued.
    fn of(
        role: &DynamicRole,
        lease: &LeaseData,
        secret: &LeasedSecret,
        longest_lease: Duration,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let issued_at = Timestamp::from_second(secret.issued_at).unwrap_or(now);
        let mut latest = after(issued_at, longest(role.max_ttl, longest_lease));
        if let Some(expires_at) = lease.expires_at {
            // The role's max_ttl may have grown since, but the key's life is fixed.
            latest = latest.min(expires_at.checked_sub(LINGER_SPAN).unwrap_or(expires_at));
        }
        let left = seconds_until(now, latest);
        if left == 0 {
            return Err(Error::Invalid(format!(
                "the lease cannot be renewed past {latest}, the end of its max_ttl; read again for \
                 another key"
            )));
        }
        let asked = secret.increment.as_secs();
        let wanted = if asked == 0 { role.ttl } else { asked };
        // Of what was asked for and is cut short the server warns by itself.
        let warning = (asked == 0 && wanted > left).then(|| {
            format!("the lease is renewed for {left} seconds instead of {wanted}, to its max_ttl")
        });
        Ok(Self {
            ttl: wanted.min(left),
            // The server takes what was asked for within this, whatever ttl says.
            max_ttl: seconds_until(issued_at, latest),
            warning,
        })
    }
}

/// The longest that a lease may become in seconds: what the role says, within the mount's maximum.
/// A server says 0 when it was not told a maximum.
pub(super) fn longest(max_ttl: u64, of_mount: Duration) -> u64 {
    match of_mount.as_secs() {
        0 => max_ttl,
        longest => max_ttl.min(longest),
    }
}

/// Looks at a lease's key when the server must have revoked it.
pub fn watch(engine: &Engine, record: &Record) {
    let task = Task::Lapse(record.nonce.clone());
    engine.keeper.plan(task, lapses_at(record));
}

/// Deletes a key whose lease is over by its record: the server has none, or has not got round to
/// revoking it. Returns when to look again; `None` when there is nothing left to look after.
///
/// # Errors
/// OpenRouter's and storage's: it is to be tried again.
pub async fn lapse(engine: &Engine, nonce: &Nonce) -> Result<Option<Timestamp>, Error> {
    let Some(record) = engine.leases.living(nonce) else {
        return Ok(None);
    };
    // It may have been renewed since this look was planned.
    let due = lapses_at(&record);
    if engine.clock.now() < due {
        return Ok(Some(due));
    }
    end(engine, nonce, &record.connection, &record.key_hash).await?;
    tracing::info!(
        mount = engine.mount,
        role = %record.role,
        key_hash = %record.key_hash,
        "deleted a key whose lease is over"
    );
    Ok(None)
}

/// When [`lapse`] is tried again that has failed: after about as long as it has been going on, up to
/// an hour, so that many together are not what keeps OpenRouter down.
pub fn next_try(engine: &Engine, nonce: &Nonce, now: Timestamp) -> Timestamp {
    let living = engine.leases.living(nonce);
    let going_on = living.map_or(0, |record| seconds_until(lapses_at(&record), now));
    let doublings = u64::BITS - going_on.leading_zeros();
    after(now, delay(doublings + 1, &*engine.randomness).as_secs())
}

fn lapses_at(record: &Record) -> Timestamp {
    after(record.until, LINGER)
}

/// In seconds: how long after the end of a lease its key is left to the server to revoke, and how
/// much later than the longest lease the key expires by itself. Long enough for a lease that begins
/// late, since the server counts from when it got the reply.
pub(super) const LINGER: u64 = 5 * 60;
const LINGER_SPAN: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

const SECRET_TYPE: &str = "dynamic_key";
