//! The end of a superseded key from an operator's point of view: held, restored, and reported if it is still
//! in use.

use serde_json::{Value, json};

use crate::harness::{Mount, SOON, eventually};

/// A role whose first key was superseded, is held, and does not work.
async fn holding() -> (Mount, String) {
    let mount = Mount::new().await;
    let role = json!({"rotation_grace_period": 3, "ttl": 2, "revocation_hold": "1h"});
    mount.role("app", role).await;
    let first = mount.key("app").await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let held = async || {
        let role = mount.read("roles/app").await.ok();
        (role.field("held_keys")[0]["version"] == 1).then_some(())
    };
    eventually("the superseded key is held", SOON, held).await;
    assert!(!mount.openrouter.accepts(&first).await);
    (mount, first)
}

#[tokio::test]
async fn a_held_key_is_restored_by_a_person_and_works_again() {
    let (mount, first) = holding().await;
    let second = mount.key("app").await;
    let body = json!({"key_version": 1, "duration": "10m"});
    let restored = mount.write("restore-key/app", body).await.ok();
    assert_eq!(restored.integer("key_version"), 1);
    assert!(mount.openrouter.accepts(&first).await);
    assert_eq!(
        mount.key("app").await,
        second,
        "readers go on getting the current key"
    );
    let role = mount.read("roles/app").await.ok();
    let superseded = &role.field("superseded_keys")[0];
    assert_eq!(superseded["revoke_at"], *restored.field("revoke_at"));
    assert_eq!(*role.field("held_keys"), json!([]));
    let shown = restored.json().to_string();
    assert!(!shown.contains(&first), "{shown}");
    mount.knows_every_key().await;
}

#[tokio::test]
async fn an_emergency_ends_a_restored_key_and_only_force_brings_it_back() {
    let (mount, first) = holding().await;
    let restore = |force: Value| {
        let body = json!({"key_version": 1, "force": force});
        async { mount.write("restore-key/app", body).await }
    };
    restore(json!(false)).await.ok();
    mount
        .write("rotate-role/app", json!({"rotation_grace_period": 0}))
        .await
        .ok();
    assert!(!mount.openrouter.accepts(&first).await);
    restore(json!(false))
        .await
        .refused(400, &["emergency", "force=true"]);
    restore(json!(true)).await.ok();
    assert!(mount.openrouter.accepts(&first).await);
}

#[tokio::test]
async fn an_application_that_goes_on_with_an_old_key_is_named() {
    let mount = Mount::new().await;
    let role = json!({"rotation_grace_period": 8, "ttl": 1});
    mount.role("app", role).await;
    let first = mount.key("app").await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let warned = async || {
        // The application has not switched, whatever the leases say.
        mount.openrouter.accepts(&first).await;
        let role = mount.read("roles/app").await.ok();
        let said = |warning: &String| warning.contains("someone has not switched");
        role.warnings().iter().any(said).then_some(())
    };
    eventually("the role's status names the key", SOON, warned).await;
    assert!(
        !mount.openrouter.accepts(&first).await,
        "it was revoked in time all the same"
    );
}
