//! What readers and writers of a dynamic role are told, and how patiently a lease's key is deleted.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::{CI, World};

/// The server warns itself if it shortens what the caller asked for.
#[tokio::test]
async fn a_renewal_by_the_roles_ttl_says_when_max_ttl_cuts_it_short() {
    let world = World::with_dynamic_role().await;
    world.lease().await.unwrap();
    for _ in 0..11 {
        world.pass(290).await;
        assert_eq!(world.renewed(0).await.unwrap().warnings, [""; 0]);
    }
    // Its hour ends exactly one ttl from here.
    world.pass(110).await;
    assert_eq!(world.renewed(0).await.unwrap().warnings, [""; 0]);
    world.pass(1).await;
    let warnings = world.renewed(0).await.unwrap().warnings;
    assert!(
        warnings[0].contains("for 299 seconds instead of 300"),
        "{warnings:?}"
    );
    assert_eq!(world.renewed(400).await.unwrap().warnings, [""; 0]);
}

/// Neither an outage nor a key that OpenRouter does not let go of may be answered with a request every few
/// seconds for days.
#[tokio::test]
async fn a_key_that_cannot_be_deleted_after_its_lease_is_tried_ever_less_often() {
    let world = World::with_dynamic_role().await;
    world.read("creds/ci").await.unwrap();
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("DELETE", "/keys/*").forever());
    let tries = || world.openrouter.requests().to("DELETE", "/keys/*").len();
    // The lease would have been over after five minutes, and the server has five more to revoke it.
    world.pass(630).await;
    assert!(tries() >= 2, "it is soon tried again");
    world.pass(2 * 60 * 60).await;
    let before = tries();
    world.pass(2 * 60 * 60).await;
    let late = tries() - before;
    assert!((2..=8).contains(&late), "{late} in two hours");
    faults.clear();
    world.pass(60 * 60).await;
    assert!(world.openrouter.account().keys().is_empty());
}

/// What a write of a dynamic role warns of, in the order of the writes.
#[tokio::test]
async fn a_write_says_what_it_does_not_do_and_is_silent_where_there_is_nothing_to_say() {
    let per_lease = "limit is a limit of each key";
    let terms_stay = "1 keys under leases keep their terms";
    let unbudgeted = "1 leases were made without a budget";
    let shortened = "more than the mount's maximum lease duration";
    let world = World::connected().await;
    let writes = [
        (
            json!({"credential_type": "dynamic", "max_ttl": "32d"}),
            vec![],
        ),
        (json!({"limit": 5}), vec![per_lease]),
        (json!({"description": "the same limit"}), vec![]),
        (json!({"max_ttl": "33d"}), vec![shortened]),
        (json!({"max_ttl": "32d", "limit": null}), vec![]),
    ];
    for (body, expected) in writes {
        let warnings = warnings(&world, body.clone()).await;
        assert_eq!(warnings.len(), expected.len(), "{body}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{body}: {warnings:?}");
        }
    }
    world.lease().await.unwrap();
    let writes = [
        (json!({"limit": 5}), vec![per_lease, terms_stay]),
        (json!({"max_leases": 7}), vec![]),
        (json!({"track_usage": true}), vec![]),
        (json!({"track_usage": false}), vec![]),
        (
            json!({"budget": 50, "budget_alert_percent": 70}),
            vec![unbudgeted, terms_stay],
        ),
        (json!({"budget_alert_percent": 60}), vec![]),
        (json!({"limit": 4}), vec![terms_stay]),
        (json!({"budget": 60}), vec![terms_stay]),
    ];
    for (body, expected) in writes {
        let warnings = warnings(&world, body.clone()).await;
        assert_eq!(warnings.len(), expected.len(), "{body}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{body}: {warnings:?}");
        }
    }
}

async fn warnings(world: &World, body: serde_json::Value) -> Vec<String> {
    let answer = world.write(CI, body).await.unwrap();
    answer.map_or_else(Vec::new, |answer| answer.warnings)
}
