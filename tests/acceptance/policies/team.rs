//! The policy in `samples/policies` for a team that manages its own roles, with real tokens.

use openrouter_simulator::{Key, NewGuardrail, NewKey};
use serde_json::{Value, json};

use super::{holder_of, sample};
use crate::harness::{Mount, samples};

#[tokio::test]
async fn a_team_makes_roles_only_with_its_own_connection_and_below_its_ceiling() {
    let (mount, _) = with_team().await;
    mount.role("team-b-app", json!({"limit": 50})).await;
    let team = holder_of(&mount, "team-a", &sample("team.hcl")).await;
    let own = mount.at("roles/team-a-app");
    let other = mount.at("roles/team-b-app");
    for (path, body) in [
        // Another team's role; its own connection.
        (&other, team_role(&json!({}))),
        (&mount.at("config/team-a"), json!({"max_limit": 100})),
    ] {
        let refused = team.write(path, body).await;
        refused.refused(403, &["permission denied"]);
    }
    for (limit, reason) in [
        (json!(null), "has no limit"),
        (json!(11), "at most 10 US dollars"),
    ] {
        let body = team_role(&json!({"limit": limit}));
        team.write(&own, body).await.refused(400, &[reason]);
    }
    let highest = team_role(&json!({"limit": 10}));
    team.write(&own, highest).await.ok();
    let patched = team.patch(&own, team_role(&json!({"limit": 11}))).await;
    patched.refused(400, &["at most 10 US dollars"]);
    team.patch(&own, team_role(&json!({}))).await.ok();
    team.read(&mount.at("creds/team-a-app")).await.ok();
    let limits = mount.openrouter.account().keys();
    let limits: Vec<_> = limits.iter().map(|key| key.limit).collect();
    assert_eq!(limits, [Some(50.0), Some(5.0)]);
}

#[tokio::test]
async fn a_team_names_its_connection_workspace_and_guardrail_in_every_write() {
    let (mount, guardrail) = with_team().await;
    let account = mount.openrouter.account();
    let elsewhere = account.add_named_workspace("Other", "other").unwrap();
    let own = account.workspace("team-a").unwrap().id;
    account.add_guardrail(NewGuardrail {
        workspace_id: Some(own.clone()),
        ..NewGuardrail::named("lax")
    });
    let by_hand = account.create_key(NewKey::named("by hand"));
    let team = holder_of(&mount, "team-a", &sample("team.hcl")).await;
    let (old, new) = (mount.at("roles/team-a-old"), mount.at("roles/team-a-new"));
    let allowed = team_role(&json!({}));
    team.write(&old, allowed.clone()).await.ok();
    let stored = mount.read("roles/team-a-old").await.ok().data().clone();
    // A server also requires parameters for a read.
    team.read(&old).await.refused(403, &["permission denied"]);
    let named = format!("connection=team-a&workspace=team-a&guardrail={GUARDRAIL}");
    let named = format!("{old}?{}", named.replace(' ', "%20"));
    assert_eq!(*team.read(&named).await.ok().data(), stored);
    let others = [
        json!({"guardrail": "lax"}),
        // The same guardrail, but not as the policy writes it.
        json!({"guardrail": guardrail}),
        json!({"workspace": "other"}),
        json!({"workspace": own}),
        // Another name for a parameter that is present.
        json!({"workspace_id": elsewhere}),
        json!({"GUARDRAIL": "lax"}),
        json!({"connection": "default"}),
        json!({"api_key": by_hand.secret()}),
    ];
    let mut refused: Vec<Value> = others.iter().map(team_role).collect();
    for parameter in ["connection", "workspace", "guardrail"] {
        for cleared in [json!(null), json!("")] {
            refused.push(team_role(&json!({parameter: cleared})));
        }
        let mut left_out = allowed.clone();
        left_out.as_object_mut().unwrap().remove(parameter);
        refused.push(left_out.clone());
        if parameter == "workspace" {
            left_out["workspace_id"] = json!(own);
            refused.push(left_out);
        }
    }
    for body in refused {
        for reply in [
            team.write(&new, body.clone()).await,
            team.write(&old, body.clone()).await,
            team.patch(&old, body.clone()).await,
        ] {
            assert_eq!(reply.status(), 403, "{body}: {reply}");
        }
    }
    // A server may compare a list item by item. In that case the engine rejects it.
    for list in [json!([]), json!([GUARDRAIL]), json!([GUARDRAIL, "lax"])] {
        for parameter in ["connection", "workspace", "guardrail"] {
            let body = team_role(&json!({parameter: list}));
            let reply = team.write(&old, body).await;
            assert!([400, 403].contains(&reply.status()), "{reply}");
        }
    }
    mount.read("roles/team-a-new").await.absent();
    assert_eq!(*mount.read("roles/team-a-old").await.ok().data(), stored);
    team.patch(&old, allowed.clone()).await.ok();
    team.write(&new, allowed).await.ok();
    let is_of_team = |key: &&Key| key.hash != by_hand.hash;
    let keys = account.keys();
    let keys: Vec<_> = keys.iter().filter(is_of_team).collect();
    assert_eq!(keys.len(), 2);
    for key in keys {
        assert_eq!(key.workspace_id, own);
        assert_eq!(account.guardrail_of(&key.hash), Some(guardrail.clone()));
    }
}

#[tokio::test]
async fn the_policy_of_the_page_obliges_a_team_to_a_budget() {
    let (mount, _) = with_team().await;
    let page = page();
    let (_, policy) = page.split_once("team-a-budgets - <<'POLICY'\n").unwrap();
    let (policy, _) = policy.split_once("POLICY\n").unwrap();
    let team = holder_of(&mount, "budgets", policy).await;
    let role = mount.at("roles/team-a-app");
    let body = |changes: &Value| {
        let mut body = json!({"connection": "team-a", "include_byok_in_limit": true, "budget": 5});
        let fields = body.as_object_mut().unwrap();
        fields.extend(changes.as_object().unwrap().clone());
        body
    };
    team.write(&role, body(&json!({}))).await.ok();
    for changes in [
        json!({"include_byok_in_limit": false}),
        json!({"include_byok_in_limit": "false"}),
        json!({"include_byok_in_limit": ""}),
        json!({"include_byok_in_limit": null}),
        json!({"limit": 5}),
        json!({"limit": null}),
        json!({"limit_reset": "daily"}),
        json!({"budget_reset": "daily"}),
    ] {
        let refused = team.write(&role, body(&changes)).await;
        refused.refused(403, &["permission denied"]);
        let refused = team.patch(&role, body(&changes)).await;
        refused.refused(403, &["permission denied"]);
    }
    let mut left_out = body(&json!({}));
    left_out
        .as_object_mut()
        .unwrap()
        .remove("include_byok_in_limit");
    let refused = team.write(&role, left_out).await;
    refused.refused(403, &["permission denied"]);
    for (budget, reason) in [
        (json!(null), "has no limit"),
        (json!(""), "has no limit"),
        (json!(11), "at most 10 US dollars"),
    ] {
        let refused = team.write(&role, body(&json!({"budget": budget}))).await;
        refused.refused(400, &[reason]);
    }
    let dynamic = body(&json!({"credential_type": "dynamic"}));
    let refused = team.write(&mount.at("roles/team-a-ci"), dynamic).await;
    refused.refused(400, &["limit"]);
}

/// The tests of the documentation run it there.
#[test]
fn the_policy_of_the_page_is_the_samples() {
    let sample = sample("team.hcl");
    let rules: Vec<&str> = sample
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert!(page().contains(&rules.join("\n")), "{rules:#?}");
}

fn page() -> String {
    let page = samples().with_file_name("docs").join("restrictions.md");
    std::fs::read_to_string(page).expect("there is the page")
}

/// A mount with the connection, the workspace and the guardrail of the sample's team, and the guardrail's ID.
async fn with_team() -> (Mount, String) {
    let mount = Mount::new().await;
    let account = mount.openrouter.account();
    let workspace = account.add_named_workspace("Team A", "team-a").unwrap();
    let guardrail = account.add_guardrail(NewGuardrail {
        workspace_id: Some(workspace),
        ..NewGuardrail::named(GUARDRAIL)
    });
    let mut connection = mount.connection();
    let bounds = json!({
        "allowed_roles": ["team-a-*"], "max_limit": 10, "max_key_lifetime": "90d",
    });
    let fields = connection.as_object_mut().unwrap();
    fields.extend(bounds.as_object().unwrap().clone());
    mount.write("config/team-a", connection).await.ok();
    (mount, guardrail)
}

/// A role that the sample's team may write, with these parameters instead of its own.
fn team_role(changes: &Value) -> Value {
    let mut role = json!({
        "connection": "team-a", "workspace": "team-a", "guardrail": GUARDRAIL, "limit": 5,
    });
    let fields = role.as_object_mut().unwrap();
    fields.extend(changes.as_object().unwrap().clone());
    role
}

/// The guardrail that the sample assigns to the team.
const GUARDRAIL: &str = "No training, EU only";
