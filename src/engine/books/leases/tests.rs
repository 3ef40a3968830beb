//! Invariants of the records of leases.

use serde_json::json;

use super::*;
use crate::engine::role::budget::{Amount, Counting, Report};
use crate::logical::MemoryStorage;
use crate::openrouter::LimitReset;

fn record(number: u64, role: &str) -> Record {
    let nonce = format!("{number:032x}");
    serde_json::from_value(json!({
        "nonce": nonce,
        "role": role,
        "connection": "default",
        "key_hash": format!("{number:064x}"),
        "until": "2026-11-21T12:00:00Z",
    }))
    .unwrap()
}

fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

async fn with(records: u64) -> (Arc<Leases>, MemoryStorage) {
    let (leases, storage) = (Arc::<Leases>::default(), MemoryStorage::default());
    for number in 0..records {
        let begun = leases.begin(&storage, record(number, "ci"), Timestamp::UNIX_EPOCH);
        begun.await.unwrap();
    }
    (leases, storage)
}

#[tokio::test]
async fn those_that_are_coming_count_until_they_are_given_up() {
    let (leases, _) = with(1).await;
    let coming = leases.admit(&role("ci"), Some(2)).ok().unwrap();
    let full = leases.admit(&role("ci"), Some(2)).err().unwrap();
    assert!(full.to_string().contains("max_leases of 2"), "{full}");
    assert!(leases.admit(&role("other"), Some(1)).is_ok());
    assert!(leases.admit(&role("ci"), None).is_ok());
    drop(coming);
    assert!(leases.admit(&role("ci"), Some(2)).is_ok());
}

#[tokio::test]
async fn an_end_is_put_off_and_never_brought_forward() {
    let (leases, storage) = with(1).await;
    let nonce = record(0, "ci").key.nonce;
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    for until in ["2026-11-21T13:00:00Z", "2026-11-21T12:30:00Z"] {
        let lease = leases.lock(&nonce).await;
        assert!(lease.extend(&storage, at(until)).await.unwrap());
    }
    let later = Arc::new(Leases::default());
    wal::load(&storage, &[later.log()]).await.unwrap();
    for leases in [leases, later] {
        let until = leases.living(&nonce).unwrap().until;
        assert_eq!(until, at("2026-11-21T13:00:00Z"));
    }
}

#[tokio::test]
async fn a_record_of_the_first_format_learns_its_workspace_once() {
    let (leases, storage) = with(1).await;
    let (team, default) = (dynamic(Some(TEAM)), dynamic(None));
    let lacks = |role: &DynamicRole| record_of(&leases).lacks_guardrail_of(&role.terms).is_some();
    assert!(lacks(&team) && lacks(&default), "it is where its role is");
    for place in [&team, &default] {
        leases.detach(&storage, &role("ci"), place).await.unwrap();
    }
    assert!(lacks(&team) && !lacks(&default));
    let later = Arc::new(Leases::default());
    wal::load(&storage, &[later.log()]).await.unwrap();
    assert_eq!(record_of(&later), record_of(&leases));
}

fn record_of(leases: &Leases) -> Record {
    leases.all().next().unwrap()
}

const TEAM: &str = "0f8fad5b-d9cb-469f-a165-708677289509";
const GUARDRAIL: &str = "0f8fad5b-d9cb-469f-a165-708677289501";

/// A role with a guardrail, in this workspace.
fn dynamic(workspace: Option<&str>) -> DynamicRole {
    let limits = json!({"limit": null, "limit_reset": null, "include_byok_in_limit": false});
    let terms = json!({
        "connection": "default", "key_name": "ci", "limits": limits, "description": "",
        "workspace_id": workspace, "guardrail_id": GUARDRAIL,
    });
    let role = json!({"terms": terms, "ttl": 60, "max_ttl": 60, "max_leases": null});
    serde_json::from_value(role).unwrap()
}

/// What the role's entry says is in doubt stays in doubt, whatever happens to the role.
#[tokio::test]
async fn a_doubt_of_the_role_is_stored_with_each_lease_it_leaves_behind() {
    let (leases, storage) = with(0).await;
    let mut record = record(0, "ci");
    record.placed = true;
    record.guardrail_id = GuardrailId::parse(GUARDRAIL).ok();
    leases
        .begin(&storage, record, Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    let here = dynamic(None);
    let is_due = |role: &DynamicRole| record_of(&leases).guardrail_to_assign(role).is_some();
    assert!(!is_due(&here));
    leases.detach(&storage, &role("ci"), &here).await.unwrap();
    assert!(
        !record_of(&leases).guardrail_unproved,
        "nothing is in doubt"
    );
    let here = DynamicRole {
        guardrails_unproved: true,
        ..here
    };
    let mut elsewhere = dynamic(Some(TEAM));
    elsewhere.guardrails_unproved = true;
    assert!(is_due(&here));
    assert!(!is_due(&elsewhere), "the doubt is about another place");
    leases.detach(&storage, &role("ci"), &here).await.unwrap();
    assert!(is_due(&elsewhere));
    let nonce = record_of(&leases).key.nonce;
    let guardrail = GuardrailId::parse(GUARDRAIL).unwrap();
    let lease = leases.lock(&nonce).await;
    lease
        .note_guarded(&storage, &guardrail, &elsewhere.terms)
        .await
        .unwrap();
    assert!(!is_due(&elsewhere));
}

#[tokio::test]
async fn a_lease_that_has_ended_cannot_be_extended() {
    let (leases, storage) = with(1).await;
    let nonce = record(0, "ci").key.nonce;
    let lease = leases.lock(&nonce).await;
    lease.end(&storage).await.unwrap();
    let until = "2026-11-21T13:00:00Z".parse().unwrap();
    assert!(!lease.extend(&storage, until).await.unwrap());
    assert_eq!(leases.of_role(&role("ci")), 0);
    assert!(storage.keys().is_empty());
}

/// After any change, and after a restart, the sums are those of all records.
#[tokio::test]
async fn what_a_roles_leases_add_up_to_follows_every_record() {
    let (leases, storage) = with(0).await;
    let grants = [Some(2.0), None, Some(0.5)];
    let sums = |leases: &Leases| {
        let role = role("ci");
        let granted = leases
            .log
            .inspect(|by_role, _| by_role.granted(&role))
            .amount();
        let all: Vec<Record> = leases.matching(|record| record.key.role == role).collect();
        let in_all: Amount = all.iter().map(Record::may_spend).sum();
        assert_eq!(granted, in_all);
        let living = all.iter().filter(|record| record.ended.is_none());
        assert_eq!(leases.of_role(&role), living.count());
        (granted, leases.of_role(&role))
    };
    for (number, grant) in (0..).zip(grants) {
        let mut record = record(number, "ci");
        record.grant = grant.map(Amount::granted);
        let begun = leases.begin(&storage, record, Timestamp::UNIX_EPOCH);
        begun.await.unwrap();
    }
    let begun = leases.begin(&storage, record(9, "other"), Timestamp::UNIX_EPOCH);
    begun.await.unwrap();
    assert_eq!(sums(&leases), (Amount::UNLIMITED, 3));
    let lock = async |number| leases.lock(&record(number, "ci").key.nonce).await;
    lock(1).await.end(&storage).await.unwrap();
    assert_eq!(sums(&leases), (Amount::granted(2.5), 2));
    let disabled = lock(0).await;
    for _ in 0..2 {
        let now = Timestamp::UNIX_EPOCH;
        disabled.disabled(&storage, now).await.unwrap();
        assert_eq!(
            sums(&leases),
            (Amount::granted(2.5), 1),
            "it may be read yet"
        );
    }
    let later = Arc::new(Leases::default());
    wal::load(&storage, &[later.log()]).await.unwrap();
    assert_eq!(sums(&later), (Amount::granted(2.5), 1));
    later.forget();
    assert_eq!(sums(&later), (Amount::ZERO, 0));
    assert_eq!(leases.of_role(&role("other")), 1);
}

#[tokio::test]
async fn a_key_is_under_a_lease_as_long_as_that_has_a_record() {
    let (leases, storage) = with(2).await;
    let [first, second, other] = [0, 1, 2].map(|number| record(number, "ci").key);
    assert!(leases.has(&first.key_hash) && leases.has(&second.key_hash));
    assert!(!leases.has(&other.key_hash));
    let lease = leases.lock(&first.nonce).await;
    lease.end(&storage).await.unwrap();
    assert!(!leases.has(&first.key_hash) && leases.has(&second.key_hash));
}

#[tokio::test]
async fn only_a_roles_own_leases_without_a_grant_are_counted_as_made_without_a_budget() {
    let (leases, storage) = with(2).await;
    let mut granted = record(2, "ci");
    granted.grant = Some(Amount::granted(1.0));
    for record in [granted, record(3, "other")] {
        let begun = leases.begin(&storage, record, Timestamp::UNIX_EPOCH);
        begun.await.unwrap();
    }
    let counts = ["ci", "other", "gone"].map(|name| leases.without_grant(&role(name)));
    assert_eq!(counts, [2, 1, 0]);
}

/// A new role with the name of one that is gone may have no guardrail.
#[test]
fn the_guardrail_of_a_role_that_is_gone_keeps_no_key_from_being_handed_out() {
    let leases = Leases::default();
    let mut guarded = record(0, "ci");
    guarded.guardrail_id = GuardrailId::parse(GUARDRAIL).ok();
    let without = record(1, "ci");
    let are_guarded = || [&guarded, &without].map(|record| leases.is_guarded(record));
    assert_eq!(are_guarded(), [true, true]);
    leases.expect_guardrail(&role("ci"), &dynamic(None).terms);
    assert_eq!(are_guarded(), [true, false]);
    leases.forget_guardrail(&role("ci"));
    assert_eq!(are_guarded(), [true, true]);
}

/// Without that, its role's workspace would be taken for its own.
#[tokio::test]
async fn a_record_of_the_first_format_is_known_to_be_where_its_key_was_moved() {
    let (leases, storage) = with(1).await;
    let (team, default) = (dynamic(Some(TEAM)), dynamic(None));
    let lease = leases.lock(&record(0, "ci").key.nonce).await;
    lease.note_moved(&storage, None).await.unwrap();
    let lacks = |role: &DynamicRole| record_of(&leases).lacks_guardrail_of(&role.terms).is_some();
    assert!(lacks(&default) && !lacks(&team));
}

/// What is missing from a key's limit was spent in the window of that limit.
#[test]
fn what_is_missing_from_a_leases_limit_counts_in_a_budget_with_the_same_window() {
    let key = json!({
        "hash": "0".repeat(64), "limit": 2, "limit_remaining": 0.5, "limit_reset": "daily",
        "usage": 1.25, "usage_daily": 1.0, "usage_weekly": 1.25, "usage_monthly": 1.25,
    });
    let report = Report::of_key(&serde_json::from_value(key).unwrap(), Timestamp::UNIX_EPOCH);
    let mut leased = record(0, "ci");
    let granted = json!({"limit": 2, "limit_reset": "daily", "include_byok_in_limit": false});
    leased.granted = serde_json::from_value(granted).unwrap();
    let spent = |reset| {
        let counting = Counting {
            reset,
            include_byok: false,
        };
        leased.spent(&report, counting).0
    };
    assert_eq!(spent(Some(LimitReset::Daily)), Amount::granted(1.5));
    assert_eq!(spent(Some(LimitReset::Weekly)), Amount::granted(1.25));
    // Of the first format: its limit is unknown.
    leased.granted = None;
    let counting = Counting {
        reset: Some(LimitReset::Daily),
        include_byok: false,
    };
    assert_eq!(leased.spent(&report, counting).0, Amount::granted(1.0));
}
