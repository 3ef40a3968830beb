//! What holds of the next step for any role, at any time, and along any life of a role.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::clock::{after, seconds_until};
use crate::engine::role::rotating::sample::{DAY, at, key, limits, policies, role};
use crate::engine::role::rotating::{Deletion, Grace, KeyLifetime, RotationPolicy};
use crate::openrouter::GuardrailId;
use crate::schedule::{Period, Schedule};

fn failure(retry_at: Timestamp) -> Failure {
    Failure {
        attempts: 1,
        at: retry_at,
        message: String::new(),
        retry_at,
    }
}

fn guardrail() -> Option<GuardrailId> {
    GuardrailId::parse("0f8fad5b-d9cb-469f-a165-70867728950e").ok()
}

/// Roles in whatever state, of which some cannot come about.
fn roles() -> impl Strategy<Value = RotatingRole> {
    let time = || -60 * 86_400..60 * 86_400_i64;
    let failed = move || prop::option::of(time().prop_map(|t| failure(at(t))));
    let superseded = prop::collection::vec((time(), failed()), 0..4);
    let guarded = prop::option::of(failed());
    let failures = (
        failed(),
        failed(),
        prop::option::of((time(), failed())),
        guarded,
    );
    let misfits = prop::sample::select(vec![Misfit::Gone, Misfit::TornDown, Misfit::Outdated]);
    let unfit = prop::option::weighted(0.2, (misfits, time()));
    (
        policies(),
        time(),
        superseded,
        any::<bool>(),
        failures,
        unfit,
    )
        .prop_map(
            |(policy, since, superseded, other_limits, failures, unfit)| {
                let (rotation, patch, deletion, guarded) = failures;
                let mut role = role(policy.clone(), at(since));
                for (version, (revoke_at, failure)) in superseded.into_iter().enumerate() {
                    let next = key(version as u64 + 2, &policy, at(since));
                    role = role.switched_to(next, Grace::Seconds(0));
                    role.superseded[version].revoke_at = at(revoke_at);
                    role.superseded[version].failure = failure;
                }
                if other_limits {
                    role.definition.terms.limits = limits(2);
                }
                if let Some(failed) = guarded {
                    role.definition.terms.guardrail_id = guardrail();
                    role.guardrail_failure = failed;
                }
                role.rotation_failure = rotation;
                role.limits_failure = patch;
                role.unfit = unfit.map(|(reason, since)| Unfit {
                    reason,
                    since: at(since),
                    asked: None,
                });
                role.deletion = deletion.map(|(since, failure)| Deletion {
                    since: at(since),
                    failure,
                });
                role
            },
        )
}

proptest! {
    #[test]
    fn no_step_is_taken_before_its_time(role in roles(), now in -5_000_000..5_000_000_i64) {
        let now = at(now);
        let waits = |failure: &Option<Failure>| failure.as_ref().is_some_and(|f| f.retry_at > now);
        match next_step(&role, now) {
            Step::Wait(until) => prop_assert!(until.is_none_or(|until| until > now)),
            Step::Delete => {
                let deletion = role.deletion.unwrap();
                prop_assert!(deletion.since <= now && !waits(&deletion.failure));
            }
            Step::Revoke(hash) => {
                let key = role.superseded.iter().find(|key| key.hash == hash).unwrap();
                prop_assert!(key.revoke_at <= now && !waits(&key.failure));
            }
            Step::ApplyGuardrail => {
                prop_assert!(!waits(&role.guardrail_failure));
                prop_assert!(!role.unguarded_keys().is_empty());
            }
            Step::ApplyLimits => prop_assert!(!waits(&role.limits_failure)),
            Step::AskAgain => {
                let unfit = role.unfit.unwrap();
                prop_assert!(unfit.reason == Misfit::Gone && unfit.since < now);
                prop_assert!(!role.definition.rotation.automated);
            }
            Step::Rotate { since } => {
                prop_assert!(since <= now && !waits(&role.rotation_failure));
                let outdated = |unfit: Unfit| unfit.reason == Misfit::Outdated;
                prop_assert!(role.definition.rotation.automated || role.unfit.is_some_and(outdated));
            }
        }
    }

    #[test]
    fn whoever_sleeps_until_the_time_it_is_told_misses_nothing(
        role in roles(), now in -5_000_000..5_000_000_i64, part in 0.0..1.0_f64,
    ) {
        if let Step::Wait(until) = next_step(&role, at(now)) {
            let until = until.unwrap_or_else(|| at(50_000_000));
            let slept = until.duration_since(at(now)).mul_f64(part);
            let meanwhile = at(now).checked_add(slept).unwrap();
            if meanwhile < until {
                prop_assert!(matches!(next_step(&role, meanwhile), Step::Wait(_)));
            }
        }
    }

    #[test]
    fn a_deletion_that_has_begun_leaves_room_for_nothing_else(role in roles(), now in 0..5_000_000_i64) {
        let step = next_step(&role, at(now));
        if role.deletion.is_some() {
            prop_assert!(matches!(step, Step::Delete | Step::Wait(Some(_))));
        } else {
            prop_assert!(step != Step::Delete);
        }
    }

    #[test]
    fn after_an_emergency_every_older_key_is_revoked_before_anything_else(
        role in roles(), now in -5_000_000..5_000_000_i64,
    ) {
        let now = at(now);
        let new = key(99, &role.definition.rotation, now);
        let mut role = RotatingRole { deletion: None, ..role }.switched_to(new, Grace::Emergency);
        while let Some(key) = role.superseded.first() {
            prop_assert_eq!(next_step(&role, now), Step::Revoke(key.hash.clone()));
            role.superseded.remove(0);
        }
    }

    /// A life of a role: time passes, steps are taken when they are due or later, and fail or not.
    #[test]
    fn no_reader_is_left_with_a_dead_key_whatever_happens(
        policy in policies(), life in prop::collection::vec((0.0..1.5_f64, any::<bool>()), 1..60),
    ) {
        let (mut role, mut now) = (role(policy.clone(), at(0)), at(0));
        let mut promises = Vec::new();
        let mut late = false;
        for (part, succeeds) in life {
            let expires_at = role.current.expires_at.unwrap_or(Timestamp::MAX);
            // A role that rotates by hand only may be left with an expired key: its writer was warned.
            let cared_for = policy.automated && !late;
            prop_assert!(!cared_for || expires_at > now, "it was on time, but the key has expired");
            let ttl = policy.ttl.min(seconds_until(now, expires_at));
            promises.push((role.current.hash.clone(), after(now, ttl)));
            let retry = Some(failure(after(now, 7)));
            match next_step(&role, now) {
                Step::Wait(until) => {
                    let until = until.unwrap_or_else(|| after(now, DAY));
                    let slept = until.duration_since(now).mul_f64(part.min(1.0));
                    late |= part > 1.0;
                    now = after(now.checked_add(slept).unwrap(), if part > 1.0 { 4_000 } else { 0 });
                }
                Step::Rotate { .. } if succeeds => {
                    let new = key(role.current.version + 1, &policy, now);
                    role = role.switched_to(new, Grace::Seconds(policy.grace));
                }
                Step::Rotate { .. } => (role.rotation_failure, late) = (retry, true),
                Step::Revoke(hash) if succeeds => {
                    let broken = promises.iter().find(|(of, until)| *of == hash && *until > now);
                    prop_assert_eq!(broken, None);
                    role.superseded.retain(|key| key.hash != hash);
                }
                Step::Revoke(hash) => {
                    let key = role.superseded.iter_mut().find(|key| key.hash == hash);
                    key.unwrap().failure = retry;
                }
                step => prop_assert!(false, "{step:?}"),
            }
        }
    }
}

#[test]
fn a_key_that_must_die_comes_first_then_the_guardrail_the_limits_and_a_rotation() {
    let period = Schedule::every(Period::new(Duration::from_secs(60)).unwrap());
    let policy = RotationPolicy {
        schedule: period,
        automated: true,
        grace: 10,
        ttl: 5,
        key_lifetime: KeyLifetime::Default,
    };
    let next = key(2, &policy, at(0));
    let mut role = role(policy, at(-100)).switched_to(next, Grace::Seconds(10));
    role.definition.terms.limits = limits(2);
    role.definition.terms.guardrail_id = guardrail();
    let now = at(1_000);
    let old = role.superseded[0].hash.clone();
    assert_eq!(next_step(&role, now), Step::Revoke(old));
    // A revocation that fails does not hold up the rest.
    role.superseded[0].failure = Some(failure(at(1_001)));
    assert_eq!(next_step(&role, now), Step::ApplyGuardrail);
    role.guardrail_failure = Some(failure(at(1_002)));
    assert_eq!(next_step(&role, now), Step::ApplyLimits);
    role.limits_failure = Some(failure(at(1_002)));
    assert_eq!(next_step(&role, now), Step::Rotate { since: at(60) });
    role.rotation_failure = Some(failure(at(1_003)));
    assert_eq!(next_step(&role, now), Step::Wait(Some(at(1_001))));
}

#[test]
fn so_many_superseded_keys_hold_the_next_rotation_up_and_no_more() {
    let policy = RotationPolicy {
        schedule: Schedule::every(Period::new(Duration::from_secs(5)).unwrap()),
        automated: true,
        grace: 100_000,
        ttl: 5,
        key_lifetime: KeyLifetime::Unlimited,
    };
    let mut role = role(policy.clone(), at(0));
    for version in 0..MOST_SUPERSEDED as u64 {
        assert!(matches!(next_step(&role, at(1_000)), Step::Rotate { .. }));
        role = role.switched_to(key(version + 2, &policy, at(0)), Grace::Seconds(100_000));
    }
    assert_eq!(next_step(&role, at(1_000)), Step::Wait(Some(at(100_000))));
    assert!(matches!(next_step(&role, at(100_000)), Step::Revoke(_)));
    role.superseded.remove(0);
    assert!(matches!(next_step(&role, at(100_000)), Step::Revoke(_)));
}

#[test]
fn a_key_that_is_gone_and_not_replaced_by_itself_is_asked_about_later_and_later() {
    let policy = RotationPolicy {
        schedule: Schedule::every(Period::new(Duration::from_secs(3_600)).unwrap()),
        automated: false,
        grace: 10,
        ttl: 5,
        key_lifetime: KeyLifetime::Unlimited,
    };
    let mut role = role(policy, at(0));
    let mut asked = Vec::new();
    let mut now = at(0);
    for _ in 0..9 {
        role.unfit = Some(Unfit {
            reason: Misfit::Gone,
            since: at(0),
            asked: Some(now),
        });
        let Step::Wait(Some(next)) = next_step(&role, now) else {
            panic!("it is not due at once");
        };
        assert_eq!(next_step(&role, next), Step::AskAgain);
        now = next;
        asked.push(seconds_until(at(0), now));
    }
    assert_eq!(asked, [60, 120, 240, 480, 960, 1_920, 3_840, 7_440, 11_040]);
}

#[test]
fn keys_that_were_found_hold_no_rotation_up() {
    let policy = RotationPolicy {
        schedule: Schedule::every(Period::new(Duration::from_secs(5)).unwrap()),
        automated: true,
        grace: 100_000,
        ttl: 5,
        key_lifetime: KeyLifetime::Unlimited,
    };
    let mut role = role(policy.clone(), at(0));
    for version in 0..MOST_SUPERSEDED as u64 {
        role = role.switched_to(key(version + 2, &policy, at(0)), Grace::Seconds(100_000));
    }
    assert!(matches!(next_step(&role, at(1_000)), Step::Wait(_)));
    role.superseded[7].found = true;
    assert!(matches!(next_step(&role, at(1_000)), Step::Rotate { .. }));
}
