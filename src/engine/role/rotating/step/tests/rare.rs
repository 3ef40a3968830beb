//! Rare states of a role.

use super::*;
use crate::engine::role::budget::{Amount, Budget, SETTLED};

/// A key that was made under other terms expires before its new grace period would end.
#[test]
fn a_key_is_not_due_since_longer_than_it_has_been_current() {
    let policy = RotationPolicy {
        schedule: Schedule::every(Period::new(Duration::from_secs(100_000)).unwrap()),
        automated: true,
        grace: 10_000,
        ttl: 5,
        key_lifetime: KeyLifetime::Seconds(5_000),
        hold: 0,
    };
    let role = role(policy, at(0));
    assert_eq!(role.current.expires_at, Some(at(5_000)));
    assert_eq!(next_step(&role, at(7)), Step::Rotate { since: at(0) });
}

/// The final spending of the oldest key is not certain yet.
#[test]
fn under_a_budget_a_held_key_too_many_is_deleted_only_after_its_final_reading() {
    let mut role = superseded(1_000_000);
    let model = role.superseded.remove(0);
    for number in 0..=MAX_HELD as i64 {
        let mut key = model.clone();
        key.hash = KeyHash::of(&secrecy::SecretString::from(format!("held {number}")));
        key.stage = Stage::Held {
            since: at(number),
            until: at(900_000),
        };
        role.superseded.push(key);
    }
    let oldest = role.superseded[0].hash.clone();
    let budget = Budget {
        amount: Amount::granted(100.0),
        reset: None,
    };
    let mut definition = role.definition.clone();
    definition.terms.budget = Some(budget);
    let role = role.redefined(definition, at(200));
    let settled = i64::try_from(SETTLED).unwrap();
    for early in [200, settled - 1] {
        let step = next_step(&role, at(early));
        assert!(!matches!(step, Step::Revoke(_)), "at {early}: {step:?}");
    }
    assert_eq!(next_step(&role, at(settled)), Step::Revoke(oldest));
}

/// So that the status of the role shows it, once.
#[test]
fn a_role_whose_key_nothing_replaces_wakes_when_the_key_expires() {
    let policy = RotationPolicy {
        automated: false,
        key_lifetime: KeyLifetime::Seconds(5_000),
        ..daily()
    };
    let role = role(policy, at(0));
    for (now, wake) in [
        (0, Some(at(5_000))),
        (4_999, Some(at(5_000))),
        (5_000, None),
    ] {
        assert_eq!(next_step(&role, at(now)), Step::Wait(wake), "{now}");
    }
}
