//! Deleting a role: its keys are revoked first, whatever the state of OpenRouter.

use serde_json::json;

use crate::harness::Mount;

#[tokio::test]
async fn deleting_a_role_revokes_all_its_keys() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.role("other", json!({})).await;
    let first = mount.key("app").await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let second = mount.key("app").await;
    mount.delete("roles/app").await.ok();
    mount.read("roles/app").await.absent();
    assert!(!mount.openrouter.accepts(&first).await);
    assert!(!mount.openrouter.accepts(&second).await);
    assert!(mount.openrouter.accepts(&mount.key("other").await).await);
    mount.knows_every_key().await;
}

#[tokio::test]
async fn while_openrouter_is_down_the_role_stays_and_the_error_says_so() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.openrouter.fail();
    let reply = mount.delete("roles/app").await;
    assert!(reply.status() >= 400, "{reply}");
    assert!(reply.errors().contains("503"), "{reply}");
    mount.read("roles/app").await.ok();
    mount.openrouter.recover();
    mount.delete("roles/app").await.ok();
    mount.read("roles/app").await.absent();
    mount.knows_every_key().await;
}

#[tokio::test]
async fn a_deletion_takes_no_force() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    for path in ["roles/app", "config"] {
        let forced = mount.delete(&format!("{path}?force=true")).await;
        forced.refused(400, &["force"]);
    }
    mount.read("roles/app").await.ok();
    assert!(mount.openrouter.accepts(&mount.key("app").await).await);
}

#[tokio::test]
async fn a_key_that_somebody_else_has_deleted_does_not_stand_in_the_way() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let hash = mount.openrouter.hashes().remove(0);
    mount.openrouter.account().delete_key(&hash).unwrap();
    mount.delete("roles/app").await.ok();
    mount.read("roles/app").await.absent();
}

#[tokio::test]
async fn leases_can_be_revoked_after_their_role_is_gone() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let lease = mount.read("creds/app").await.ok().lease_id();
    mount.delete("roles/app").await.ok();
    let lease = json!({"lease_id": lease, "sync": true});
    mount.client().write("sys/leases/revoke", lease).await.ok();
}

#[tokio::test]
async fn a_role_can_be_created_again_under_its_old_name() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let first = mount.key("app").await;
    mount.delete("roles/app").await.ok();
    mount.read("creds/app").await.refused(400, &["app"]);
    mount.role("app", json!({})).await;
    assert_ne!(mount.key("app").await, first);
    mount.knows_every_key().await;
}
