//! The role itself: its fields, and those that only the other kind has.

use serde_json::json;

use super::dynamic;

#[tokio::test]
async fn what_goes_only_with_the_other_kind_is_refused_by_name() {
    let mount = dynamic(json!({})).await;
    mount.role("app", json!({})).await.ok();
    let refusals = [
        (
            "roles/ci",
            json!({"rotation_period": "1d"}),
            "rotation_period applies only to rotating",
        ),
        (
            "roles/ci",
            json!({"key_max_lifetime": "1d"}),
            "key_max_lifetime applies only to rotating",
        ),
        (
            "roles/ci",
            json!({"credential_type": "rotating"}),
            "credential_type is fixed",
        ),
        (
            "roles/ci",
            json!({"ttl": "2d"}),
            "ttl must be at most max_ttl",
        ),
        (
            "roles/ci",
            json!({"key_name": "{{who}}"}),
            "{{display_name}} and {{entity_name}} only",
        ),
        (
            "roles/app",
            json!({"max_ttl": "1d"}),
            "max_ttl applies only to dynamic",
        ),
        (
            "roles/app",
            json!({"max_leases": 1}),
            "max_leases applies only to dynamic",
        ),
        (
            "roles/app",
            json!({"key_name": "{{display_name}}"}),
            "only on a dynamic role",
        ),
        (
            "roles/app",
            json!({"credential_type": "dynamic"}),
            "credential_type is fixed",
        ),
        ("rotate-role/ci", json!({}), "is dynamic"),
    ];
    for (path, body, reason) in refusals {
        mount.write(path, body).await.refused(400, &[reason]);
    }
    mount
        .read("static-creds/ci")
        .await
        .refused(400, &["is dynamic", "creds/ci"]);
}

#[tokio::test]
async fn a_dynamic_role_is_shown_changed_and_deleted_without_a_key() {
    let mount = dynamic(json!({"limit": 5})).await;
    mount.openrouter.requests().reset();
    let role = mount.read("roles/ci").await.ok();
    let expected = [
        "connection",
        "creator_user_id",
        "credential_type",
        "description",
        "drift",
        "guardrail",
        "guardrail_id",
        "include_byok_in_limit",
        "key_name",
        "limit",
        "limit_reset",
        "living_leases",
        "max_leases",
        "max_ttl",
        "track_usage",
        "ttl",
        "workspace",
        "workspace_id",
    ];
    assert_eq!(role.fields(), expected);
    assert_eq!(role.text("credential_type"), "dynamic");
    assert_eq!(
        (role.integer("ttl"), role.integer("max_ttl")),
        (3_600, 86_400)
    );
    mount.patch("roles/ci", json!({"max_leases": 7})).await.ok();
    assert_eq!(mount.read("roles/ci").await.ok().integer("max_leases"), 7);
    mount.delete("roles/ci").await.ok().without_warnings();
    mount.read("roles/ci").await.absent();
    mount
        .read("creds/ci")
        .await
        .refused(400, &["there is no role \"ci\""]);
    assert_eq!(mount.openrouter.requests().all(), []);
}
