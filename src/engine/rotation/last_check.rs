//! The last check of a superseded key before it ends: is it still in use?

use jiff::SignedDuration;

use crate::engine::connection::Urgency;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::role::rotating::{LateUse, RotatingRole, Stage, SupersededKey};
use crate::openrouter::{self, Key};

/// The result of the last check of a key.
pub(super) enum LastCheck {
    /// The key was not used late, or OpenRouter did not answer in time.
    Nothing,
    /// It was used after every lease on it had expired.
    UsedLate(LateUse),
    /// OpenRouter could not be asked, and a key that a comparison found must not be ended before that.
    Needed(Error),
}

/// Checks a key once more before it ends: was it used after every lease on it had expired, and was it
/// disabled outside the engine? OpenRouter is not asked in an emergency, about a disabled key, or if a person
/// ordered the deletion. The check waits only a moment, since it must not delay a revocation. If the decision
/// depends on the answer, it waits as long as necessary.
///
/// # Errors
/// Errors from storage.
pub(super) async fn last_check(
    engine: &Engine,
    key: &mut SupersededKey,
    urgency: Urgency,
) -> Result<LastCheck, Error> {
    if key.emergency || key.stage.is_held() || key.stage == Stage::Ordered {
        return Ok(LastCheck::Nothing);
    }
    let asking = ask(engine, key, urgency);
    let answer = if key.found {
        asking.await
    } else {
        let now = engine.now();
        let at_most = now.checked_add(LONGEST_CHECK).unwrap_or(now);
        tokio::select! {
            biased;
            answer = asking => answer,
            () = engine.clock.sleep_until(at_most) => return Ok(LastCheck::Nothing),
        }
    };
    let seen = match answer {
        Ok(seen) => seen,
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) if key.found => return Ok(LastCheck::Needed(reason)),
        Err(reason) => {
            let hash = &key.hash;
            tracing::debug!(
                mount = engine.mount,
                key_hash = %hash,
                %reason,
                "failed to find out whether a superseded key is still in use"
            );
            return Ok(LastCheck::Nothing);
        }
    };
    let Some(seen) = seen else {
        return Ok(LastCheck::Nothing);
    };
    if seen.disabled && key.stage.is_grace() && key.disabled_outside.is_none() {
        key.disabled_outside = Some(engine.now());
    }
    let (Some(used_at), Some(leased_until)) = (seen.last_used_at, key.leased_until) else {
        return Ok(LastCheck::Nothing);
    };
    if used_at <= leased_until {
        return Ok(LastCheck::Nothing);
    }
    Ok(LastCheck::UsedLate(LateUse {
        hash: key.hash.clone(),
        version: key.version,
        used_at,
        leased_until,
    }))
}

/// What OpenRouter says about a key; `None` if it does not know the key.
async fn ask(engine: &Engine, key: &SupersededKey, urgency: Urgency) -> Result<Option<Key>, Error> {
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    let turn = link.client(urgency).await;
    match turn.key(&key.hash).await {
        Ok(seen) => Ok(Some(seen)),
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => Err(Error::while_doing(format!(
            "it is not known whether key {} is in use",
            key.hash
        ))(reason)),
    }
}

/// Reports in the log and on the event bus that a superseded key is still in use.
pub(super) async fn report_late_use(
    guard: &RoleGuard<'_>,
    role: &RotatingRole,
    used: &LateUse,
    is_kept: bool,
) {
    let engine = guard.engine();
    tracing::warn!(
        mount = engine.mount,
        role = %guard.name(),
        key_hash = %used.hash,
        key_version = used.version,
        last_used_at = %used.used_at,
        leased_until = %used.leased_until,
        "a superseded key was used after every lease on it had expired{}",
        if is_kept { "; it is not revoked until a person decides" } else { "" }
    );
    events::used_late(engine, guard.name(), role, used, is_kept).await;
}

/// How long a revocation waits for the last check.
const LONGEST_CHECK: SignedDuration = SignedDuration::from_secs(2);
