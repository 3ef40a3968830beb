//! A role as a reader sees it: its definition, and the status that follows from its keys and its
//! last failures. Never a secret.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::engine::role::rotating::{
    CurrentKey, MOST_SUPERSEDED, Misfit, RotatingRole, SupersededKey, Unfit, rotation_due,
};
use crate::logical::{Data, Response};
use crate::schedule::{self, Due};

/// What a read of the role answers.
pub fn of(role: &RotatingRole, now: Timestamp) -> Response {
    let mut data = Data::new();
    define(&mut data, role, now);
    report(&mut data, role, now);
    Response::with_data(data).with_warnings(troubles(role))
}

fn define(data: &mut Data, role: &RotatingRole, now: Timestamp) {
    role.definition.terms.show(data);
    let policy = &role.definition.rotation;
    let mut show = |field: &str, value: Value| data.insert(field.to_owned(), value);
    show("credential_type", "rotating".into());
    let schedule = schedule::Fields::from(policy.schedule.clone());
    show("rotation_period", json!(schedule.rotation_period));
    show("rotation_schedule", json!(schedule.rotation_schedule));
    show("rotation_window", json!(schedule.rotation_window));
    show("rotate_at", json!(schedule.rotate_at));
    show("disable_automated_rotation", (!policy.automated).into());
    show("rotation_grace_period", policy.grace.into());
    show("ttl", policy.ttl.into());
    show("key_max_lifetime", policy.lifetime(now).unwrap_or(0).into());
}

fn report(data: &mut Data, role: &RotatingRole, now: Timestamp) {
    let due = rotation_due(role, now);
    let (status, message) = outcome(role, due);
    let mut show = |field: &str, value: Value| data.insert(field.to_owned(), value);
    show("current_key", current(&role.current));
    let superseded: Vec<Value> = role.superseded.iter().map(superseded).collect();
    show("superseded_keys", superseded.into());
    show("last_vault_rotation", role.current.since.to_string().into());
    show("next_vault_rotation", text(due.time()));
    show(
        "last_rotation_attempt",
        role.last_attempt.to_string().into(),
    );
    show("rotation_status", status.into());
    show("last_rotation_message", message.into());
    show("last_rotation_manual", role.current.manual.into());
}

/// `rotation_status` and `last_rotation_message`.
fn outcome(role: &RotatingRole, due: Due) -> (&'static str, String) {
    if let Some(deletion) = &role.deletion {
        let reason = deletion.failure.as_ref();
        let reason = reason.map_or_else(String::new, |f| format!(": {}", f.message));
        return ("failed", format!("the role is being deleted{reason}"));
    }
    if let Some(failure) = &role.rotation_failure {
        // What a person asked for is not tried again before the role is due by itself.
        let next = match due {
            Due::Now { .. } => format!(", the next one at {}", failure.retry_at),
            _ => String::new(),
        };
        let (message, attempts) = (&failure.message, failure.attempts);
        return ("failed", format!("{message} (attempt {attempts}{next})"));
    }
    match (due, &role.unfit) {
        (Due::Now { .. }, _) if role.superseded_by_rotation() >= MOST_SUPERSEDED => (
            "failed",
            format!(
                "{MOST_SUPERSEDED} superseded keys are in their grace period; the rotation waits \
                 for one of them to be revoked"
            ),
        ),
        (Due::Now { .. }, Some(unfit)) => ("pending", misfit(unfit)),
        (_, Some(unfit)) => ("failed", misfit(unfit)),
        (Due::Now { since }, None) => ("pending", format!("due since {since}")),
        (Due::Missed { missed, next }, None) => (
            "failed",
            format!(
                "the window that opened at {missed} was missed, the next rotation is at {next}"
            ),
        ),
        (Due::At(_) | Due::Never, None) => ("success", String::new()),
    }
}

fn misfit(unfit: &Unfit) -> String {
    let since = unfit.since;
    match unfit.reason {
        Misfit::Gone => format!("at {since} the current key was found to be gone at OpenRouter"),
        Misfit::Outdated => format!(
            "at {since} OpenRouter was found to have a newer key of this role than the storage, \
             which was restored from an older state; the rotation is done again"
        ),
    }
}

/// What an operator should see even when looking for something else.
fn troubles(role: &RotatingRole) -> Vec<String> {
    let limits = role.limits_failure.iter().map(|failure| {
        format!(
            "the current key does not have the role's limits yet: {}",
            failure.message
        )
    });
    let revocations = role.superseded.iter().filter_map(|key| {
        let failure = key.failure.as_ref()?;
        Some(format!(
            "superseded key {} may still work, it could not be revoked in {} attempts: {}",
            key.hash, failure.attempts, failure.message
        ))
    });
    let unfit = role.unfit.as_ref().map(misfit);
    unfit.into_iter().chain(limits).chain(revocations).collect()
}

fn current(key: &CurrentKey) -> Value {
    json!({
        "hash": key.hash,
        "label": key.label,
        "name": key.name,
        "version": key.version,
        "created": key.since.to_string(),
        "expires": text(key.expires_at),
        "revoke_at": null,
    })
}

fn superseded(key: &SupersededKey) -> Value {
    let mut shown = json!({
        "hash": key.hash,
        "label": key.label,
        "name": key.name,
        "version": key.version,
        "created": key.since.to_string(),
        "expires": text(key.expires_at),
        "revoke_at": key.revoke_at.to_string(),
    });
    if let (Some(failure), Some(fields)) = (&key.failure, shown.as_object_mut()) {
        fields.insert("revocation_attempts".to_owned(), failure.attempts.into());
        fields.insert(
            "revocation_error".to_owned(),
            failure.message.clone().into(),
        );
    }
    shown
}

fn text(at: Option<Timestamp>) -> Value {
    at.map(|at| at.to_string()).into()
}
