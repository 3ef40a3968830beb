//! Invariants of the next step, for any role at any time, and over any life of a role.

mod rare;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::clock::{after, seconds_until};
use crate::engine::role::rotating::sample::{
    DAY, EMERGENCY, at, daily, key, limits, policies, role,
};
use crate::engine::role::rotating::{Deletion, Grace, KeyLifetime, RotationPolicy, Stage};
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

/// Roles in any state, including impossible ones.
fn roles() -> impl Strategy<Value = RotatingRole> {
    let time = || -60 * 86_400..60 * 86_400_i64;
    let failed = move || prop::option::of(time().prop_map(|t| failure(at(t))));
    let stages = prop_oneof![
        3 => Just(Stage::Grace),
        2 => time().prop_map(|until| Stage::Held { since: at(until - 1), until: at(until) }),
        1 => Just(Stage::Restoring),
        1 => Just(Stage::Ordered),
    ];
    let superseded = prop::collection::vec((time(), failed(), stages, any::<bool>()), 0..4);
    let guarded = prop::option::of(failed());
    let failures = (
        failed(),
        failed(),
        prop::option::of((time(), failed())),
        guarded,
    );
    let reasons = prop::sample::select(vec![
        MismatchReason::Gone,
        MismatchReason::Disabled,
        MismatchReason::TornDown,
        MismatchReason::Outdated,
    ]);
    let mismatch = prop::option::weighted(0.2, (reasons, time()));
    (
        policies(),
        time(),
        superseded,
        any::<bool>(),
        failures,
        mismatch,
    )
        .prop_map(
            |(policy, since, superseded, other_limits, failures, mismatch)| {
                let (rotation, patch, deletion, guarded) = failures;
                let mut role = role(policy.clone(), at(since));
                for (version, end) in superseded.into_iter().enumerate() {
                    let (revoke_at, failure, stage, postponed) = end;
                    let next = key(version as u64 + 2, &policy, at(since));
                    role = role.switched_to(next, Grace::Seconds(0));
                    role.superseded[version].revoke_at = at(revoke_at);
                    role.superseded[version].failure = failure;
                    role.superseded[version].stage = stage;
                    role.superseded[version].postponed = postponed;
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
                role.mismatch =
                    mismatch.map(|(reason, since)| Mismatch::concluded(reason, at(since)));
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
                let due = match key.stage {
                    Stage::Held { until, .. } => until,
                    Stage::Grace | Stage::Restoring => key.revoke_at,
                    Stage::Ordered => Timestamp::MIN,
                };
                let expired = key.expires_at.is_some_and(|expiry| expiry <= now);
                prop_assert!(due <= now && !waits(&key.failure));
                let skips_the_hold = key.stage.is_held() || key.stage == Stage::Ordered;
                prop_assert!(skips_the_hold || expired || role.definition.rotation.hold == 0);
            }
            Step::Hold(hash) => {
                let key = role.superseded.iter().find(|key| key.hash == hash).unwrap();
                prop_assert!(key.revoke_at <= now && !waits(&key.failure));
                prop_assert!(role.definition.rotation.hold > 0 && !key.stage.is_held());
            }
            Step::Enable(hash) => {
                let key = role.superseded.iter().find(|key| key.hash == hash).unwrap();
                prop_assert!(key.stage == Stage::Restoring && !waits(&key.failure));
                prop_assert!(now < key.revoke_at);
            }
            Step::Postpone(..) => prop_assert!(false, "somebody has always worked"),
            Step::ApplyGuardrail => {
                prop_assert!(!waits(&role.guardrail_failure));
                prop_assert!(!role.unguarded_keys().is_empty());
            }
            Step::ApplyLimits | Step::Budget(_) => prop_assert!(!waits(&role.limits_failure)),
            Step::AskAgain => {
                let mismatch = role.mismatch.unwrap();
                prop_assert!(mismatch.reason != MismatchReason::Outdated && mismatch.since < now);
                let automated = role.definition.rotation.automated;
                prop_assert!(mismatch.reason == MismatchReason::Disabled || !automated);
            }
            Step::Rotate { since } => {
                prop_assert!(since <= now && !waits(&role.rotation_failure));
                let outdated = |mismatch: Mismatch| mismatch.reason == MismatchReason::Outdated;
                prop_assert!(role.definition.rotation.automated || role.mismatch.is_some_and(outdated));
                let disabled = |mismatch: Mismatch| mismatch.reason == MismatchReason::Disabled;
                prop_assert!(!role.mismatch.is_some_and(disabled));
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
        let mut role = RotatingRole { deletion: None, ..role }.switched_to(new, EMERGENCY);
        // It makes no difference that the work has just begun.
        let circumstances = Circumstances { work_began: Some(now), two_copies: true, now };
        while let Step::Revoke(hash) | Step::Hold(hash) = next_step(&role, circumstances) {
            role.superseded.retain(|key| key.hash != hash);
        }
        for key in &role.superseded {
            let is_held = matches!(key.stage, Stage::Held { until, .. } if until > now);
            prop_assert!(is_held);
        }
    }

    /// A revocation that fell due while no node was active is postponed once, to one `ttl` after the start of
    /// the work.
    #[test]
    fn a_revocation_is_postponed_at_most_once_and_never_past_the_keys_expiry(
        role in roles(), began in -5_000_000..5_000_000_i64, later in 0..200_000_i64,
    ) {
        let (mut role, now) = (RotatingRole { deletion: None, ..role }, at(began + later));
        let circumstances = Circumstances { now, work_began: Some(at(began)), two_copies: false };
        while let Step::Postpone(hash, until) = next_step(&role, circumstances) {
            let ttl = role.definition.rotation.ttl;
            let key = role.superseded.iter_mut().find(|key| key.hash == hash).unwrap();
            prop_assert!(!key.postponed && key.revoke_at < at(began) && now < until);
            prop_assert!(until <= after(at(began), ttl));
            prop_assert!(key.expires_at.is_none_or(|expiry| until <= expiry));
            key.postponed = true;
            key.revoke_at = until;
        }
    }

    /// A life of a role: time passes, and steps are taken on time or late, and succeed or fail.
    #[test]
    fn no_reader_is_left_with_a_dead_key_whatever_happens(
        policy in policies(), life in prop::collection::vec((0.0..1.5_f64, any::<bool>()), 1..60),
    ) {
        let (mut role, mut now) = (role(policy.clone(), at(0)), at(0));
        let mut promises = Vec::new();
        let mut late = false;
        for (part, succeeds) in life {
            let expires_at = role.current.expires_at.unwrap_or(Timestamp::MAX);
            // A role that is rotated only manually may be left with an expired key: its writer was warned.
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
                Step::Hold(hash) if succeeds => {
                    let broken = promises.iter().find(|(of, until)| *of == hash && *until > now);
                    prop_assert_eq!(broken, None);
                    let until = after(now, policy.hold);
                    let key = role.superseded.iter_mut().find(|key| key.hash == hash);
                    key.unwrap().stage = Stage::Held { since: now, until };
                }
                Step::Revoke(hash) | Step::Hold(hash) => {
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
        hold: 0,
    };
    let next = key(2, &policy, at(0));
    let mut role = role(policy, at(-100)).switched_to(next, Grace::Seconds(10));
    role.definition.terms.limits = limits(2);
    role.definition.terms.guardrail_id = guardrail();
    let now = at(1_000);
    let old = role.superseded[0].hash.clone();
    assert_eq!(next_step(&role, now), Step::Revoke(old));
    // A revocation that fails does not delay the other steps.
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
        hold: 0,
    };
    let mut role = role(policy.clone(), at(0));
    for version in 0..MAX_SUPERSEDED as u64 {
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
        hold: 0,
    };
    let mut role = role(policy, at(0));
    let mut asked = Vec::new();
    let mut now = at(0);
    for _ in 0..9 {
        role.mismatch = Some(Mismatch {
            asked: Some(now),
            ..Mismatch::concluded(MismatchReason::Gone, at(0))
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
        hold: 0,
    };
    let mut role = role(policy.clone(), at(0));
    for version in 0..MAX_SUPERSEDED as u64 {
        role = role.switched_to(key(version + 2, &policy, at(0)), Grace::Seconds(100_000));
    }
    assert!(matches!(next_step(&role, at(1_000)), Step::Wait(_)));
    role.superseded[7].found = true;
    assert!(matches!(next_step(&role, at(1_000)), Step::Rotate { .. }));
}

/// Rotated a minute ago, with a grace period of ten seconds and a lease of five.
fn superseded(hold: u64) -> RotatingRole {
    let policy = RotationPolicy {
        schedule: Schedule::every(Period::new(Duration::from_secs(100_000)).unwrap()),
        automated: true,
        grace: 10,
        ttl: 5,
        key_lifetime: KeyLifetime::Unlimited,
        hold,
    };
    let next = key(2, &policy, at(0));
    role(policy, at(-100)).switched_to(next, Grace::Seconds(10))
}

#[test]
fn a_key_is_held_for_as_long_as_the_role_says_and_then_deleted() {
    let mut role = superseded(60);
    let old = role.superseded[0].hash.clone();
    assert_eq!(next_step(&role, at(9)), Step::Wait(Some(at(10))));
    assert_eq!(next_step(&role, at(10)), Step::Hold(old.clone()));
    role.superseded[0].stage = Stage::Held {
        since: at(10),
        until: at(70),
    };
    assert_eq!(next_step(&role, at(69)), Step::Wait(Some(at(70))));
    assert_eq!(next_step(&role, at(70)), Step::Revoke(old.clone()));
    // An expired key is not worth holding.
    let mut role = superseded(60);
    role.superseded[0].expires_at = Some(at(10));
    assert_eq!(next_step(&role, at(10)), Step::Revoke(old));
}

#[test]
fn a_key_that_is_wanted_back_is_enabled_and_ends_at_its_new_time() {
    let mut role = superseded(60);
    let old = role.superseded[0].hash.clone();
    role.superseded[0].stage = Stage::Restoring;
    role.superseded[0].revoke_at = at(100);
    assert_eq!(next_step(&role, at(20)), Step::Enable(old.clone()));
    role.superseded[0].failure = Some(failure(at(30)));
    assert_eq!(next_step(&role, at(20)), Step::Wait(Some(at(30))));
    assert_eq!(next_step(&role, at(100)), Step::Hold(old));
}

#[test]
fn beyond_a_hundred_held_keys_the_oldest_is_deleted_early_and_none_of_them_holds_a_rotation_up() {
    let mut role = superseded(1_000_000);
    let model = role.superseded.remove(0);
    for number in 0..=MAX_HELD as i64 {
        let mut key = model.clone();
        key.hash = KeyHash::of(&secrecy::SecretString::from(format!("held {number}")));
        let since = at(MAX_HELD as i64 - number);
        key.stage = Stage::Held {
            since,
            until: at(900_000),
        };
        role.superseded.push(key);
    }
    let oldest = role.superseded[MAX_HELD].hash.clone();
    assert_eq!(next_step(&role, at(200)), Step::Revoke(oldest));
    role.superseded.pop();
    assert_eq!(next_step(&role, at(200)), Step::Wait(Some(at(100_000))));
    assert!(matches!(next_step(&role, at(100_000)), Step::Rotate { .. }));
}

#[test]
fn a_revocation_that_fell_due_while_nobody_worked_comes_one_lease_after_the_start() {
    let mut role = superseded(0);
    let old = role.superseded[0].hash.clone();
    let started = |now, work_began| Circumstances {
        now: at(now),
        work_began: Some(at(work_began)),
        two_copies: false,
    };
    // A node was active when it fell due.
    assert_eq!(next_step(&role, started(11, 10)), Step::Revoke(old.clone()));
    let postponed = Step::Postpone(old.clone(), at(55));
    assert_eq!(next_step(&role, started(51, 50)), postponed);
    // It is too late, or the revocation was already attempted.
    assert_eq!(next_step(&role, started(55, 50)), Step::Revoke(old.clone()));
    role.superseded[0].failure = Some(failure(at(12)));
    assert_eq!(next_step(&role, started(51, 50)), Step::Revoke(old.clone()));
    role.superseded[0].failure = None;
    role.superseded[0].expires_at = Some(at(53));
    let earlier = Step::Postpone(old.clone(), at(53));
    assert_eq!(next_step(&role, started(51, 50)), earlier);
    role.superseded[0].postponed = true;
    assert_eq!(next_step(&role, started(51, 50)), Step::Revoke(old.clone()));
    let mut role = superseded(0);
    role.superseded[0].emergency = true;
    assert_eq!(next_step(&role, started(51, 50)), Step::Revoke(old));
}

#[test]
fn a_key_that_was_found_is_left_alone_while_somebody_has_to_decide_or_another_copy_is_at_work() {
    let mut role = superseded(0);
    let old = role.superseded[0].hash.clone();
    role.superseded[0].found = true;
    let two_copies = |now| Circumstances {
        now: at(now),
        work_began: Some(at(0)),
        two_copies: true,
    };
    let next_rotation = Step::Wait(Some(at(100_000)));
    assert_eq!(next_step(&role, two_copies(500)), next_rotation);
    assert_eq!(next_step(&role, at(500)), Step::Revoke(old.clone()));
    role.superseded[0].awaits_person = Some(at(400));
    assert_eq!(next_step(&role, at(500)), next_rotation);
    role.superseded[0].emergency = true;
    assert_eq!(next_step(&role, two_copies(500)), Step::Revoke(old));
}

#[test]
fn an_emergency_deletes_a_key_that_may_be_enabled_late_and_does_not_hold_it() {
    let policy = RotationPolicy {
        hold: DAY,
        ..daily()
    };
    let first = role(policy.clone(), at(0));
    let hash = first.current.hash.clone();
    let mut restoring = first.switched_to(key(2, &policy, at(10)), Grace::Seconds(600));
    restoring.superseded[0].stage = Stage::Restoring;
    let role = restoring.switched_to(key(3, &policy, at(20)), EMERGENCY);
    assert_eq!(next_step(&role, at(20)), Step::Revoke(hash));
}
