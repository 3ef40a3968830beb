//! The heart: from a role's stored state and the time, the next step of its life. Pure, so that it
//! can be read on one screen and tested without a network. What is done about a step is in
//! [`super::perform`].

use jiff::{SignedDuration, Timestamp};

use crate::engine::clock::{after, seconds_until};
use crate::engine::role::budget::Next;
use crate::engine::role::rotating::{Failure, Misfit, RotatingRole, Unfit};
use crate::openrouter::KeyHash;
use crate::schedule::Due;

/// What is to be done about a role now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Its deletion has begun: go on with it.
    Delete,
    /// This superseded key's time has come.
    Revoke(KeyHash),
    /// Living keys are not held to the guardrail that they should be held to.
    ApplyGuardrail,
    /// The current key does not have the limits that the definition asks for.
    ApplyLimits,
    /// The keys do not have the shares of the budget yet that they are to have.
    Budget(Next),
    /// The current key was gone when OpenRouter was asked last: ask again, it may have been wrong.
    AskAgain,
    /// The current key is to be replaced; it was due at this time.
    Rotate {
        /// Since when.
        since: Timestamp,
    },
    /// Nothing, until this time; `None` is until somebody changes something.
    Wait(Option<Timestamp>),
}

/// The next step.
///
/// A key that must die comes first, since it may be in the wrong hands; then the guardrail, without
/// which the current key is not handed out; then the limits of the key that is spending now; then the
/// next key. Each waits for its own retries only: a revocation that
/// fails does not hold up a rotation.
pub fn next_step(role: &RotatingRole, now: Timestamp) -> Step {
    if let Some(deletion) = &role.deletion {
        return match not_before(deletion.since, deletion.failure.as_ref()) {
            at if at <= now => Step::Delete,
            at => Step::Wait(Some(at)),
        };
    }
    let mut wake = Wake::default();
    for key in &role.superseded {
        match not_before(role.end_due(key), key.failure.as_ref()) {
            at if at <= now => return Step::Revoke(key.hash.clone()),
            at => wake.at(at),
        }
    }
    if !role.unguarded_keys().is_empty() {
        match not_before(Timestamp::MIN, role.guardrail_failure.as_ref()) {
            at if at <= now => return Step::ApplyGuardrail,
            at => wake.at(at),
        }
    }
    match role.budget_step(now) {
        Some(Next::Wait(until)) => until.into_iter().for_each(|at| wake.at(at)),
        Some(next) => match not_before(Timestamp::MIN, role.limits_failure.as_ref()) {
            at if at <= now => return Step::Budget(next),
            at => wake.at(at),
        },
        None => {}
    }
    if role.definition.terms.budget.is_none() && role.current.limits != role.definition.terms.limits
    {
        match not_before(Timestamp::MIN, role.limits_failure.as_ref()) {
            at if at <= now => return Step::ApplyLimits,
            at => wake.at(at),
        }
    }
    if let Some(at) = ask_again_at(role) {
        match at {
            at if at <= now => return Step::AskAgain,
            at => wake.at(at),
        }
    }
    match rotation_due(role, now) {
        Due::Now { since } if role.superseded_by_rotation() < MOST_SUPERSEDED => {
            let since = role.rotation_waits_until(now).unwrap_or(since);
            match not_before(since, role.rotation_failure.as_ref()) {
                at if at <= now => return Step::Rotate { since },
                at => wake.at(at),
            }
        }
        // Waits for the next revocation, which is on the list above.
        Due::Now { .. } | Due::Never => {}
        Due::At(next) | Due::Missed { next, .. } => wake.at(next),
    }
    Step::Wait(wake.0)
}

/// When to ask again about a current key that is gone, where nothing replaces it by itself: after as
/// long as it has been gone, at first and at last after fixed times.
fn ask_again_at(role: &RotatingRole) -> Option<Timestamp> {
    let unfit = role.unfit.filter(|unfit| unfit.reason == Misfit::Gone)?;
    if role.definition.rotation.automated {
        return None;
    }
    let asked = unfit.asked.unwrap_or(unfit.since);
    let wait = seconds_until(unfit.since, asked).clamp(SOONEST_ASKED, LATEST_ASKED);
    Some(after(asked, wait))
}

/// When the current key is to be replaced by itself.
///
/// By the role's schedule, but in any case while the key still outlives its own grace period:
/// OpenRouter cannot extend a key's life, and a schedule that was made slower, or a window that
/// was missed twice, must not leave the role without a key. A key that is unfit is replaced at once;
/// where rotation is not automated, only if it had been replaced before, which a person asked for.
pub fn rotation_due(role: &RotatingRole, now: Timestamp) -> Due {
    let policy = &role.definition.rotation;
    match role.unfit {
        Some(Unfit { reason, since, .. }) if policy.automated || reason == Misfit::Outdated => {
            return Due::Now { since };
        }
        _ if !policy.automated => return Due::Never,
        _ => {}
    }
    let planned = policy.schedule.due(role.current.anchor, now);
    let grace = SignedDuration::from_secs(i64::try_from(policy.grace).unwrap_or(i64::MAX));
    let Some(latest) = role
        .current
        .expires_at
        .and_then(|expiry| expiry.checked_sub(grace).ok())
        // A key that was made under other terms may be due the moment they change, but not longer
        // than it has been current. The next one is made under the new terms, which leave it time.
        .map(|latest| latest.max(role.current.since))
    else {
        return planned;
    };
    match planned {
        Due::Now { .. } => planned,
        _ if latest <= now => Due::Now { since: latest },
        Due::At(next) | Due::Missed { next, .. } if next <= latest => planned,
        Due::Missed { missed, .. } => Due::Missed {
            missed,
            next: latest,
        },
        _ => Due::At(latest),
    }
}

/// The time of a step that may have failed before.
fn not_before(due: Timestamp, failure: Option<&Failure>) -> Timestamp {
    failure.map_or(due, |failure| due.max(failure.retry_at))
}

/// The earliest of several times.
#[derive(Default)]
struct Wake(Option<Timestamp>);

impl Wake {
    fn at(&mut self, at: Timestamp) {
        self.0 = Some(self.0.map_or(at, |earliest| earliest.min(at)));
    }
}

/// So many keys that were superseded by a rotation in their grace period at once, and no more: they
/// are all in the role's entry, which storage limits, and each of them can spend.
pub const MOST_SUPERSEDED: usize = 100;

/// In seconds.
const SOONEST_ASKED: u64 = 60;
/// In seconds.
const LATEST_ASKED: u64 = 60 * 60;

#[cfg(test)]
mod tests;
