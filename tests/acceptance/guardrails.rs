//! Restricted keys: guardrails, workspaces and creators of roles, and the bounds of connections, through the
//! server's API.

use std::time::Duration;

use openrouter_simulator::{Fault, GuardrailChanges, MemberRole, NewGuardrail};
use serde_json::json;

use crate::harness::{Mount, RaftVault, SOON, eventually};

const ASSIGN: &str = "/guardrails/*/assignments/keys";

fn guardrail(mount: &Mount, name: &str) -> String {
    let account = mount.openrouter.account();
    account.add_guardrail(NewGuardrail::named(name))
}

/// The guardrail of each living key, oldest key first.
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

/// Current, superseded and leased keys: their guardrail is changed, removed in the dashboard, and deleted.
#[tokio::test]
async fn every_living_key_is_changed_and_put_back_and_a_current_one_withheld_until_it_is() {
    let vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    let account = mount.openrouter.account();
    let (strict, other) = (guardrail(&mount, "strict"), guardrail(&mount, "other"));
    let leases = json!({"credential_type": "dynamic", "ttl": "30m", "guardrail": "strict"});
    mount.role("ci", leases).await;
    mount.role("app", json!({"guardrail": "strict"})).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    for _ in 0..2 {
        mount.read("creds/ci").await.ok();
    }
    assert_eq!(held_to(&mount), vec![Some(strict); 4]);
    for role in ["roles/app", "roles/ci"] {
        let changed = mount.patch(role, json!({"guardrail": "other"})).await;
        changed.ok().without_warnings();
    }
    assert_eq!(held_to(&mount), vec![Some(other.clone()); 4]);

    for hash in mount.openrouter.hashes() {
        assert!(account.unassign_guardrail(&hash));
    }
    let refused = Fault::status(500).on("POST", ASSIGN).forever();
    mount.openrouter.faults().add(refused);
    // The engine compares when it begins its work, and every hour.
    vault.seal().await;
    vault.unseal().await;
    let withheld = async || (mount.read("creds/app").await.status() == 503).then_some(());
    eventually("the current key is withheld", SOON, withheld).await;
    let reply = mount.read("static-creds/app").await;
    reply.refused(503, &["not handed out until it has"]);
    assert_eq!(held_to(&mount), vec![None; 4]);
    mount.openrouter.recover();
    let put_back = async || {
        let reply = mount.read("creds/app").await;
        let is_back = held_to(&mount) == vec![Some(other.clone()); 4];
        (is_back && reply.status() == 200).then_some(())
    };
    eventually("every key is put back", Duration::from_secs(120), put_back).await;

    // Deleted and created again: the name alone does not show that it is another guardrail.
    account.delete_guardrail(&other).unwrap();
    vault.seal().await;
    vault.unseal().await;
    eventually("the current key is withheld", SOON, withheld).await;
    let anew = guardrail(&mount, "other");
    assert_eq!(mount.read("creds/app").await.status(), 503);
    assert_eq!(
        mount.read("roles/app").await.ok().text("guardrail"),
        "other"
    );
    for role in ["roles/app", "roles/ci"] {
        let changed = mount.write(role, json!({"guardrail": "other"})).await;
        changed
            .ok()
            .warns(&[&format!("which is gone; it is now {anew}")]);
    }
    mount.read("creds/app").await.ok();
    assert_eq!(held_to(&mount), vec![Some(anew); 4]);
}

#[tokio::test]
async fn unusable_guardrails_and_workspaces_are_rejected_with_the_reason() {
    let mount = Mount::new().await;
    let account = mount.openrouter.account();
    let team = account.add_named_workspace("Team", "team").unwrap();
    let there = account.add_guardrail(NewGuardrail {
        workspace_id: Some(team.clone()),
        ..NewGuardrail::named("there")
    });
    guardrail(&mount, "twice");
    guardrail(&mount, "twice");
    let default = account.workspace(&account.default_workspace()).unwrap();
    let default = default.default_guardrail_id();
    // OpenRouter creates it when it is first written.
    let written = GuardrailChanges::default();
    account.change_guardrail(&default, written).unwrap();
    let gone = guardrail(&mount, "gone");
    account.delete_guardrail(&gone).unwrap();
    for credential_type in ["rotating", "dynamic"] {
        for (guardrail, reason) in [
            (gone.as_str(), "there is no guardrail"),
            ("gone", "has no guardrail named"),
            (&there, "belongs to another workspace"),
            (&default, "is the default guardrail of"),
            ("twice", "more than one guardrail named"),
        ] {
            let body = json!({"credential_type": credential_type, "guardrail": guardrail});
            let refused = mount.write("roles/app", body).await;
            refused.refused(400, &[reason]);
            mount.read("roles/app").await.absent();
        }
    }
    assert_eq!(mount.openrouter.hashes(), [""; 0]);

    let body = json!({"workspace": "team", "guardrail": "there"});
    mount.role("app", body.clone()).await;
    account.rename_workspace(&team, "Team", "former").unwrap();
    let taken = account.add_named_workspace("Other", "team").unwrap();
    mount
        .write("roles/app", body)
        .await
        .refused(400, &["is now workspace", &taken, &team]);
    mount.write("rotate-role/app", json!({})).await.ok();
    let keys = account.keys();
    assert!(keys.iter().all(|key| key.workspace_id == team), "{keys:?}");
    assert_eq!(held_to(&mount), vec![Some(there); 2]);
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
