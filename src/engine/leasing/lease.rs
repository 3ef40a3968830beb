//! What becomes of the lease on a key: renewed, revoked, or never heard of.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::books::{LeaseGuard, LeasedKey, OpenBooks, Record};
use crate::engine::clock::{after, seconds_until};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, retire};
use crate::engine::names::Nonce;
use crate::engine::role::dynamic::{DynamicRole, LINGER};
use crate::engine::role::{Role, capped};
use crate::engine::task::Task;
use crate::framework::{Outcome, SecretType, under_lease};
use crate::logical::{Data, Lease, LeasedSecret, Response, Secret};

/// The lease on a key of its own.
pub fn secret_type() -> SecretType<Engine> {
    SecretType::new(SECRET_TYPE, revoke).renewed_by(renew)
}

/// What the server keeps with a lease and gives back with it: all that a revocation needs, whatever
/// has become of the role or of the record.
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

/// Deletes the key of a lease before the lease is over, and strikes the lease's record out. The server
/// keeps the lease, and finds nothing left to revoke when that ends.
///
/// # Errors
/// OpenRouter's and storage's: the key may be alive, and the record stays.
pub async fn end_early(engine: &Engine, nonce: &Nonce) -> Result<(), Error> {
    let lease = engine.books().await?.leases.lock(nonce).await;
    let Some(record) = lease.record() else {
        return Ok(());
    };
    end(engine, &lease, &record.key).await
}

/// Ends a lease that nobody has heard of. Should that fail, the keeper goes on with it.
pub(super) async fn give_back(engine: &Engine, books: &OpenBooks, key: &LeasedKey) {
    let lease = books.leases.lock(&key.nonce).await;
    if let Err(reason) = end(engine, &lease, key).await {
        tracing::warn!(
            mount = engine.mount,
            role = %key.role,
            key_hash = %key.key_hash,
            %reason,
            "the key of a reader who gave up cannot be deleted yet"
        );
        // Over since so long that nobody else is waited for.
        let over = engine.now() - SignedDuration::from_secs(LINGER.cast_signed());
        // Should this fail too, the key is deleted when the lease would have been over.
        if lease.abandon(&*engine.storage, over).await.is_ok() {
            engine.keeper.now(Task::Lapse(key.nonce.clone()));
        }
    }
}

async fn end(engine: &Engine, lease: &LeaseGuard, key: &LeasedKey) -> Result<(), Error> {
    // The record goes second: as long as the key may be alive, something leads to it.
    let warrant = Warrant::OfLease(lease);
    retire(engine, &key.connection, &key.key_hash, warrant).await?;
    lease.end(&*engine.storage).await?;
    engine.keeper.forget(&Task::Lapse(key.nonce.clone()));
    Ok(())
}

/// Postpones the end of the lease, by what was asked for or by the role's ttl, within max_ttl.
async fn renew(engine: Arc<Engine>, secret: LeasedSecret) -> Outcome {
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
    let now = engine.now();
    let renewal = Renewal::of(&role, &lease, &secret, longest, now)?;
    let until = after(now, renewal.ttl);
    // Stored before the server hears of it: the record must outlast the lease.
    if !guard.extend(&*engine.storage, until).await? {
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
        longest: Duration,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let issued_at = Timestamp::from_second(secret.issued_at).unwrap_or(now);
        let mut max_ttl = capped(role.max_ttl, longest);
        if let Some(expires_at) = lease.expires_at {
            // The role's max_ttl may have grown since, but the key's life is fixed.
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
        // Of what was asked for and is cut short the server warns by itself.
        let warning = (asked == 0 && wanted > left).then(|| {
            format!("the lease is renewed for {left} seconds instead of {wanted}, to its max_ttl")
        });
        Ok(Self {
            ttl: wanted.min(left),
            // The server takes what was asked for within this, whatever ttl says.
            max_ttl,
            warning,
        })
    }
}

/// Looks at a lease's key when the server must have revoked it.
pub fn watch(engine: &Engine, record: &Record) {
    let task = Task::Lapse(record.key.nonce.clone());
    engine.keeper.plan(task, lapses_at(record));
}

/// Deletes a key whose lease is over by its record: the server has none, or has not got round to
/// revoking it. Returns when to look again; `None` removes the task.
///
/// # Errors
/// OpenRouter's and storage's: it is to be tried again.
pub async fn lapse(engine: &Engine, nonce: &Nonce) -> Result<Option<Timestamp>, Error> {
    let lease = engine.books().await?.leases.lock(nonce).await;
    let Some(record) = lease.record() else {
        return Ok(None);
    };
    // It may have been renewed since this look was planned.
    let due = lapses_at(&record);
    if engine.now() < due {
        return Ok(Some(due));
    }
    end(engine, &lease, &record.key).await?;
    tracing::info!(
        mount = engine.mount,
        role = %record.key.role,
        key_hash = %record.key.key_hash,
        "deleted a key whose lease is over"
    );
    Ok(None)
}

/// For how many seconds a lease's key has been waiting for [`lapse`].
pub fn overdue(engine: &Engine, nonce: &Nonce, now: Timestamp) -> u64 {
    let books = engine.books_if_open();
    let living = books.and_then(|books| books.leases.living(nonce));
    living.map_or(0, |record| seconds_until(lapses_at(&record), now))
}

fn lapses_at(record: &Record) -> Timestamp {
    after(record.until, LINGER)
}

const SECRET_TYPE: &str = "dynamic_key";
