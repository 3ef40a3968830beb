//! What holds of the records of leases.

use serde_json::json;

use super::*;
use crate::logical::MemoryStorage;

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
    let terms = |workspace: Option<&str>| -> Terms {
        let limits = json!({"limit": null, "limit_reset": null, "include_byok_in_limit": false});
        serde_json::from_value(json!({
            "connection": "default", "key_name": "ci", "limits": limits, "description": "",
            "workspace_id": workspace,
            "guardrail_id": "0f8fad5b-d9cb-469f-a165-708677289501",
        }))
        .unwrap()
    };
    let team = terms(Some("0f8fad5b-d9cb-469f-a165-708677289509"));
    let lacks = |terms: &Terms| record_of(&leases).lacks(terms).is_some();
    assert!(
        lacks(&team) && lacks(&terms(None)),
        "it is where its role is"
    );
    leases.place_by(&storage, &role("ci"), &team).await.unwrap();
    leases
        .place_by(&storage, &role("ci"), &terms(None))
        .await
        .unwrap();
    assert!(lacks(&team) && !lacks(&terms(None)));
    let later = Arc::new(Leases::default());
    wal::load(&storage, &[later.log()]).await.unwrap();
    assert_eq!(record_of(&later), record_of(&leases));
}

fn record_of(leases: &Leases) -> Record {
    leases.all().next().unwrap()
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
