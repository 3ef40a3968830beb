//! The final reading of a key under a budget, and the share of a held key that is restored.

use super::{Work, connection_of, lower, read_current, read_other, while_reading};
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Switched, Warrant, hold};
use crate::engine::role::budget::{Amount, Budget, Counting, Spans, of_key};
use crate::engine::role::rotating::RotatingRole;
use crate::openrouter::{self, KeyHash};

/// Reads and stores what a key has spent, just before it is deleted. The key was disabled long enough ago
/// that all its requests are reported. Does nothing for a role whose ended keys are not counted.
///
/// # Errors
/// Errors from OpenRouter or storage.
pub(in crate::engine::rotation) async fn count_final(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    hash: &KeyHash,
    urgency: Urgency,
) -> Result<(), Error> {
    let now = guard.engine().now();
    if role.settles_at(hash).is_none_or(|at| at > now) {
        return Ok(());
    }
    let reading = read_spans(guard, role, hash, urgency).await?;
    role.count_ended(hash, reading, now);
    guard.store(role).await
}

/// Disables a key that is to be deleted at once, and reads what it has spent. `None` for a role whose ended
/// keys are not counted, or if the usage cannot be read; under a budget the full grant then counts as spent.
///
/// # Errors
/// Errors from storage.
pub(in crate::engine::rotation) async fn read_at_once<'g>(
    guard: &'g RoleGuard<'g>,
    role: &RotatingRole,
    hash: &KeyHash,
    warrant: impl Fn() -> Warrant<'g>,
) -> Result<Option<(Amount, Spans)>, Error> {
    if !role.is_to_be_counted(hash) {
        return Ok(None);
    }
    let connection = connection_of(role, hash);
    let read = match hold(guard.engine(), connection, hash, warrant()).await {
        Ok(Switched::Done) => read_spans(guard, role, hash, Urgency::Revocation).await,
        Ok(Switched::Gone) => Ok(None),
        Err(reason) => Err(reason),
    };
    match read {
        Err(reason @ (Error::Storage(_) | Error::System(_))) => Err(reason),
        Err(_) => Ok(None),
        Ok(reading) => Ok(reading),
    }
}

/// What a disabled key has spent, in the window and in total; `None` if it is gone.
async fn read_spans(
    guard: &RoleGuard<'_>,
    role: &RotatingRole,
    hash: &KeyHash,
    urgency: Urgency,
) -> Result<Option<(Amount, Spans)>, Error> {
    let counting = role.definition.terms.counting();
    let engine = guard.engine();
    let connection = connection_of(role, hash);
    let link = engine.links.open(&*engine.storage, connection).await?;
    match link.client(urgency).await.key(hash).await {
        Ok(key) => Ok(Some((
            of_key(&key, counting).spent,
            Spans::of(&key.usage, counting),
        ))),
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => Err(while_reading(hash)(reason)),
    }
}

/// Gives a held key a share of the budget again, before it is enabled: first the current key is lowered. The
/// role must be stored afterwards. The second result is the reason why the key must not be enabled; the role
/// is then as it is stored.
///
/// # Errors
/// Errors from storage.
pub(in crate::engine::rotation) async fn make_room(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    hash: &KeyHash,
) -> Result<(RotatingRole, Option<Error>), Error> {
    let Some((budget, counting)) = role.definition.terms.budget() else {
        return Ok((role, None));
    };
    let refused = match share_again(guard, &mut role, hash, (&budget, counting)).await {
        Ok(()) => None,
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) => {
            guard.store(&role).await?;
            Some(reason)
        }
    };
    Ok((role, refused))
}

async fn share_again(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    hash: &KeyHash,
    (budget, counting): (&Budget, Counting),
) -> Result<(), Error> {
    let now = guard.engine().now();
    let current = role.current.hash.clone();
    let is_unclear = |role: &RotatingRole, hash: &KeyHash| {
        let grant = role.ledger.as_ref().and_then(|ledger| ledger.grant(hash));
        grant.is_none_or(|grant| !grant.is_certain())
    };
    if !role.counts_against_budget(hash) {
        return Err(Error::Conflict(format!(
            "the spending of key {hash} is already counted in the role's budget, and the key is \
             being deleted"
        )));
    }
    if is_unclear(role, hash) || is_unclear(role, &current) {
        return Err(Error::Conflict(format!(
            "it is not certain yet what the keys of role {:?} may spend of its budget; try again \
             in a few minutes",
            guard.name().to_string()
        )));
    }
    let held = read_other(guard, role, hash, counting).await?;
    let held =
        held.ok_or_else(|| Error::Missing(format!("OpenRouter no longer has key {hash}")))?;
    let read = read_current(guard, role, counting, Urgency::Ordinary).await?;
    let reading = read.reading;
    let Some(ledger) = &mut role.ledger else {
        return Ok(());
    };
    ledger.read(hash, held, now);
    ledger.read(&current, reading, now);
    let left = ledger.rest_for(&current, budget).minus(reading.spent);
    let Some(grant) = ledger.grant(hash) else {
        return Ok(());
    };
    let (spent, counts, wanted) = (grant.spent, grant.counts(), grant.wanted_again(left));
    let lowered = ledger
        .rest_for(&current, budget)
        .minus(wanted.minus(counts));
    let is_lower = ledger.grant(&current).is_some_and(|g| lowered < g.limit);
    if is_lower {
        let lowered = (lowered, counting);
        lower(guard, role, lowered, read, Urgency::Ordinary).await?;
    }
    let Some(ledger) = &mut role.ledger else {
        return Ok(());
    };
    let granted = wanted.min(ledger.rest_for(hash, budget).max(counts));
    if granted <= spent {
        return Err(Error::Conflict(format!(
            "the budget of role {:?} has nothing left for key {hash}",
            guard.name().to_string()
        )));
    }
    let is_as_wanted = ledger
        .grant(hash)
        .is_some_and(|grant| grant.limit == granted && grant.counting == counting);
    if !is_as_wanted {
        let mut work = Work::on(guard, role, Urgency::Ordinary);
        let Some(begun) = work.begin(hash, granted) else {
            return Err(Error::Conflict(format!(
                "the budget does not allow a limit of {} for key {hash}",
                granted.as_usd()
            )));
        };
        guard.store(role).await?;
        // A disabled key has no spending that could lag behind.
        let mut work = Work::on(guard, role, Urgency::Ordinary);
        work.send(begun, false).await?;
    }
    if let Some(ledger) = &mut role.ledger {
        ledger.enabled(hash);
    }
    Ok(())
}
