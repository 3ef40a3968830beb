//! The fields of a rotating role, and how a write changes its definition.

use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::rotating::{Definition, KeyLifetime, RotationPolicy};
use crate::engine::role::{DEFAULT_TTL, Terms, budget};
use crate::framework::{Field, Fields};
use crate::schedule::{self, Cron, Period, Schedule, TimeOfDay, Window};

/// The fields of a write, in addition to the terms of the keys.
pub const FIELDS: &[Field] = &[
    Field::secret(
        "api_key",
        "An existing key to adopt as the role's first key instead of creating one. Only valid\n\
         when the role is created; an update accepts it if it is the key that was adopted or another\n\
         living key of the role. Only returned by creds and static-creds.",
    ),
    Field::switch(
        "force",
        "Adopt api_key even if another mount of this engine created it.",
    )
    .default("false"),
    Field::duration(
        "rotation_period",
        "How often the key is replaced, at least 5 seconds. Not together with rotation_schedule.",
    )
    .default("30d"),
    Field::text(
        "rotation_schedule",
        "When the key is replaced, as a cron expression with five fields, in UTC.",
    )
    .nullable(),
    Field::duration(
        "rotation_window",
        "How long after a time of rotation_schedule the rotation may start, at least 1h. If the\n\
         window is missed, the rotation waits for the next one.",
    )
    .nullable(),
    Field::text(
        "rotate_at",
        "The time of day of the rotation, HH:MM in UTC. Requires a rotation_period of whole days.\n\
         The key is rotated at that time after the period has elapsed.",
    )
    .nullable(),
    Field::switch(
        "disable_automated_rotation",
        "Rotate only with rotate-role.",
    )
    .default("false"),
    Field::duration(
        "rotation_grace_period",
        "How long a superseded key keeps working.",
    )
    .default("24h"),
    Field::duration(
        "revocation_hold",
        "How long a key stays disabled at OpenRouter after its grace period, before it is\n\
         deleted. Until then `restore-key` can restore it. 0 deletes it at once.",
    )
    .default("0"),
    Field::duration(
        "key_max_lifetime",
        "The lifetime of a key at OpenRouter, after which it expires even if it is not revoked. 0\n\
         means that keys do not expire. A change takes effect at the next rotation. The default\n\
         with automatic rotation is two rotation periods plus the grace period and\n\
         revocation_hold, otherwise 0.",
    )
    .nullable(),
];

/// The definition after a write to `before`. Fields that are not in the request are unchanged.
pub fn apply(
    name: &RoleName,
    before: Option<&Definition>,
    fields: &Fields,
) -> Result<Definition, Error> {
    let mut terms = Terms::apply(name, before.map(|b| &b.terms), fields)?;
    budget::exclude_limit(&mut terms, fields)?;
    Ok(Definition {
        terms,
        rotation: rotation(before.map(|b| &b.rotation), fields)?,
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
        hold: fields
            .seconds("revocation_hold")
            .unwrap_or_else(|| before.map_or(0, |b| b.hold)),
    })
}

/// Period and cron replace each other. A request with both is rejected.
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

/// In seconds: 30 days.
const DEFAULT_PERIOD: u64 = 30 * 24 * 60 * 60;
/// In seconds: 24 hours.
const DEFAULT_GRACE: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::role::{TERMS, TTL};

    fn write(before: Option<&Definition>, body: Value) -> Result<Definition, String> {
        let Value::Object(body) = body else {
            panic!("not an object")
        };
        let known = [TTL];
        let known = known
            .iter()
            .chain(TERMS)
            .chain(FIELDS)
            .chain(crate::engine::role::dynamic::FIELDS);
        let fields = Fields::parse(known, &[], &body, true).map_err(|e| e.to_string())?;
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
        assert_eq!(after.terms.description, "new");
        assert_eq!(after.rotation, before.rotation);
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
    fn contradictions_are_refused_with_the_field_that_is_wrong() {
        let table = [
            (json!({"ttl": 0}), "ttl must be at least"),
            (json!({"ttl": "22h"}), "ttl must be at most nine tenths"),
            (
                json!({"rotation_period": 4}),
                "rotation_period must be at least 5",
            ),
            (
                json!({"rotation_period": "90m", "rotate_at": "03:00"}),
                "rotate_at requires",
            ),
            (
                json!({"rotation_schedule": "0 3 * * 0", "rotate_at": "03:00"}),
                "rotate_at",
            ),
            (json!({"rotation_schedule": "@daily"}), "rotation_schedule"),
            (json!({"rotation_window": "2h"}), "rotation_window requires"),
            (
                json!({"key_max_lifetime": "30d"}),
                "key_max_lifetime must be 0",
            ),
        ];
        for (body, reason) in table {
            let refusal = write(None, body.clone()).unwrap_err();
            assert!(refusal.contains(reason), "{body}: {refusal}");
        }
    }
}
