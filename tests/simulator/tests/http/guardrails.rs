//! Guardrails: what they are, which keys they take, and what they enforce.

use openrouter_simulator::{
    BudgetScope, GuardrailChanges, LimitReset, MemberRole, NewGuardrail, NewKey, Simulator,
};
use serde_json::{Value, json};

use crate::client::{Answer, Client, simulator};

fn assignments(guardrail: &str) -> String {
    format!("/guardrails/{guardrail}/assignments/keys")
}

async fn assign(client: &Client, guardrail: &str, hashes: &[&str]) -> Answer {
    let body = json!({ "key_hashes": hashes });
    client.post(&assignments(guardrail), body).await
}

/// A guardrail in the default workspace and a key there.
fn guardrail_and_key(simulator: &Simulator) -> (String, String) {
    let account = simulator.account();
    let guardrail = account.add_guardrail(NewGuardrail::named("strict"));
    (guardrail, account.create_key(NewKey::named("app")).hash)
}

#[tokio::test]
async fn a_guardrail_is_created_read_changed_and_deleted() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let asked = json!({
        "name": "strict", "limit_usd": 5, "reset_interval": "daily", "include_byok_in_budgets": true,
        "allowed_models": ["a/b"], "enforce_zdr": true, "description": "d",
    });
    let created = client.post("/guardrails", asked.clone()).await;
    assert_eq!(created.status, 201);
    let data = &created.body["data"];
    for (field, value) in asked.as_object().unwrap() {
        assert_eq!(&data[field], value, "{field}");
    }
    let default = simulator.account().default_workspace();
    assert_eq!(data["workspace_id"], json!(default));
    let path = format!("/guardrails/{}", created.text("/data/id"));
    assert_eq!(&client.get(&path).await.body["data"], data);

    let changes = json!({ "limit_usd": null, "reset_interval": null });
    let changed = client.patch(&path, changes).await.body["data"].clone();
    assert_eq!(changed["limit_usd"], Value::Null);
    assert_eq!(changed["name"], json!("strict"));
    assert_eq!(changed["updated_at"], json!("2026-11-20T12:00:00Z"));

    let deleted = client.delete(&path).await;
    assert_eq!(
        (deleted.status, deleted.body),
        (200, json!({ "deleted": true }))
    );
    assert_eq!(client.get(&path).await.status, 404);
    assert_eq!(client.delete(&path).await.status, 404);
}

#[tokio::test]
async fn a_guardrail_that_breaks_a_rule_is_refused() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let nowhere = "00000000-0000-4000-8000-000000000000";
    let refused = [
        (json!({}), "name must not be empty"),
        (json!({ "name": "g", "limit_usd": 5 }), "set together"),
        (
            json!({ "name": "g", "reset_interval": "daily" }),
            "set together",
        ),
        (
            json!({ "name": "g", "limit_usd": -1, "reset_interval": "daily" }),
            "must not be negative",
        ),
        (
            json!({ "name": "g", "workspace_id": nowhere }),
            "no such workspace",
        ),
        (json!({ "name": "g", "colour": "red" }), "unknown field"),
        (
            json!({ "name": "g", "enforce_zdr": "yes" }),
            "of the wrong type",
        ),
    ];
    for (body, complaint) in refused {
        let answer = client.post("/guardrails", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.message().contains(complaint), "{body}: {answer:?}");
    }
    assert!(simulator.account().guardrails().is_empty());
}

#[tokio::test]
async fn a_list_shows_the_guardrails_of_one_workspace() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let workspace = account.add_workspace();
    for number in 0..3 {
        account.add_guardrail(NewGuardrail::named(format!("here {number}")));
    }
    account.add_guardrail(NewGuardrail {
        workspace_id: Some(workspace.clone()),
        ..NewGuardrail::named("there")
    });
    let here = client.get("/guardrails?limit=2&offset=1").await.body;
    assert_eq!(here["total_count"], json!(3));
    assert_eq!(
        client.names("/guardrails").await,
        ["here 0", "here 1", "here 2"]
    );
    let there = format!("/guardrails?workspace_id={workspace}");
    assert_eq!(client.names(&there).await, ["there"]);
}

#[tokio::test]
async fn a_key_has_one_guardrail_at_most_and_another_takes_its_place() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (first, hash) = guardrail_and_key(&simulator);
    let second = simulator
        .account()
        .add_guardrail(NewGuardrail::named("two"));
    for guardrail in [&first, &second] {
        let answer = assign(&client, guardrail, &[&hash]).await;
        assert_eq!(
            (answer.status, answer.body),
            (200, json!({ "assigned_count": 1 }))
        );
    }
    assert_eq!(
        simulator.account().guardrail_of(&hash),
        Some(second.clone())
    );
    let left = client.get(&assignments(&first)).await.body;
    assert_eq!(left, json!({ "data": [], "total_count": 0 }));
    let rows = client.get(&assignments(&second)).await.body;
    let label = simulator.account().key(&hash).unwrap().label;
    for (field, value) in [
        ("key_hash", &hash),
        ("guardrail_id", &second),
        ("key_name", &"app".to_owned()),
        ("key_label", &label),
    ] {
        assert_eq!(rows["data"][0][field], json!(value), "{field}");
    }
    let all = client.get("/guardrails/assignments/keys").await.body;
    assert_eq!(all, rows);
}

#[tokio::test]
async fn hashes_that_are_not_there_are_passed_over_and_not_counted() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (guardrail, hash) = guardrail_and_key(&simulator);
    let gone = simulator.account().create_key(NewKey::named("gone"));
    simulator.account().delete_key(&gone.hash).unwrap();
    let unknown = "0".repeat(64);
    let mixed = assign(&client, &guardrail, &[&unknown, &hash, &gone.hash, &hash]).await;
    assert_eq!(mixed.body, json!({ "assigned_count": 1 }));
    let nobody = assign(&client, &guardrail, &[&unknown]).await;
    assert_eq!(
        (nobody.status, nobody.body),
        (200, json!({ "assigned_count": 0 }))
    );
    assert_eq!(assign(&client, &guardrail, &[]).await.status, 400);
    assert_eq!(assign(&client, &unknown, &[&hash]).await.status, 404);
}

#[tokio::test]
async fn a_guardrail_takes_only_keys_of_its_workspace_and_all_or_none_of_them() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let (guardrail, hash) = guardrail_and_key(&simulator);
    let elsewhere = account.create_key(NewKey {
        workspace_id: Some(account.add_workspace()),
        ..NewKey::named("elsewhere")
    });
    let refused = assign(&client, &guardrail, &[&hash, &elsewhere.hash]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.message().contains("same workspace"), "{refused:?}");
    assert_eq!(account.guardrail_of(&hash), None);
    let unscoped = account.add_guardrail(NewGuardrail {
        unscoped: true,
        ..NewGuardrail::named("old")
    });
    let taken = assign(&client, &unscoped, &[&hash, &elsewhere.hash]).await;
    assert_eq!(taken.body, json!({ "assigned_count": 2 }));
}

#[tokio::test]
async fn a_workspaces_default_comes_into_being_when_it_is_written_and_takes_no_keys() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let hash = account.create_key(NewKey::named("app")).hash;
    let workspace = account.workspace("default").unwrap();
    let id = workspace.default_guardrail_id();
    let path = format!("/guardrails/{id}");
    assert_eq!(client.get(&path).await.status, 404);
    let changes = json!({ "limit_usd": 0, "reset_interval": "daily" });
    let written = client.patch(&path, changes).await;
    assert_eq!(written.status, 200);
    let name = format!("Workspace {} Default", workspace.id);
    assert_eq!(written.text("/data/name"), name);
    assert_eq!(client.names("/guardrails").await, [name]);
    let refused = assign(&client, &id, &[&hash]).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .message()
            .starts_with("Cannot assign keys to a default")
    );
    let scopes: Vec<_> = account.budgets(&hash).iter().map(|one| one.scope).collect();
    assert_eq!(scopes, [BudgetScope::WorkspaceDefaultKey]);
}

#[tokio::test]
async fn keys_are_taken_off_the_guardrail_that_was_named_and_off_no_other() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let (guardrail, hash) = guardrail_and_key(&simulator);
    let other = account.add_guardrail(NewGuardrail::named("other"));
    account.assign_guardrail(&hash, &guardrail).unwrap();
    let body = json!({ "key_hashes": [hash] });
    for (named, count) in [(&other, 0), (&guardrail, 1), (&guardrail, 0)] {
        let path = format!("{}/remove", assignments(named));
        let answer = client.post(&path, body.clone()).await;
        assert_eq!(answer.body, json!({ "unassigned_count": count }));
    }
    assert_eq!(account.guardrail_of(&hash), None);
}

#[tokio::test]
async fn rows_of_deleted_keys_are_skipped_and_leave_pages_short() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let guardrail = account.add_guardrail(NewGuardrail::named("strict"));
    account.create_keys("app", 5);
    let keys = account.keys();
    for key in &keys {
        account.assign_guardrail(&key.hash, &guardrail).unwrap();
    }
    for key in &keys[..2] {
        account.delete_key(&key.hash).unwrap();
    }
    let path = assignments(&guardrail);
    for (query, shown) in [("?limit=3", 1), ("?limit=3&offset=3", 2), ("?limit=2", 0)] {
        let page = client.get(&format!("{path}{query}")).await.body;
        assert_eq!(page["data"].as_array().unwrap().len(), shown, "{query}");
        assert_eq!(page["total_count"], json!(5), "{query}");
    }
}

#[tokio::test]
async fn an_assignment_moves_with_its_key_and_ends_with_its_guardrail() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let (guardrail, hash) = guardrail_and_key(&simulator);
    account.assign_guardrail(&hash, &guardrail).unwrap();
    let workspace = account.add_workspace();
    let path = format!("/keys/{hash}");
    client
        .patch(&path, json!({ "workspace_id": workspace }))
        .await;
    assert_eq!(account.guardrail_of(&hash), Some(guardrail.clone()));
    client.delete(&format!("/guardrails/{guardrail}")).await;
    assert_eq!(account.guardrail_of(&hash), None);
}

#[tokio::test]
async fn a_guardrails_budget_holds_for_each_key_and_shows_in_its_description() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let guardrail = account.add_guardrail(NewGuardrail {
        limit_usd: Some(0.02),
        reset_interval: Some(LimitReset::Daily),
        ..NewGuardrail::named("strict")
    });
    let (hash, secret) = client.create(json!({ "name": "app", "limit": 5 })).await;
    let (other, others) = client.create(json!({ "name": "other" })).await;
    assign(&client, &guardrail, &[&hash, &other]).await;
    client.complete(&secret).await;
    let data = client.with(&secret).get("/key").await.body["data"].clone();
    let expected = json!({
        "scope": "api_key", "limit_usd": 0.02, "spend_usd": 0.01, "remaining_usd": 0.01,
        "reset_interval": "daily", "resets_at": "2026-11-21T00:00:00Z", "include_byok": false,
        "budget_id": null, "guardrail_id": guardrail,
    });
    assert_eq!(data["budgets"][0], expected);
    assert_eq!(data["budgets"][1]["scope"], json!("key_limit"));
    assert_eq!(data["effective_budget"], expected);
    client.complete(&secret).await;
    let (status, message) = client.complete(&secret).await;
    assert_eq!(
        (status, message.as_str()),
        (403, "Guardrail budget exceeded (daily limit)")
    );
    assert_eq!(client.complete(&others).await.0, 200);
}

#[tokio::test]
async fn a_members_guardrail_holds_for_all_keys_that_the_member_created_together() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    account.become_organization();
    let member = account
        .add_member("a@example.com", MemberRole::Member)
        .unwrap();
    let guardrail = account.add_guardrail(NewGuardrail {
        limit_usd: Some(0.02),
        reset_interval: Some(LimitReset::Monthly),
        ..NewGuardrail::named("for people")
    });
    account
        .set_guardrail_members(&guardrail, &[member.clone()])
        .unwrap();
    let theirs = json!({ "name": "app", "creator_user_id": member });
    let (_, one) = client.create(theirs.clone()).await;
    let (hash, two) = client.create(theirs).await;
    let (_, nobodys) = client.create(json!({ "name": "app" })).await;
    client.complete(&one).await;
    client.complete(&two).await;
    assert_eq!(client.complete(&two).await.0, 403);
    let budget = account.effective_budget(&hash).unwrap();
    assert_eq!(
        (budget.scope, budget.spend_usd),
        (BudgetScope::Member, 0.02)
    );
    assert_eq!(client.complete(&nobodys).await.0, 200);
}

#[tokio::test]
async fn a_model_must_be_allowed_by_every_guardrail_that_applies() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let (hash, secret) = client.create(json!({ "name": "app" })).await;
    let allowing = |models: &[&str]| {
        Some(
            models
                .iter()
                .map(|&model| model.to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let guardrail = account.add_guardrail(NewGuardrail {
        allowed_models: allowing(&["a/b", "c/d"]),
        ..NewGuardrail::named("strict")
    });
    account.assign_guardrail(&hash, &guardrail).unwrap();
    let default = account.workspace("default").unwrap().default_guardrail_id();
    let changes = GuardrailChanges {
        allowed_models: Some(allowing(&["a/b", "e/f"])),
        ..GuardrailChanges::default()
    };
    account.change_guardrail(&default, changes).unwrap();
    for (model, status) in [("a/b", 200), ("c/d", 403), ("e/f", 403), ("g/h", 403)] {
        let body = json!({ "model": model, "messages": [] });
        let answer = client.with(&secret).post("/chat/completions", body).await;
        assert_eq!(answer.status, status, "{model}");
    }
    account.unassign_guardrail(&hash);
    let body = json!({ "model": "e/f", "messages": [] });
    let answer = client.with(&secret).post("/chat/completions", body).await;
    assert_eq!(answer.status, 200);
}
