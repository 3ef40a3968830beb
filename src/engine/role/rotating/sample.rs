//! Rotating roles for tests: any role that a user could write.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use secrecy::SecretString;

use crate::engine::clock::after;
use crate::engine::names::{AddressId, ConnectionName, Life};
use crate::engine::role::Terms;
use crate::engine::role::rotating::{
    CurrentKey, Definition, Grace, KeyLifetime, RotatingRole, RotationPolicy,
};
use crate::openrouter::{KeyHash, Limits, Usd};
use crate::schedule::{Cron, Period, Schedule, Window};

/// Noon of a day in November, in seconds.
pub const NOON: i64 = 1_795_176_000;
/// In seconds.
pub const DAY: u64 = 24 * 60 * 60;

/// This many seconds after noon.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOON + seconds).unwrap()
}

/// A limit of this many dollars.
pub fn limits(limit: u32) -> Limits {
    Limits {
        limit: Some(Usd::new(f64::from(limit)).unwrap()),
        ..Limits::default()
    }
}

/// A rotation every day, with ten minutes of grace, and keys that do not expire.
pub fn daily() -> RotationPolicy {
    RotationPolicy {
        schedule: Schedule::every(Period::new(Duration::from_secs(DAY)).unwrap()),
        automated: true,
        grace: 600,
        ttl: 300,
        key_lifetime: KeyLifetime::Unlimited,
        hold: 0,
    }
}

/// A key that became current at this time.
pub fn key(version: u64, policy: &RotationPolicy, now: Timestamp) -> CurrentKey {
    CurrentKey {
        secret: SecretString::from(format!("sk-or-v1-{version}")),
        hash: KeyHash::of(&SecretString::from(format!("sk-or-v1-{version}"))),
        label: String::new(),
        name: format!("app {version}"),
        version,
        connection: ConnectionName::default(),
        workspace_id: None,
        address: AddressId::default(),
        since: now,
        ordered: None,
        anchor: policy.schedule.anchor(now),
        manual: false,
        expires_at: policy.lifetime(now).map(|seconds| after(now, seconds)),
        limits: limits(1),
        limits_unproved: false,
        guardrail_id: None,
        guardrail_unproved: false,
        promised_until: None,
        counted: false,
    }
}

/// A role whose first key became current at this time.
pub fn role(policy: RotationPolicy, now: Timestamp) -> RotatingRole {
    let first = key(1, &policy, now);
    let definition = Definition {
        terms: Terms {
            connection: ConnectionName::default(),
            key_name: "app".to_owned(),
            limits: limits(1),
            budget: None,
            budget_alert_percent: None,
            track_usage: false,
            workspace_id: None,
            workspace: None,
            guardrail: None,
            guardrail_id: None,
            creator_user_id: None,
            description: String::new(),
        },
        rotation: policy,
    };
    RotatingRole::new(definition, Life::default(), first)
}

/// Any schedule.
pub fn schedules() -> impl Strategy<Value = Schedule> {
    let window = prop::option::of(3_600..2 * DAY);
    prop_oneof![
        (5..40 * DAY).prop_map(|seconds| {
            Schedule::every(Period::new(Duration::from_secs(seconds)).unwrap())
        }),
        (
            prop::sample::select(vec!["0 3 * * *", "*/5 * * * *", "0 0 29 2 *"]),
            window
        )
            .prop_filter_map("a window fits its schedule", |(cron, window)| {
                let window = window.map(|w| Window::new(Duration::from_secs(w)).unwrap());
                Schedule::cron(Cron::parse(cron).unwrap(), window).ok()
            }),
    ]
}

/// Any valid rotation policy.
pub fn policies() -> impl Strategy<Value = RotationPolicy> {
    let lifetimes = prop_oneof![
        Just(KeyLifetime::Default),
        Just(KeyLifetime::Unlimited),
        (60..100 * DAY).prop_map(KeyLifetime::Seconds),
    ];
    (
        schedules(),
        any::<bool>(),
        10..2 * DAY,
        1..2 * DAY,
        lifetimes,
        prop_oneof![Just(0), 1..20 * DAY],
    )
        .prop_map(
            |(schedule, automated, grace, ttl, key_lifetime, hold)| RotationPolicy {
                schedule,
                automated,
                grace,
                ttl: ttl.min(grace / 10 * 9),
                key_lifetime,
                hold,
            },
        )
        .prop_filter("a definition that a role can have", |policy| {
            role(policy.clone(), at(0)).definition.check(at(0)).is_ok()
        })
}

/// An emergency that is about all keys of a role.
pub const EMERGENCY: Grace = Grace::Emergency {
    before: Timestamp::MAX,
};
