//! The core of the engine: determines the next step of a role from its stored state and the time. Pure, so
//! that it can be tested without a network. [`super::perform`] performs the steps.

use jiff::{SignedDuration, Timestamp};

use crate::engine::clock::{after, seconds_until};
use crate::engine::role::budget::Next;
use crate::engine::role::rotating::{
    Failure, Mismatch, MismatchReason, RotatingRole, Stage, SupersededKey,
};
use crate::openrouter::KeyHash;
use crate::schedule::Due;

/// The next step of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The role's deletion has begun: continue it.
    Delete,
    /// This revocation fell due while the engine was not running. Postpone it once, until this time.
    Postpone(KeyHash, Timestamp),
    /// This superseded key is due, and is disabled first, because of a hold or for its final reading.
    Hold(KeyHash),
    /// This key's grace period or hold has ended.
    Revoke(KeyHash),
    /// A restore of this held key was requested, and OpenRouter has not confirmed it.
    Enable(KeyHash),
    /// Living keys are not assigned to the guardrail that they should have.
    ApplyGuardrail,
    /// The current key does not have the limits that the definition asks for.
    ApplyLimits,
    /// Keys do not yet have their shares of the budget.
    Budget(Next),
    /// The current key was gone or disabled when OpenRouter was last asked: ask again.
    AskAgain,
    /// The current key must be replaced.
    Rotate {
        /// When it became due.
        since: Timestamp,
    },
    /// Nothing to do until this time; `None` means until the role changes.
    Wait(Option<Timestamp>),
}

/// The time, and the other circumstances that determine the next step.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The time now.
    pub now: Timestamp,
    /// When this node became active; `None` on a node that is not.
    pub work_began: Option<Timestamp>,
    /// Whether another copy of this storage is active. A key that a comparison found may belong to that copy.
    pub two_copies: bool,
}

impl Step {
    /// Whether the step changes a living key based on state that was stored earlier. A deposed leader must
    /// not do that: its successor may have postponed the key's end, or changed its limits.
    pub fn needs_fence(&self) -> bool {
        match self {
            Self::Hold(_)
            | Self::Revoke(_)
            | Self::Enable(_)
            | Self::ApplyGuardrail
            | Self::ApplyLimits
            | Self::Delete => true,
            // These store the role before they change a living key, or change none.
            Self::Budget(_) | Self::Rotate { .. } => false,
            Self::Postpone(..) | Self::AskAgain | Self::Wait(_) => false,
        }
    }
}

impl From<Timestamp> for Circumstances {
    /// The work has always been active, and there is no other copy.
    fn from(now: Timestamp) -> Self {
        Self {
            now,
            work_began: None,
            two_copies: false,
        }
    }
}

/// The next step.
///
/// Keys that must end come first, since they may be in the wrong hands. Then come the guardrail, without
/// which the current key is not handed out; the limits of the current key; and the next key. Each step waits
/// only for its own retries: a revocation that fails does not delay a rotation.
pub fn next_step(role: &RotatingRole, at: impl Into<Circumstances>) -> Step {
    let at = at.into();
    let now = at.now;
    if let Some(deletion) = &role.deletion {
        return match not_before(deletion.since, deletion.failure.as_ref()) {
            at if at <= now => Step::Delete,
            at => Step::Wait(Some(at)),
        };
    }
    let mut wake = Wake::default();
    for key in &role.superseded {
        for (due, step) in ends_of(key, role, &at).into_iter().flatten() {
            match not_before(due, key.failure.as_ref()) {
                at if at <= now => return step,
                at => wake.at(at),
            }
        }
    }
    if let Some(key) = excess_held_key(role) {
        let due = role.settles_at(&key.hash).unwrap_or(Timestamp::MIN);
        match not_before(due, key.failure.as_ref()) {
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
    if role.lacks_its_limits() {
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
    // So that the status of the role shows it.
    if let Some(at) = role.current.expires_at.filter(|at| *at > now) {
        wake.at(at);
    }
    match rotation_due(role, now) {
        Due::Now { since } if role.superseded_by_rotation() < MAX_SUPERSEDED => {
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

/// The pending steps of a superseded key with their times. The earliest due one is taken.
fn ends_of(
    key: &SupersededKey,
    role: &RotatingRole,
    at: &Circumstances,
) -> [Option<(Timestamp, Step)>; 2] {
    let hash = || key.hash.clone();
    if key.stage.is_held() || key.stage == Stage::Ordered {
        return [Some((role.end_due(key), Step::Revoke(hash()))), None];
    }
    let is_left_alone = key.awaits_person.is_some() || (key.found && at.two_copies);
    if is_left_alone && !key.emergency {
        return [None, None];
    }
    let expired = key.expires_at.is_some_and(|expiry| expiry <= at.now);
    let end = match postponed_until(key, role, at) {
        Some(until) => Step::Postpone(hash(), until),
        None if role.definition.rotation.hold > 0 && !expired => Step::Hold(hash()),
        None if role.is_to_be_counted(&key.hash) => Step::Hold(hash()),
        None => Step::Revoke(hash()),
    };
    // From `revoke_at` on, its end comes first.
    let restoring = key.stage == Stage::Restoring;
    let enable = restoring.then(|| (Timestamp::MIN, Step::Enable(hash())));
    [Some((key.revoke_at, end)), enable]
}

/// The postponed time of a revocation that fell due while the engine was not running: readers could not
/// get the next key. `None` if the revocation was attempted since; never past the key's expiry.
fn postponed_until(
    key: &SupersededKey,
    role: &RotatingRole,
    at: &Circumstances,
) -> Option<Timestamp> {
    let began = at.work_began.filter(|began| key.revoke_at < *began)?;
    if key.emergency || key.postponed || key.failure.is_some() {
        return None;
    }
    let until = after(began, role.definition.rotation.ttl);
    let until = until.min(key.expires_at.unwrap_or(Timestamp::MAX));
    (at.now < until).then_some(until)
}

/// The held key that is deleted before its time, to make room.
fn excess_held_key(role: &RotatingRole) -> Option<&SupersededKey> {
    let held = || {
        let superseded = role.superseded.iter();
        superseded.filter_map(|key| match key.stage {
            Stage::Held { since, .. } => Some((since, key)),
            Stage::Grace | Stage::Restoring | Stage::Ordered => None,
        })
    };
    if held().count() <= MAX_HELD {
        return None;
    }
    held().min_by_key(|(since, _)| *since).map(|(_, key)| key)
}

/// When to check again a current key that is gone or disabled, if it is not replaced automatically. The
/// interval equals the time since it was found, within fixed limits.
fn ask_again_at(role: &RotatingRole) -> Option<Timestamp> {
    let mismatch = role.mismatch.filter(|mismatch| match mismatch.reason {
        MismatchReason::Gone => !role.definition.rotation.automated,
        MismatchReason::Disabled => true,
        MismatchReason::Held | MismatchReason::TornDown | MismatchReason::Outdated => false,
    })?;
    let asked = mismatch.asked.unwrap_or(mismatch.since);
    let wait = seconds_until(mismatch.since, asked).clamp(SOONEST_ASKED, LATEST_ASKED);
    Some(after(asked, wait))
}

/// When the current key is to be replaced automatically.
///
/// This follows the role's schedule, but happens in any case early enough that the key outlives its own grace
/// period: OpenRouter cannot extend a key's life, and a schedule that was made slower, or a window that was
/// missed twice, must not leave the role without a key. A key with a mismatch is replaced at once. Without
/// automated rotation, it is replaced only if it had been replaced before, which a person requested. A key
/// that someone disabled is never replaced automatically.
pub fn rotation_due(role: &RotatingRole, now: Timestamp) -> Due {
    let policy = &role.definition.rotation;
    match role.mismatch {
        Some(Mismatch {
            reason: MismatchReason::Disabled,
            ..
        }) => return Due::Never,
        Some(Mismatch { reason, since, .. })
            if policy.automated
                || matches!(reason, MismatchReason::Held | MismatchReason::Outdated) =>
        {
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
        // A key that was made under other terms may be due as soon as they change, but not since before it
        // became current. The next key is made under the new terms, which leave enough time.
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

/// The time of a step, taking an earlier failure into account.
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

/// The maximum number of superseded keys in their grace period. They are all in the role's entry, whose size
/// storage limits, and each of them can spend.
pub const MAX_SUPERSEDED: usize = 100;

/// The maximum number of held keys of a role.
const MAX_HELD: usize = 100;

/// In seconds.
const SOONEST_ASKED: u64 = 60;
/// In seconds.
const LATEST_ASKED: u64 = 60 * 60;

#[cfg(test)]
mod tests;
