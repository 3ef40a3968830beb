//! Which keys guardrails accept, and how assignments are shown.

use openrouter_simulator::{BudgetScope, Fault, NewGuardrail, NewKey, Simulator};
use serde_json::json;

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
async fn an_answer_about_assignments_can_be_edited() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (guardrail, hash) = guardrail_and_key(&simulator);
    let nobody = Fault::edited_reply(json!({ "assigned_count": 0 }));
    let rule = nobody.on("POST", "/guardrails/*/assignments/keys");
    simulator.faults().add(rule);
    let answer = assign(&client, &guardrail, &[&hash]).await;
    assert_eq!(answer.body, json!({ "assigned_count": 0 }));
    assert_eq!(simulator.account().guardrail_of(&hash), Some(guardrail));
}
