//! Holding the keys under a dynamic role's leases to its guardrail, after the role was given another
//! one. A key for a new lease is held to it before it is handed out: see [`keys`](crate::engine::keys).
//!
//! Each lease's record says what its key is held to, so that what is still to be done is known whatever
//! happens.

use jiff::Timestamp;

use crate::engine::books::Record;
use crate::engine::connection::Urgency;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::keys::assign;
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::failed;
use crate::openrouter::{GuardrailId, KeyHash};

/// Does what is due for a dynamic role, and returns when there is more to do; `None` when there is not.
///
/// # Errors
/// Storage's own. What OpenRouter does wrong is stored with the role and tried again.
pub async fn tend(guard: &RoleGuard<'_>, role: DynamicRole) -> Result<Option<Timestamp>, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let leases = engine.books().await?.leases;
    // A write of them may have failed by its answer, and been carried out.
    leases.expect_guardrail(name, &role.terms);
    if leases.unguarded(name, &role.terms).is_empty() {
        return Ok(None);
    }
    if let Some(failure) = &role.guardrail_failure
        && failure.retry_at > engine.now()
    {
        return Ok(Some(failure.retry_at));
    }
    let (role, _) = apply_guardrail(guard, role).await?;
    Ok(role.guardrail_failure.map(|failure| failure.retry_at))
}

/// Holds the keys under leases to the role's guardrail. The second result is why that failed, which is
/// then stored with the role and tried again.
///
/// # Errors
/// Storage's own. The keys may be held to it then; assigning them once more does no harm.
pub(super) async fn apply_guardrail(
    guard: &RoleGuard<'_>,
    mut role: DynamicRole,
) -> Result<(DynamicRole, Option<Error>), Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let unguarded = engine.books().await?.leases.unguarded(name, &role.terms);
    let mut outcome = Ok(());
    if let Some(guardrail) = &role.terms.guardrail_id {
        for records in unguarded.chunks(AT_A_TIME) {
            match hold_keys(engine, &role, guardrail, records).await {
                Ok(()) => {}
                Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
                Err(reason) => {
                    outcome = Err(reason);
                    break;
                }
            }
        }
    }
    let (before, failure) = (role.guardrail_failure.take(), outcome.err());
    role.guardrail_failure = failure.as_ref().map(|reason| {
        tracing::warn!(
            mount = engine.mount,
            role = %name,
            %reason,
            "keys under leases are not held to the role's guardrail, this is tried again"
        );
        failed(before.as_ref(), reason, engine.now(), &*engine.randomness)
    });
    if role.guardrail_failure != before {
        guard.store_dynamic(&role).await?;
    }
    Ok((role, failure))
}

/// Those that OpenRouter does not know any more need no guardrail.
async fn hold_keys(
    engine: &Engine,
    role: &DynamicRole,
    guardrail: &GuardrailId,
    records: &[Record],
) -> Result<(), Error> {
    let (links, storage) = (&engine.links, &*engine.storage);
    let link = links.open(storage, &role.terms.connection).await?;
    let keys = records.iter().map(|record| record.key.key_hash.clone());
    let keys: Vec<KeyHash> = keys.collect();
    assign(&link, Urgency::Ordinary, guardrail, &keys).await?;
    let leases = engine.books().await?.leases;
    for record in records {
        let lease = leases.lock(&record.key.nonce).await;
        lease.note_guarded(storage, guardrail).await?;
    }
    Ok(())
}

/// Keys that are assigned before their records are written.
const AT_A_TIME: usize = 100;
