//! The name of a lease's key, what readers and writers of a dynamic role are told, and how patiently a key is
//! deleted.

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{FixedSystemView, Operation, Request};

use crate::harness::{CI, World};

/// Reads a key for this entity, and returns the key's name and how often the server was asked for something.
async fn named(world: &World, entity_id: &str) -> (String, usize) {
    let node = world.node();
    let mut request = Request::new(Operation::Read, "creds/ci");
    request.display_name = "token-alice".to_owned();
    request.entity_id = entity_id.to_owned();
    // The first read after a write asks for more.
    let first = node.backend.handle_request(request.clone());
    first.await.unwrap();
    let before = node.system.calls();
    let answer = node.backend.handle_request(request).await.unwrap().unwrap();
    let data = answer.unfolded().data;
    let name = data["key_name"].as_str().unwrap().to_owned();
    (name, node.system.calls() - before)
}

#[tokio::test]
async fn a_key_is_named_after_its_reader_and_the_server_is_asked_only_for_a_name_that_is_needed() {
    let world = World::with_dynamic_role().await;
    let system = FixedSystemView {
        entity_name: Some("alice".to_owned()),
        ..FixedSystemView::default()
    };
    world.fail_over(system).await;
    world.quiet().await;
    let body = json!({"key_name": "{{display_name}}"});
    world.write(CI, body).await.unwrap();
    let (name, calls) = named(&world, "entity-1").await;
    assert!(name.starts_with("token-alice 20"), "{name}");
    let body = json!({"key_name": "{{display_name}} {{entity_name}}"});
    world.write(CI, body).await.unwrap();
    let (name, more) = named(&world, "entity-1").await;
    assert!(name.starts_with("token-alice alice 20"), "{name}");
    assert_eq!(more, calls + 1);
    // The root token has no entity.
    let (name, as_many) = named(&world, "").await;
    assert!(name.starts_with("token-alice none 20"), "{name}");
    assert_eq!(as_many, calls);
}

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
        (json!({"limit": 5, "budget": 50}), vec![]),
        (json!({"budget": null, "limit": null}), vec![]),
        (json!({"limit": 5}), vec![per_lease]),
        (json!({"description": "the same limit"}), vec![]),
        (json!({"max_ttl": "33d"}), vec![shortened]),
        (json!({"max_ttl": "32d", "limit": null}), vec![]),
    ];
    all_warn(&world, &writes).await;
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
    all_warn(&world, &writes).await;
}

/// Each of these writes warns of exactly this.
async fn all_warn(world: &World, writes: &[(Value, Vec<&str>)]) {
    for (body, expected) in writes {
        let answer = world.write(CI, body.clone()).await.unwrap();
        let warnings = answer.map_or_else(Vec::new, |answer| answer.warnings);
        assert_eq!(warnings.len(), expected.len(), "{body}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{body}: {warnings:?}");
        }
    }
}

#[tokio::test]
async fn the_deletion_of_a_role_says_what_it_leaves_behind() {
    let world = World::with_dynamic_role().await;
    let deletion = world.delete(CI, json!({})).await.unwrap();
    assert!(deletion.is_none(), "{deletion:?}");
    let body = json!({"credential_type": "dynamic", "ttl": 300});
    world.write(CI, body).await.unwrap();
    world.lease().await.unwrap();
    let deletion = world.delete(CI, json!({})).await.unwrap();
    let warnings = deletion.unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("1 leases of the role are alive"),
        "{warnings:?}"
    );
}
