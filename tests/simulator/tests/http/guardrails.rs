//! Guardrails and their enforcement.

use openrouter_simulator::{BudgetScope, GuardrailChanges, LimitReset, MemberRole, NewGuardrail};
use serde_json::{Value, json};

use crate::client::{Client, simulator};

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
    for key in [&hash, &other] {
        account.assign_guardrail(key, &guardrail).unwrap();
    }
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
        .set_guardrail_members(&guardrail, std::slice::from_ref(&member))
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
