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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn write(before: Option<&Definition>, body: Value) -> Result<Definition, String> {
        let Value::Object(body) = body else {
            panic!("not an object")
        };
        let fields = Fields::parse(WRITE, &[], &body, true).map_err(|e| e.to_string())?;
        let name = RoleName::new("app").unwrap();
        let definition = apply(&name, before, &fields).map_err(|e| e.to_string())?;
        let now = jiff::Timestamp::UNIX_EPOCH;
        definition.check(now).map_err(|e| e.to_string())?;
        Ok(definition)
    }

    fn schedule_of(definition: &Definition) -> schedule::Fields {
        definition.rotation.schedule.clone().into()
    }

    #[test]
    fn nothing_given_means_the_documented_defaults() {
        let role = write(None, json!({})).unwrap();
        assert_eq!(role.connection, ConnectionName::default());
        assert_eq!(role.key_name, "app");
        assert_eq!(role.limits, Limits::default());
        let policy = &role.rotation;
        assert_eq!((policy.grace, policy.ttl), (86_400, 3_600));
        assert!(policy.automated);
        let period = policy.schedule.period().unwrap();
        assert_eq!(period.as_duration().as_secs(), 30 * 86_400);
        let lifetime = policy.lifetime(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(lifetime, Some(2 * 30 * 86_400 + 86_400));
    }

    #[test]
    fn what_an_update_does_not_name_stays() {
        let before = write(None, json!({"limit": 5, "limit_reset": "daily", "ttl": 60})).unwrap();
        let after = write(Some(&before), json!({"description": "new"})).unwrap();
        let expected = Definition {
            description: "new".to_owned(),
            ..before
        };
        assert_eq!(after, expected);
    }

    #[test]
    fn period_and_cron_replace_each_other_and_exclude_each_other() {
        let body = json!({"rotation_schedule": "0 3 * * 0", "rotation_window": "2h"});
        let cron = write(None, body).unwrap();
        assert!(schedule_of(&cron).rotation_period.is_none());
        let period = write(Some(&cron), json!({"rotation_period": "1d"})).unwrap();
        let schedule = schedule_of(&period);
        assert!(schedule.rotation_schedule.is_none() && schedule.rotation_window.is_none());
        let both = json!({"rotation_period": "1d", "rotation_schedule": "0 3 * * 0"});
        let refusal = write(None, both).unwrap_err();
        assert!(refusal.contains("only one of rotation_period"), "{refusal}");
    }

    #[test]
    fn a_limit_that_is_taken_away_takes_its_reset_with_it() {
        let before = write(None, json!({"limit": 5, "limit_reset": "daily"})).unwrap();
        let after = write(Some(&before), json!({"limit": null})).unwrap();
        assert_eq!(after.limits, Limits::default());
        let by_hand = write(Some(&before), json!({"limit": ""})).unwrap();
        assert_eq!(by_hand, after);
    }

    #[test]
    fn contradictions_are_refused_with_the_field_that_is_wrong() {
        let table = [
            (json!({"limit": 0}), "limit must be"),
            (json!({"limit_reset": "daily"}), "limit_reset needs a limit"),
            (
                json!({"limit_reset": "hourly", "limit": 1}),
                "limit_reset must be one of",
            ),
            (json!({"key_name": " "}), "key_name must have"),
            (json!({"key_name": "x".repeat(101)}), "key_name must have"),
            (json!({"workspace_id": "main"}), "workspace_id: "),
            (json!({"connection": "a/b"}), "connection must be"),
            (json!({"ttl": 0}), "ttl must be at least"),
            (json!({"ttl": "22h"}), "ttl must be at most nine tenths"),
            (
                json!({"rotation_period": 4}),
                "rotation_period must be at least 5",
            ),
            (
                json!({"rotation_period": "90m", "rotate_at": "03:00"}),
                "rotate_at needs",
            ),
            (
                json!({"rotation_schedule": "0 3 * * 0", "rotate_at": "03:00"}),
                "rotate_at",
            ),
            (json!({"rotation_schedule": "@daily"}), "rotation_schedule"),
            (
                json!({"rotation_window": "2h"}),
                "rotation_window goes only with",
            ),
            (
                json!({"key_max_lifetime": "30d"}),
                "key_max_lifetime must be 0",
            ),
            (
                json!({"credential_type": "dynamic"}),
                "credential_type=dynamic",
            ),
            (
                json!({"credential_type": "static"}),
                "credential_type must be",
            ),
        ];
        for (body, reason) in table {
            let refusal = write(None, body.clone()).unwrap_err();
            assert!(refusal.contains(reason), "{body}: {refusal}");
        }
    }
}
