//! What the roster reports of roles of every kind.

use serde_json::json;

use super::*;
use crate::engine::role::budget::{Amount, Budget};
use crate::engine::role::rotating::{Failure, Grace, Stage, sample};
use crate::openrouter::LimitReset;
use sample::{DAY, at, daily};

fn name(number: usize) -> RoleName {
    RoleName::new(&format!("role-{number}")).unwrap()
}

fn seconds(seconds: u64) -> Timestamp {
    at(seconds.cast_signed())
}

#[test]
fn a_role_counts_as_it_was_seen_last_and_once() {
    let roster = Roster::default();
    let role = sample::role(daily(), at(0));
    roster.note_rotating(&name(1), &role, at(0));
    let rotated = role.switched_to(sample::key(2, &daily(), at(10)), Grace::Seconds(600));
    for _ in 0..2 {
        roster.note_rotating(&name(1), &rotated, at(10));
    }
    roster.rolls().set(&name(2), plain(Condition::Dynamic));
    let summary = roster.summary(at(20));
    assert_eq!((summary.current_keys, summary.superseded_keys), (1, 1));
    assert_eq!(summary.by_condition[&Condition::Well], 1);
    assert_eq!(summary.by_condition[&Condition::Dynamic], 1);
    assert_eq!(summary.overdue_revocations, Overdue::default());
    roster.remove(&name(1));
    let summary = roster.summary(seconds(DAY));
    assert_eq!((summary.current_keys, summary.superseded_keys), (0, 0));
    assert_eq!(summary.by_condition[&Condition::Well], 0);
    assert_eq!(summary.overdue_revocations, Overdue::default());
}

#[test]
fn what_is_due_is_overdue_from_then_on_and_named_up_to_a_hundred() {
    let roster = Roster::default();
    for number in 0..150 {
        let role = sample::role(daily(), seconds(number));
        let number = usize::try_from(number).unwrap();
        roster.note_rotating(&name(number), &role, at(200));
    }
    assert_eq!(roster.summary(seconds(DAY - 1)).overdue_rotations.count, 0);
    let overdue = roster.summary(seconds(DAY + 149)).overdue_rotations;
    assert_eq!((overdue.count, overdue.roles.len()), (150, MAX_NAMED));
    assert_eq!(overdue.since, Some(seconds(DAY)));
    assert_eq!(overdue.roles[0], name(0));
}

#[test]
fn an_unreadable_role_needs_a_person_and_an_unreachable_storage_changes_nothing() {
    let roster = Roster::default();
    let unreadable = StorageError::Malformed {
        key: "roles/role-1".to_owned(),
        reason: "Eof".to_owned(),
    };
    roster.note(&name(1), &Err(unreadable.into()), at(0));
    let lost = StorageError::Failed("timeout".to_owned());
    roster.note(&name(1), &Err(lost.into()), at(0));
    let summary = roster.summary(at(0));
    assert_eq!(summary.with_problems, 1);
    assert!(summary.problems[&name(1)][0].contains("roles/role-1"));
    roster.note(&name(1), &Ok(None), at(0));
    assert_eq!(roster.summary(at(0)).with_problems, 0);
}

fn held() -> Stage {
    Stage::Held {
        since: at(0),
        until: at(900),
    }
}

/// A role with this many superseded keys.
fn rotated(times: u64) -> RotatingRole {
    let role = sample::role(daily(), at(0));
    (0..times).fold(role, |role, number| {
        let key = sample::key(number + 2, &daily(), at(10));
        role.switched_to(key, Grace::Seconds(600))
    })
}

#[test]
fn a_held_key_is_not_counted_among_those_that_may_still_work() {
    let roster = Roster::default();
    let mut role = rotated(3);
    role.superseded[0].stage = held();
    roster.note_rotating(&name(1), &role, at(20));
    roster.note_rotating(&name(2), &role, at(20));
    let summary = roster.summary(at(20));
    assert_eq!((summary.superseded_keys, summary.held_keys), (4, 2));
    roster.remove(&name(1));
    let summary = roster.summary(at(20));
    assert_eq!((summary.superseded_keys, summary.held_keys), (2, 1));
}

#[test]
fn a_key_that_waits_for_a_person_is_not_overdue_unless_it_ends_without_one() {
    for (emergency, stage, ends_at) in [
        (false, Stage::Grace, None),
        (true, Stage::Grace, Some(at(610))),
        (false, held(), Some(at(900))),
    ] {
        let mut role = rotated(1);
        let key = &mut role.superseded[0];
        (key.awaits_person, key.emergency, key.stage) = (Some(at(15)), emergency, stage);
        let roster = Roster::default();
        roster.note_rotating(&name(1), &role, at(20));
        let overdue = roster.summary(at(1_000)).overdue_revocations;
        assert_eq!(overdue.since, ends_at, "{emergency} {stage:?}");
    }
}

/// A dynamic role with a budget of ten dollars.
fn dynamic() -> DynamicRole {
    let mut terms = rotated(0).definition.terms;
    terms.budget = Some(Budget {
        amount: Amount::granted(10.0),
        reset: Some(LimitReset::Daily),
    });
    let role = json!({"terms": terms, "ttl": 60, "max_ttl": 60, "max_leases": null});
    serde_json::from_value(role).unwrap()
}

#[test]
fn a_dynamic_role_has_what_its_guardrail_and_its_budget_have_to_report() {
    let roster = Roster::default();
    let well = dynamic();
    roster.note_dynamic(&name(1), &well, at(0));
    let summary = roster.summary(at(0));
    assert_eq!(summary.by_condition[&Condition::Dynamic], 1);
    assert_eq!(summary.with_problems, 0);
    let failure = Failure {
        attempts: 1,
        at: at(0),
        message: "no such guardrail".to_owned(),
        retry_at: at(60),
    };
    let alert = well.watch().unwrap().due(Amount::granted(8.0), at(0));
    let role = DynamicRole {
        guardrail_failure: Some(failure),
        alert,
        ..well
    };
    roster.note_dynamic(&name(1), &role, at(0));
    let summary = roster.summary(at(0));
    assert_eq!(summary.alerts[&Level::NearlySpent], 1);
    let problems = &summary.problems[&name(1)];
    let unguarded = "keys under leases do not have the role's guardrail yet: no such guardrail";
    assert_eq!(problems[0], unguarded);
    assert!(
        problems[1].contains("is nearly spent: 8 of 10"),
        "{problems:?}"
    );
    let tomorrow = roster.summary(seconds(DAY));
    assert_eq!(tomorrow.alerts[&Level::NearlySpent], 0);
    assert_eq!(tomorrow.problems[&name(1)], [unguarded]);
}

#[test]
fn a_node_that_steps_down_has_no_roster_until_it_has_read_every_role_again() {
    let roster = Roster::default();
    roster.note_rotating(&name(1), &rotated(1), at(20));
    assert!(!roster.is_complete());
    roster.complete(at(20));
    assert!(roster.is_complete());
    roster.clear();
    assert!(!roster.is_complete() && roster.seen(&name(1)).is_none());
    let summary = roster.summary(at(20));
    assert_eq!((summary.current_keys, summary.superseded_keys), (0, 0));
    assert_eq!(summary.complete_since, None);
}
