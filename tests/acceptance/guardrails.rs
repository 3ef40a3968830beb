//! Keys that may do only what they should: guardrails, workspaces and creators of roles, and what a
//! connection allows, through the server's API.

use openrouter_simulator::{Fault, MemberRole, NewGuardrail};
use serde_json::json;

use crate::harness::{Mount, SOON, eventually};

const ASSIGN: &str = "/guardrails/*/assignments/keys";

fn guardrail(mount: &Mount, name: &str) -> String {
    let account = mount.openrouter.account();
    account.add_guardrail(NewGuardrail::named(name))
}

/// What each living key is held to, oldest first.
fn held_to(mount: &Mount) -> Vec<Option<String>> {
    let account = mount.openrouter.account();
    let keys = account.keys().into_iter();
    keys.map(|key| account.guardrail_of(&key.hash)).collect()
}

#[tokio::test]
async fn every_key_of_a_guarded_role_is_held_to_its_guardrail() {
    let mount = Mount::new().await;
    let (strict, other) = (guardrail(&mount, "strict"), guardrail(&mount, "other"));
    mount
        .role("app", json!({"guardrail": "strict"}))
        .await
        .without_warnings();
    mount.key("app").await;
    mount.write("rotate-role/app", json!({})).await.ok();
    assert_eq!(held_to(&mount), vec![Some(strict.clone()); 2]);
    let role = mount.read("roles/app").await.ok();
    assert_eq!(role.text("guardrail"), "strict");
    assert_eq!(role.text("guardrail_id"), strict);
    mount
        .patch("roles/app", json!({"guardrail": other}))
        .await
        .ok();
    assert_eq!(held_to(&mount), vec![Some(other.clone()); 2]);
    let role = mount.read("roles/app").await.ok();
    let shown = (role.text("guardrail"), role.text("guardrail_id"));
    assert_eq!(shown, (other.clone(), other));
    let cleared = mount.write("roles/app", json!({"guardrail": ""})).await;
    cleared.warns(&["living keys keep their guardrail"]);
    mount.write("rotate-role/app", json!({})).await.ok();
    assert_eq!(held_to(&mount).pop(), Some(None));
}

#[tokio::test]
async fn a_key_that_cannot_be_held_to_its_guardrail_is_never_handed_out() {
    let mount = Mount::new().await;
    let strict = guardrail(&mount, "strict");
    let refused = Fault::status(500).on("POST", ASSIGN).forever();
    mount.openrouter.faults().add(refused);
    let guarded = json!({"guardrail": "strict"});
    mount
        .write("roles/app", guarded.clone())
        .await
        .refused(502, &["cannot be assigned to guardrail"]);
    mount.read("roles/app").await.absent();
    let dynamic = json!({"guardrail": "strict", "credential_type": "dynamic"});
    mount.write("roles/ci", dynamic).await.ok();
    mount
        .read("creds/ci")
        .await
        .refused(502, &["cannot be assigned to guardrail"]);
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
    mount.openrouter.recover();
    mount.write("roles/app", guarded).await.ok();
    mount.read("creds/ci").await.ok();
    assert_eq!(held_to(&mount), vec![Some(strict); 2]);
}

#[tokio::test]
async fn a_change_that_is_unclear_withholds_the_key_until_it_is_carried_out() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let strict = guardrail(&mount, "strict");
    let lost = Fault::status(500).on("POST", ASSIGN).forever();
    mount.openrouter.faults().add(lost);
    let reply = mount
        .write("roles/app", json!({"guardrail": "strict"}))
        .await;
    reply.warns(&["the engine retries", "not handed out until"]);
    for path in ["creds/app", "static-creds/app"] {
        mount
            .read(path)
            .await
            .refused(503, &["not handed out until it has"]);
    }
    mount
        .read("roles/app")
        .await
        .warns(&["do not have the role's guardrail yet"]);
    mount.openrouter.recover();
    eventually("the key is handed out", SOON, async || {
        (mount.read("creds/app").await.status() == 200).then_some(())
    })
    .await;
    assert_eq!(held_to(&mount), [Some(strict)]);
}

#[tokio::test]
async fn a_workspace_is_called_by_its_slug_and_a_creator_by_the_user_id() {
    let mount = Mount::new().await;
    let account = mount.openrouter.account();
    account.become_organization();
    let member = account
        .add_member("a@example.com", MemberRole::Member)
        .unwrap();
    let team = account.add_named_workspace("Team", "team").unwrap();
    mount
        .write("roles/app", json!({"workspace": "nobody"}))
        .await
        .refused(400, &["has no workspace \"nobody\""]);
    mount
        .write("roles/app", json!({"creator_user_id": "user_nobody"}))
        .await
        .refused(400, &["has no member"]);
    let fields = json!({"workspace": "team", "creator_user_id": member});
    mount.role("app", fields).await.without_warnings();
    let role = mount.read("roles/app").await.ok();
    assert_eq!(role.text("workspace"), "team");
    assert_eq!(role.text("workspace_id"), team);
    assert_eq!(role.text("creator_user_id"), member);
    let key = account.keys().remove(0);
    assert_eq!(
        (key.workspace_id, key.creator_user_id),
        (team.clone(), Some(member))
    );
    mount
        .write("config", json!({"description": "x"}))
        .await
        .ok();
    let config = mount.read("config").await.ok();
    assert_eq!(
        config.field("workspaces")[1],
        json!({"id": team, "slug": "team", "name": "Team"})
    );
}

#[tokio::test]
async fn a_connection_binds_its_roles() {
    let mount = Mount::new().await;
    mount.role("free", json!({})).await;
    mount
        .write("config", json!({"max_limit": 5}))
        .await
        .refused(400, &["beyond its bounds: free"]);
    mount.delete("roles/free").await.ok();
    let bounds = json!({"allowed_roles": ["team-a-*"], "max_limit": 5, "max_key_lifetime": "61d"});
    mount.write("config", bounds).await.ok();
    let config = mount.read("config").await.ok();
    assert_eq!(config.field("allowed_roles"), &json!(["team-a-*"]));
    for (path, body, reason) in [
        (
            "roles/app",
            json!({"limit": 1}),
            "does not allow role \"app\"",
        ),
        ("roles/team-a-app", json!({}), "has no limit"),
        (
            "roles/team-a-app",
            json!({"limit": 6}),
            "at most 5 US dollars",
        ),
        (
            "roles/team-a-app",
            json!({"limit": 5, "rotation_period": "60d"}),
            "max_key_lifetime",
        ),
    ] {
        mount.write(path, body).await.refused(400, &[reason]);
    }
    mount.role("team-a-app", json!({"limit": 5})).await;
    mount.key("team-a-app").await;
}
