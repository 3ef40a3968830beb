//! A role as a reader sees it: its definition, and the status derived from its keys and its last failures.
//! Never a secret.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::role::TermsView;
use crate::engine::role::budget::Ledger;
use crate::engine::role::rotating::{
    CurrentKey, MAX_SUPERSEDED, Mismatch, MismatchReason, RotatingRole, Stage, SupersededKey,
    rotation_due,
};
use crate::openrouter::{GuardrailId, KeyHash};
use crate::schedule::{self, Cron, Due, Period, TimeOfDay, Window};

/// The response to a read of the role, and its warnings. `unconfirmed` are the keys that are being created or
/// whose outcome is unknown, if this node knows them.
pub fn of(
    role: &RotatingRole,
    unconfirmed: Option<Vec<Unconfirmed>>,
    now: Timestamp,
) -> (View<'_>, Vec<String>) {
    let alert = role.alert_in_words(now);
    let problems = problems(role).into_iter().chain(alert).collect();
    (View::of(role, unconfirmed, now), problems)
}

/// A key that was ordered for the role and whose outcome is unknown.
#[derive(Serialize, JsonSchema)]
pub struct Unconfirmed {
    /// The key's whole name.
    pub name: String,
    /// When the key was ordered.
    pub ordered: Timestamp,
    /// Until when the key may be in use, if it was found. It is revoked then.
    pub revoke_at: Option<Timestamp>,
}

/// A summary of a role's health.
pub struct Health {
    /// Whether its last rotation failed, or it waits for a person.
    pub is_failed: bool,
    /// What a person should know about it; empty if there is nothing.
    pub problems: Vec<String>,
    /// When its current key is to be rotated automatically.
    pub next_rotation: Option<Timestamp>,
}

impl Health {
    /// The role's health now.
    pub fn of(role: &RotatingRole, now: Timestamp) -> Self {
        let due = rotation_due(role, now);
        let (status, message) = outcome(role, due, now);
        let is_failed = status == FAILED;
        let failure = is_failed.then_some(message);
        Self {
            is_failed,
            problems: failure.into_iter().chain(problems(role)).collect(),
            next_rotation: due.time(),
        }
    }
}

/// The response to a read of the role.
#[derive(Serialize, JsonSchema)]
pub struct View<'a> {
    #[serde(flatten)]
    terms: TermsView<'a>,
    /// `rotating`.
    credential_type: &'static str,
    /// The time between two rotations, in seconds.
    rotation_period: Option<Period>,
    /// The cron expression of the rotations, in UTC.
    rotation_schedule: Option<Cron>,
    /// How long after a scheduled time the rotation may start, in seconds.
    rotation_window: Option<Window>,
    /// The time of day of the rotation, `HH:MM` in UTC.
    rotate_at: Option<TimeOfDay>,
    /// Whether the role rotates only on request.
    disable_automated_rotation: bool,
    /// How long a superseded key keeps working, in seconds.
    rotation_grace_period: u64,
    /// The duration of a lease, in seconds.
    ttl: u64,
    /// How long a key stays disabled before it is deleted, in seconds.
    revocation_hold: u64,
    /// The lifetime of a key at OpenRouter, in seconds; 0 if keys do not expire.
    key_max_lifetime: u64,
    /// The key that is handed out.
    current_key: KeyView<'a>,
    /// The older keys that still work.
    superseded_keys: Vec<KeyView<'a>>,
    /// The older keys that are disabled and not yet deleted.
    held_keys: Vec<KeyView<'a>>,
    /// The keys that were ordered and whose outcome is unknown. Null on a node that only serves reads.
    unconfirmed_keys: Option<Vec<Unconfirmed>>,
    /// When the current key became current.
    last_vault_rotation: Timestamp,
    /// When the next automatic rotation is due; null if there is none.
    next_vault_rotation: Option<Timestamp>,
    /// When a rotation was last attempted.
    last_rotation_attempt: Timestamp,
    /// `success`, `failed` or `pending`.
    rotation_status: &'static str,
    /// The reason for a status other than `success`.
    last_rotation_message: String,
    /// Whether the last rotation was requested by a person.
    last_rotation_manual: bool,
}

impl<'a> View<'a> {
    fn of(role: &'a RotatingRole, unconfirmed: Option<Vec<Unconfirmed>>, now: Timestamp) -> Self {
        let policy = &role.definition.rotation;
        let schedule = schedule::Fields::from(policy.schedule.clone());
        let due = rotation_due(role, now);
        let (rotation_status, last_rotation_message) = outcome(role, due, now);
        Self {
            terms: role.definition.terms.view(),
            credential_type: "rotating",
            rotation_period: schedule.rotation_period,
            rotation_schedule: schedule.rotation_schedule,
            rotation_window: schedule.rotation_window,
            rotate_at: schedule.rotate_at,
            disable_automated_rotation: !policy.automated,
            rotation_grace_period: policy.grace,
            ttl: policy.ttl,
            revocation_hold: policy.hold,
            key_max_lifetime: policy.lifetime(now).unwrap_or(0),
            current_key: KeyView::of_current(&role.current),
            superseded_keys: superseded(role, false),
            held_keys: superseded(role, true),
            unconfirmed_keys: unconfirmed,
            last_vault_rotation: role.current.since,
            next_vault_rotation: due.time(),
            last_rotation_attempt: role.last_attempt,
            rotation_status,
            last_rotation_message,
            last_rotation_manual: role.current.manual,
        }
    }
}

/// The superseded keys that the engine has disabled, or those that still work.
fn superseded(role: &RotatingRole, held: bool) -> Vec<KeyView<'_>> {
    let keys = role.superseded.iter();
    keys.filter(|key| key.stage.is_held() == held)
        .map(KeyView::of_superseded)
        .collect()
}

/// A key without its secret.
#[derive(Serialize, JsonSchema)]
struct KeyView<'a> {
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    hash: &'a KeyHash,
    /// The key as OpenRouter shows it, mostly masked.
    label: &'a str,
    /// The key's name at OpenRouter.
    name: &'a str,
    /// The key's version: 1 is the role's first key.
    version: u64,
    /// The guardrail that the key is assigned to. Absent if there is none, or it is not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    guardrail_id: Option<&'a GuardrailId>,
    /// When the key became the current key.
    created: Timestamp,
    /// When the key expires at OpenRouter; null if it does not.
    expires: Option<Timestamp>,
    /// When the key is revoked; null for the current key.
    revoke_at: Option<Timestamp>,
    /// When a held key is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_until: Option<Timestamp>,
    /// When the key was found to have been disabled outside the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_outside_since: Option<Timestamp>,
    /// When the key was last used, if it was used after every lease on it had expired. A person has to revoke
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_at: Option<Timestamp>,
    /// How many attempts to revoke the key have failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_attempts: Option<u32>,
    /// How the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_error: Option<&'a str>,
}

impl<'a> KeyView<'a> {
    fn of_current(key: &'a CurrentKey) -> Self {
        Self {
            hash: &key.hash,
            label: &key.label,
            name: &key.name,
            version: key.version,
            guardrail_id: key
                .guardrail_id
                .as_ref()
                .filter(|_| !key.guardrail_unproved),
            created: key.since,
            expires: key.expires_at,
            revoke_at: None,
            held_until: None,
            disabled_outside_since: None,
            used_at: None,
            revocation_attempts: None,
            revocation_error: None,
        }
    }

    fn of_superseded(key: &'a SupersededKey) -> Self {
        let failure = key.failure.as_ref();
        Self {
            hash: &key.hash,
            label: &key.label,
            name: &key.name,
            version: key.version,
            guardrail_id: key
                .guardrail_id
                .as_ref()
                .filter(|_| !key.guardrail_unproved),
            created: key.since,
            expires: key.expires_at,
            revoke_at: Some(key.revoke_at),
            held_until: match key.stage {
                Stage::Held { until, .. } => Some(until),
                Stage::Grace | Stage::Restoring | Stage::Ordered => None,
            },
            disabled_outside_since: key.disabled_outside,
            used_at: key.awaits_person,
            revocation_attempts: failure.map(|failure| failure.attempts),
            revocation_error: failure.map(|failure| failure.message.as_str()),
        }
    }
}

/// `rotation_status` and `last_rotation_message`.
fn outcome(role: &RotatingRole, due: Due, now: Timestamp) -> (&'static str, String) {
    if let Some(deletion) = &role.deletion {
        let reason = deletion.failure.as_ref();
        let reason = reason.map_or_else(String::new, |f| format!(": {}", f.message));
        return (FAILED, format!("the role is being deleted{reason}"));
    }
    if let Some(failure) = &role.rotation_failure {
        // A failed manual rotation is not retried until the role is due for rotation.
        let next = match due {
            Due::Now { .. } => format!(", the next one at {}", failure.retry_at),
            _ => String::new(),
        };
        let (message, attempts) = (&failure.message, failure.attempts);
        return (FAILED, format!("{message} (attempt {attempts}{next})"));
    }
    let expiry = role.current.expires_at.filter(|expiry| *expiry <= now);
    if let (Some(expiry), None) = (expiry, role.mismatch) {
        let message = format!("the current key expired at {expiry} and is not handed out");
        return (FAILED, message);
    }
    match (due, &role.mismatch) {
        (Due::Now { .. }, _) if role.superseded_by_rotation() >= MAX_SUPERSEDED => (
            FAILED,
            format!(
                "{MAX_SUPERSEDED} superseded keys are in their grace period; the rotation waits \
                 for one of them to be revoked"
            ),
        ),
        (Due::Now { .. }, Some(mismatch)) => ("pending", describe_mismatch(mismatch)),
        (_, Some(mismatch)) => (FAILED, describe_mismatch(mismatch)),
        (Due::Now { since }, None) => ("pending", format!("due since {since}")),
        (Due::Missed { missed, next }, None) => (
            FAILED,
            format!(
                "the window that opened at {missed} was missed, the next rotation is at {next}"
            ),
        ),
        (Due::At(_) | Due::Never, None) => ("success", String::new()),
    }
}

fn describe_mismatch(mismatch: &Mismatch) -> String {
    let since = mismatch.since;
    match mismatch.reason {
        MismatchReason::Gone => {
            format!("at {since} the current key was found to be gone at OpenRouter")
        }
        MismatchReason::Disabled => format!(
            "at {since} the current key was found to be disabled at OpenRouter; it is not handed \
             out, and not replaced automatically: enable it there, or replace it with rotate-role"
        ),
        MismatchReason::Held => format!(
            "at {since} the current key was found to be disabled at OpenRouter, which has a newer key of \
             this role than the storage, which was restored from an older state; the rotation is done \
             again"
        ),
        MismatchReason::TornDown => {
            format!("the current key was revoked by a teardown of the mount, since {since}")
        }
        MismatchReason::Outdated => format!(
            "at {since} OpenRouter was found to have a newer key of this role than the storage, \
             which was restored from an older state; the rotation is done again"
        ),
    }
}

/// What an operator should see in any read of the role.
fn problems(role: &RotatingRole) -> Vec<String> {
    let unguarded = role.unguarded_keys().len();
    let guardrail = (unguarded > 0).then(|| {
        let reason = role.guardrail_failure.as_ref();
        let reason = reason.map_or("the change is in progress", |failure| &failure.message);
        let unusable = if role.is_guarded() {
            ""
        } else {
            ", and the current key is not handed out until then"
        };
        format!("{unguarded} keys do not have the role's guardrail yet{unusable}: {reason}")
    });
    let limits = role.limits_failure.iter().map(|failure| {
        format!(
            "the current key does not have the role's limits yet: {}",
            failure.message
        )
    });
    let grants = role.ledger.iter().flat_map(Ledger::failures);
    let grants = grants.map(|(hash, failure)| {
        format!(
            "the budget share of key {hash} is still being determined: {}",
            failure.message
        )
    });
    let ends = role.superseded.iter().filter_map(problem_of);
    let late_use = role.late_use.iter().map(|used| {
        format!(
            "superseded key {}, version {}, was used at {}, although every lease on it had expired \
             at {}: someone has not switched to the next key",
            used.hash, used.version, used.used_at, used.leased_until
        )
    });
    let mismatch = role.mismatch.as_ref().map(describe_mismatch).into_iter();
    mismatch
        .chain(guardrail)
        .chain(limits)
        .chain(grants)
        .chain(late_use)
        .chain(ends)
        .collect()
}

fn problem_of(key: &SupersededKey) -> Option<String> {
    let hash = &key.hash;
    if let Some(used_at) = key.awaits_person {
        return Some(format!(
            "key {hash}, which was unknown to storage, was last used at {used_at} and is not revoked \
             automatically: find out who uses it, then revoke it with revoke-key and force=true"
        ));
    }
    if let Some(failure) = &key.failure {
        let (attempts, message) = (failure.attempts, &failure.message);
        return Some(match key.stage {
            Stage::Restoring => format!(
                "superseded key {hash} may not work again yet; it could not be enabled in \
                 {attempts} attempts: {message}"
            ),
            Stage::Held { .. } => {
                format!("held key {hash} could not be deleted in {attempts} attempts: {message}")
            }
            Stage::Grace | Stage::Ordered => format!(
                "superseded key {hash} may still work; it could not be revoked in {attempts} \
                 attempts: {message}"
            ),
        });
    }
    key.disabled_outside
        .map(|at| format!("at {at} superseded key {hash} was found to be disabled at OpenRouter"))
}

const FAILED: &str = "failed";
