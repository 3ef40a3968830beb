//! The verification of a new key: OpenRouter's answer to the order shows that it is what was ordered, and the
//! key itself shows that it works. Called by [`super::mint()`] before the key is handed out, which also
//! decides what to do about a failure.

use jiff::SignedDuration;

use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::openrouter::{self, CreatedKey, GuardrailId, KeyHash, NewKey};

/// Verifies a key by OpenRouter's answer alone, without a request.
///
/// # Errors
/// [`Error::Unproven`], with what differs.
pub(super) fn by_answer(created: &CreatedKey, new: &NewKey) -> Result<(), Error> {
    let key = &created.key;
    if KeyHash::of(&created.secret) != key.hash {
        return unproven("a hash that is not that of the key");
    }
    if key.name != new.name {
        return unproven("another name than was ordered");
    }
    if !key.limits.agree_with(&new.limits) {
        return unproven("other limits than were ordered");
    }
    if key.expires_at != new.expires_at {
        return unproven("another expiry than was ordered");
    }
    if new.workspace_id.is_some() && key.workspace_id != new.workspace_id {
        return unproven("another workspace than was ordered");
    }
    if new.creator_user_id.is_some() && key.creator_user_id != new.creator_user_id {
        return unproven("another creator than was ordered");
    }
    if key.disabled {
        return unproven("a key that is disabled");
    }
    Ok(())
}

/// Verifies a key by authenticating with it. Takes one request, or a few while OpenRouter does not know the
/// key everywhere.
///
/// # Errors
/// [`Error::Unproven`] if it does not authenticate or differs from the order.
pub(super) async fn by_authenticating(
    engine: &Engine,
    link: &Link,
    urgency: Urgency,
    created: &CreatedKey,
    new: &NewKey,
    guardrail: Option<&GuardrailId>,
) -> Result<(), Error> {
    let itself = authenticate(engine, link, urgency, created).await?;
    if itself.is_management_key {
        return unproven("a management key");
    }
    if itself.label != created.key.label {
        return unproven("another label than the key gives itself");
    }
    if !itself.limits.agree_with(&new.limits) {
        return unproven("other limits than the key gives itself");
    }
    // OpenRouter's description declares this field optional here.
    if itself.expires_at.is_some() && itself.expires_at != new.expires_at {
        return unproven("another expiry than the key gives itself");
    }
    // It reports the guardrails that have a budget. A key has at most one.
    if let Some(wanted) = guardrail
        && itself.guardrails.iter().any(|held| held != wanted)
    {
        return unproven("another guardrail than the key gives itself");
    }
    Ok(())
}

/// Asks OpenRouter about the key, with the key. A new key may take a moment to become known everywhere, so
/// this tries a few times.
async fn authenticate(
    engine: &Engine,
    link: &Link,
    urgency: Urgency,
    created: &CreatedKey,
) -> Result<openrouter::CurrentKey, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match link
            .client(urgency)
            .await
            .current_key(&created.secret)
            .await
        {
            Ok(key) => return Ok(key),
            Err(reason) if !pause_before_try(engine, tries).await => {
                return Err(Error::Unproven(format!(
                    "it does not authenticate: {reason}"
                )));
            }
            Err(_) => {}
        }
    }
}

/// After this many tries with a new key: waits for the next one, or returns that there is none.
pub(super) async fn pause_before_try(engine: &Engine, tries: i32) -> bool {
    if tries >= PROOF_TRIES {
        return false;
    }
    let pause = PROOF_PAUSE.saturating_mul(tries);
    let now = engine.now();
    let until = now.checked_add(pause).unwrap_or(now);
    engine.clock.sleep_until(until).await;
    true
}

fn unproven(what: &str) -> Result<(), Error> {
    Err(Error::Unproven(format!("OpenRouter's answer has {what}")))
}

const PROOF_TRIES: i32 = 3;
const PROOF_PAUSE: SignedDuration = SignedDuration::from_millis(300);
