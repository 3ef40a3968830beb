//! A new key is verified before anybody gets it.

use openrouter_simulator::{CallerKind, Fault, KeyChanges};
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World};

/// What OpenRouter might create instead of what was ordered, and the resulting status.
fn wrong_keys(workspace: &str) -> Vec<(Fault, &'static str)> {
    let otherwise = |changes| Fault::CreatedOtherwise(changes);
    let none = KeyChanges::default;
    vec![
        (
            Fault::CreatedKeyDoesNotAuthenticate { uses: None },
            "it does not authenticate",
        ),
        (
            otherwise(KeyChanges {
                limit: Some(None),
                ..none()
            }),
            "other limits",
        ),
        (
            otherwise(KeyChanges {
                include_byok_in_limit: Some(true),
                ..none()
            }),
            "other limits",
        ),
        (
            otherwise(KeyChanges {
                expires_at: Some(None),
                ..none()
            }),
            "another expiry",
        ),
        (
            otherwise(KeyChanges {
                workspace_id: Some(workspace.to_owned()),
                ..none()
            }),
            "another workspace",
        ),
        (
            otherwise(KeyChanges {
                hash: Some("0".repeat(64)),
                ..none()
            }),
            "a hash that is not that of the key",
        ),
        (
            otherwise(KeyChanges {
                name: Some("something else".to_owned()),
                ..none()
            }),
            "another name",
        ),
        (
            otherwise(KeyChanges {
                disabled: Some(true),
                ..none()
            }),
            "a key that is disabled",
        ),
    ]
}

#[tokio::test]
async fn a_key_that_is_not_what_was_ordered_never_becomes_current_and_is_deleted() {
    let (world, elsewhere) = with_workspaces().await;
    for (fault, reason) in wrong_keys(&elsewhere) {
        world
            .openrouter
            .faults()
            .add(fault.clone().on("POST", "/keys"));
        let refusal = world.write(ROTATE, Value::Null).await.unwrap_err();
        assert!(refusal.to_string().contains(reason), "{fault:?}: {refusal}");
        assert_eq!(world.version().await, 1, "{fault:?}");
        let role = world.role("app").await.unwrap();
        assert_eq!(role["rotation_status"], "failed");
        let message = role["last_rotation_message"].as_str().unwrap();
        assert!(message.contains(reason), "{fault:?}: {message}");
        world.pass(5).await;
        assert_eq!(world.violations().await, [""; 0], "{fault:?}");
    }
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.version().await, 2);
}

/// A role in a workspace, and another one.
async fn with_workspaces() -> (World, String) {
    let world = World::with_role().await;
    let account = world.openrouter.account();
    let (home, elsewhere) = (account.add_workspace(), account.add_workspace());
    world
        .write(ROLE, json!({"workspace_id": home}))
        .await
        .unwrap();
    (world, elsewhere)
}

/// A role in a workspace, and a key that was created for it in another one.
async fn in_the_wrong_workspace() -> World {
    let (world, elsewhere) = with_workspaces().await;
    let otherwise = Fault::CreatedOtherwise(KeyChanges {
        workspace_id: Some(elsewhere),
        ..KeyChanges::default()
    });
    world.openrouter.faults().add(otherwise.on("POST", "/keys"));
    world
}

#[tokio::test]
async fn a_key_in_the_wrong_workspace_is_deleted_although_the_process_dies_before() {
    let world = in_the_wrong_workspace().await;
    world.die_during_a_rotation("before DELETE /keys/*").await;
    assert_eq!(world.openrouter.account().keys().len(), 2);
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.version().await, 1);
}

#[tokio::test]
async fn a_key_in_the_wrong_workspace_is_deleted_although_that_fails_at_first() {
    let world = in_the_wrong_workspace().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(500).on("DELETE", "/keys/*").times(2));
    world.write(ROTATE, Value::Null).await.unwrap_err();
    assert_eq!(world.intents().len(), 1);
    world.pass(60).await;
    assert_eq!(world.violations().await, [""; 0]);
}

/// OpenRouter answers this many deletions with "not found", as for a key that is not known everywhere yet.
/// The key is not forgotten before it is deleted.
async fn a_rejected_key_that_is_unknown_at_first_is_deleted(deletions: u32) {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    let useless = Fault::CreatedKeyDoesNotAuthenticate { uses: None };
    faults.add(useless.on("POST", "/keys"));
    faults.add(Fault::status(404).on("DELETE", "/keys/*").times(deletions));
    world.write(ROTATE, Value::Null).await.unwrap_err();
    world.pass(60).await;
    let tries = world.openrouter.requests().to("DELETE", "/keys/*").len();
    assert_eq!(tries, 1 + deletions as usize);
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_rejected_key_is_not_forgotten_when_it_is_unknown_at_its_deletion() {
    a_rejected_key_that_is_unknown_at_first_is_deleted(1).await;
}

#[tokio::test]
async fn a_rejected_key_that_is_unknown_by_its_hash_is_looked_for_by_its_name() {
    a_rejected_key_that_is_unknown_at_first_is_deleted(2).await;
}

#[tokio::test]
async fn a_first_key_that_is_not_what_was_ordered_leaves_no_role() {
    let world = World::connected().await;
    for (fault, reason) in wrong_keys(&world.openrouter.account().add_workspace()) {
        if reason == "another workspace" {
            // Without a workspace in the request, OpenRouter uses its default workspace.
            continue;
        }
        world
            .openrouter
            .faults()
            .add(fault.clone().on("POST", "/keys"));
        let body = json!({"limit": 5});
        let refusal = world.write(ROLE, body).await.unwrap_err();
        assert!(refusal.to_string().contains(reason), "{fault:?}: {refusal}");
        assert!(world.role("app").await.is_none(), "{fault:?}");
        world.pass(700).await;
        assert_eq!(world.violations().await, [""; 0], "{fault:?}");
        assert!(world.openrouter.account().keys().is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_everywhere_at_once_gets_a_few_tries() {
    let world = World::with_role().await;
    let late = Fault::CreatedKeyDoesNotAuthenticate { uses: Some(2) };
    world.openrouter.faults().add(late.on("POST", "/keys"));
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.version().await, 2);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_proof_that_openrouter_cannot_give_is_no_proof() {
    let world = World::with_role().await;
    let broken = Fault::status(500).on("GET", "/key").by(CallerKind::Key);
    world.openrouter.faults().add(broken.times(3));
    world.write(ROTATE, Value::Null).await.unwrap_err();
    assert_eq!(world.version().await, 1);
    world.pass(5).await;
    assert_eq!(world.violations().await, [""; 0]);
}
