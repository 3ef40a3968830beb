//! The fields of a rotating role, and how a write changes its definition.

use super::definition::{Definition, KeyLifetime, RotationPolicy};
use super::entry::RoleName;
use crate::engine::connection::ConnectionName;
use crate::engine::error::Error;
use crate::framework::{Field, Fields};
use crate::openrouter::{LimitReset, Limits, Usd, WorkspaceId};
use crate::schedule::{self, Cron, Period, Schedule, TimeOfDay, Window};

/// What a write takes.
pub(super) const WRITE: &[Field] = &[
    Field::text(
        "credential_type",
        "rotating: one shared key, replaced on a schedule. Fixed at creation.",
    )
    .default("rotating"),
    Field::text("connection", "The connection that the keys are made with.").default("default"),
    Field::text(
        "key_name",
        "What the keys are called at OpenRouter, 1 to 100 characters. The day and a unique mark\n\
         follow it.",
    )
    .default("the role's name"),
    Field::number(
        "limit",
        "What each key may spend, in US dollars, more than 0. An empty value means no limit. A\n\
         rotation starts a new key with the full limit.",
    )
    .nullable(),
    Field::text(
        "limit_reset",
        "When the spending starts at zero again, at 00:00 UTC. An empty value means never.",
    )
    .one_of(&["daily", "weekly", "monthly"])
    .nullable(),
    Field::switch(
        "include_byok_in_limit",
        "Whether spending on the account's own provider keys counts toward the limit.",
    )
    .default("false"),
    Field::text(
        "workspace_id",
        "The workspace to make the keys in, a UUID. An empty value means the account's default\n\
         one. A change takes effect at the next rotation.",
    )
    .nullable(),
    Field::text("description", "Your words, shown on read."),
    Field::duration(
        "rotation_period",
        "How often the key is replaced, at least 5 seconds. Not together with rotation_schedule.",
    )
    .default("30d"),
    Field::text(
        "rotation_schedule",
        "When the key is replaced: a cron expression of five fields, in UTC.",
    )
    .nullable(),
    Field::duration(
        "rotation_window",
        "How late a rotation by rotation_schedule may start, at least 1h. When the window has\n\
         passed, the rotation waits for the next one.",
    )
    .nullable(),
    Field::text(
        "rotate_at",
        "The time of day of the rotation, HH:MM in UTC; only with a rotation_period of whole\n\
         days. The rotation comes at that time once the period has elapsed.",
    )
    .nullable(),
    Field::switch("disable_automated_rotation", "Rotate only by rotate-role.").default("false"),
    Field::duration(
        "rotation_grace_period",
        "How long a superseded key keeps working.",
    )
    .default("24h"),
    Field::duration(
        "ttl",
        "The lease that a reader of the key gets; at most nine tenths of rotation_grace_period.",
    )
    .default("1h"),
    Field::duration(
        "key_max_lifetime",
        "After how long a key expires at OpenRouter by itself, should nobody revoke it; 0 for\n\
         never. A change takes effect at the next rotation. The default is two rotation periods\n\
         and the grace period when rotation is automatic, and never when it is not.",
    )
    .nullable(),
];

/// What a delete takes.
pub(super) const DELETE: &[Field] = &[Field::switch(
    "force",
    "Forget the role although its keys cannot be revoked now. The answer names the keys that are\n\
     left behind.",
)
.default("false")
.query()];

/// The definition that a write makes of `before`: what it does not name stays.
pub(super) fn apply(
    name: &RoleName,
    before: Option<&Definition>,
    fields: &Fields,
) -> Result<Definition, Error> {
    check_type(before.is_some(), fields)?;
    Ok(Definition {
        connection: match fields.text("connection") {
            Some(connection) => ConnectionName::parse(connection)?,
            None => before.map(|b| b.connection.clone()).unwrap_or_default(),
        },
        key_name: match (fields.text("key_name"), before) {
            (Some(text), _) => key_name(text)?,
            (None, Some(before)) => before.key_name.clone(),
            (None, None) => name.to_string().chars().take(LONGEST_KEY_NAME).collect(),
        },
        limits: limits(before.map(|b| b.limits), fields)?,
        workspace_id: match fields.text("workspace_id") {
            Some(id) => {
                let id = WorkspaceId::parse(id);
                Some(id.map_err(|e| Error::Invalid(format!("workspace_id: {e}")))?)
            }
            None if fields.is_null("workspace_id") => None,
            None => before.and_then(|b| b.workspace_id.clone()),
        },
        description: match fields.text("description") {
            Some(text) => text.to_owned(),
            None => before.map(|b| b.description.clone()).unwrap_or_default(),
        },
        rotation: rotation(before.map(|b| &b.rotation), fields)?,
    })
}

fn check_type(exists: bool, fields: &Fields) -> Result<(), Error> {
    match fields.text("credential_type") {
        None | Some("rotating") => Ok(()),
        Some("dynamic") if exists => Err(Error::invalid(
            "credential_type is fixed at creation; this role is rotating",
        )),
        Some("dynamic") => Err(Error::invalid(
            "credential_type=dynamic is not supported by this version; it takes rotating",
        )),
        Some(_) => Err(Error::invalid("credential_type must be rotating")),
    }
}

fn key_name(text: &str) -> Result<String, Error> {
    let text = text.trim();
    if (1..=LONGEST_KEY_NAME).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid("key_name must have 1 to 100 characters"))
    }
}

fn limits(before: Option<Limits>, fields: &Fields) -> Result<Limits, Error> {
    let before = before.unwrap_or_default();
    let limit = match fields.number("limit") {
        Some(amount) => Some(Usd::new(amount).map_err(|_| {
            Error::invalid("limit must be more than 0 US dollars, or empty for no limit")
        })?),
        None if fields.is_null("limit") => None,
        None => before.limit,
    };
    let reset = match fields.text("limit_reset") {
        Some(text) => Some(text.parse::<LimitReset>()?),
        // A limit that is taken away takes its reset with it.
        None if fields.is_null("limit_reset") || limit.is_none() => None,
        None => before.reset,
    };
    Ok(Limits {
        limit,
        reset,
        include_byok: fields
            .switch("include_byok_in_limit")
            .unwrap_or(before.include_byok),
    })
}

fn rotation(before: Option<&RotationPolicy>, fields: &Fields) -> Result<RotationPolicy, Error> {
    Ok(RotationPolicy {
        schedule: schedule(before.map(|b| &b.schedule), fields)?,
        automated: match fields.switch("disable_automated_rotation") {
            Some(disabled) => !disabled,
            None => before.is_none_or(|b| b.automated),
        },
        grace: fields
            .seconds("rotation_grace_period")
            .unwrap_or_else(|| before.map_or(DEFAULT_GRACE, |b| b.grace)),
        ttl: fields
            .seconds("ttl")
            .unwrap_or_else(|| before.map_or(DEFAULT_TTL, |b| b.ttl)),
        key_lifetime: match fields.seconds("key_max_lifetime") {
            Some(0) => KeyLifetime::Unlimited,
            Some(seconds) => KeyLifetime::Seconds(seconds),
            None if fields.is_null("key_max_lifetime") => KeyLifetime::Default,
            None => before.map_or(KeyLifetime::Default, |b| b.key_lifetime),
        },
    })
}

/// Naming one of period and cron replaces the other; naming both is a contradiction.
fn schedule(before: Option<&Schedule>, fields: &Fields) -> Result<Schedule, Error> {
    let mut parts = before
        .cloned()
        .map(schedule::Fields::from)
        .unwrap_or_default();
    let invalid = |e: schedule::InvalidSchedule| Error::Invalid(e.to_string());
    if let Some(seconds) = fields.seconds("rotation_period") {
        parts.rotation_period = Some(Period::new(seconds_of(seconds)).map_err(invalid)?);
        if !fields.has("rotation_schedule") {
            parts.rotation_schedule = None;
            parts.rotation_window = None;
        }
    }
    if let Some(text) = fields.text("rotation_schedule") {
        let cron = Cron::parse(text).map_err(schedule::InvalidSchedule::from);
        parts.rotation_schedule = Some(cron.map_err(invalid)?);
        if !fields.has("rotation_period") {
            parts.rotation_period = None;
            if !fields.has("rotate_at") {
                parts.rotate_at = None;
            }
        }
    } else if fields.is_null("rotation_schedule") {
        parts.rotation_schedule = None;
        parts.rotation_window = None;
    }
    if let Some(seconds) = fields.seconds("rotation_window") {
        parts.rotation_window = Some(Window::new(seconds_of(seconds)).map_err(invalid)?);
    } else if fields.is_null("rotation_window") {
        parts.rotation_window = None;
    }
    if let Some(text) = fields.text("rotate_at") {
        parts.rotate_at = Some(TimeOfDay::parse(text).map_err(invalid)?);
    } else if fields.is_null("rotate_at") {
        parts.rotate_at = None;
    }
    if parts.rotation_period.is_none() && parts.rotation_schedule.is_none() {
        parts.rotation_period = Some(Period::new(seconds_of(DEFAULT_PERIOD)).map_err(invalid)?);
    }
    Schedule::try_from(parts).map_err(invalid)
}

fn seconds_of(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

const LONGEST_KEY_NAME: usize = 100;
/// In seconds: 30 days.
const DEFAULT_PERIOD: u64 = 30 * 24 * 60 * 60;
/// In seconds: 24 hours.
const DEFAULT_GRACE: u64 = 24 * 60 * 60;
/// In seconds: 1 hour.
const DEFAULT_TTL: u64 = 60 * 60;
