//! Workspaces and their members.

use openrouter_simulator::{LimitReset, MemberRole, NewKey, NotPossible, WorkspaceBudget};
use serde_json::{Value, json};

use crate::client::{Client, simulator};

#[tokio::test]
async fn workspaces_are_listed_in_parts_with_their_number() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    for number in 0..3 {
        let slug = format!("team-{number}");
        simulator
            .account()
            .add_named_workspace("Team", &slug)
            .unwrap();
    }
    let slugs = |answer: &Value| {
        let data = answer["data"].as_array().unwrap().iter();
        data.map(|one| one["slug"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let all = client.get("/workspaces").await.body;
    assert_eq!(slugs(&all), ["default", "team-0", "team-1", "team-2"]);
    let part = client.get("/workspaces?offset=1&limit=2").await.body;
    assert_eq!(slugs(&part), ["team-0", "team-1"]);
    assert_eq!(part["total_count"], json!(4));
    for bad in ["limit=0", "limit=101", "offset=-1", "colour=red"] {
        let answer = client.get(&format!("/workspaces?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_workspace_is_read_by_id_and_by_slug() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let id = account.add_named_workspace("Team A", "team-a").unwrap();
    for path in [format!("/workspaces/{id}"), "/workspaces/team-a".to_owned()] {
        let data = client.get(&path).await.body["data"].clone();
        assert_eq!(
            [&data["id"], &data["name"], &data["slug"]],
            [&json!(id), &json!("Team A"), &json!("team-a")]
        );
        let default = account.workspace(&id).unwrap().default_guardrail_id();
        assert_eq!(data["default_guardrail_id"], json!(default));
    }
    assert_eq!(client.get("/workspaces/nowhere").await.status, 404);
    let (_, secret) = client.create(json!({ "name": "app" })).await;
    let ordinary = client.with(&secret).get("/workspaces").await;
    assert_eq!(ordinary.status, 403);
}

#[tokio::test]
async fn a_workspace_keeps_its_id_when_its_name_and_slug_change() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let id = account.add_named_workspace("Team A", "team-a").unwrap();
    account.rename_workspace(&id, "Team B", "team-b").unwrap();
    assert_eq!(client.get("/workspaces/team-a").await.status, 404);
    let found = client.get("/workspaces/team-b").await;
    assert_eq!(found.text("/data/id"), id);
    let taken = account.rename_workspace(&id, "Team B", "default");
    assert_eq!(taken, Err(NotPossible::Slug));
    let none = account.add_named_workspace("Team C", "Team C");
    assert_eq!(none, Err(NotPossible::Slug));
}

#[tokio::test]
async fn a_workspace_with_living_keys_is_not_deleted() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let id = account.add_workspace();
    let key = account.create_key(NewKey {
        workspace_id: Some(id.clone()),
        ..NewKey::named("app")
    });
    assert_eq!(account.delete_workspace(&id), Err(NotPossible::HasKeys));
    account.delete_key(&key.hash).unwrap();
    account.delete_workspace(&id).unwrap();
    assert_eq!(client.get(&format!("/workspaces/{id}")).await.status, 404);
    let default = account.default_workspace();
    assert!(account.delete_workspace(&default).is_err());
}

#[tokio::test]
async fn only_an_organization_has_members_and_the_default_workspace_has_them_all() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    assert_eq!(client.get("/organization/members").await.status, 404);
    account.become_organization();
    let admin = account
        .add_member("a@example.com", MemberRole::Admin)
        .unwrap();
    account
        .add_member("b@example.com", MemberRole::Member)
        .unwrap();
    let members = client.get("/organization/members?limit=1").await.body;
    assert_eq!(members["total_count"], json!(2));
    let expected = json!([{
        "id": admin, "email": "a@example.com", "role": "org:admin", "first_name": null, "last_name": null,
    }]);
    assert_eq!(members["data"], expected);
    let inside = client.get("/workspaces/default/members").await.body;
    assert_eq!(inside["total_count"], json!(2));
    assert_eq!(inside["data"][0]["user_id"], json!(admin));
    assert_eq!(inside["data"][0]["role"], json!("admin"));
    account.add_named_workspace("Team", "team").unwrap();
    let nobody = client.get("/workspaces/team/members").await.body;
    assert_eq!(nobody, json!({ "data": [], "total_count": 0 }));
}

#[tokio::test]
async fn a_key_has_a_creator_in_a_persons_account_and_in_an_organization_only_if_named() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let creator = async |body: Value| {
        let answer = client.post("/keys", body).await;
        answer.body["data"]["creator_user_id"].clone()
    };
    let person = creator(json!({ "name": "app" })).await;
    assert!(person.as_str().unwrap().starts_with("user_"));
    let manager = client.get("/key").await.body["data"].clone();
    assert_eq!(manager["creator_user_id"], person);
    assert_eq!(manager["organization_id"], Value::Null);

    account.become_organization();
    let member = account
        .add_member("a@example.com", MemberRole::Member)
        .unwrap();
    assert_eq!(creator(json!({ "name": "app" })).await, Value::Null);
    let named = json!({ "name": "app", "creator_user_id": member });
    assert_eq!(creator(named).await, json!(member));
    let manager = client.get("/key").await.body["data"].clone();
    assert_eq!(manager["creator_user_id"], Value::Null);
    assert!(
        manager["organization_id"]
            .as_str()
            .unwrap()
            .starts_with("org_")
    );
}

#[tokio::test]
async fn deactivating_a_member_disables_the_keys_that_it_created() {
    let simulator = simulator().await;
    let account = simulator.account();
    account.become_organization();
    let member = account
        .add_member("a@example.com", MemberRole::Member)
        .unwrap();
    let theirs = account.create_key(NewKey {
        creator_user_id: Some(member.clone()),
        ..NewKey::named("theirs")
    });
    let other = account.create_key(NewKey::named("other"));
    account.deactivate_member(&member).unwrap();
    assert!(account.key(&theirs.hash).unwrap().disabled);
    assert!(!account.key(&other.hash).unwrap().disabled);
    assert!(account.members().is_empty());
}

#[tokio::test]
async fn the_budget_of_a_workspace_counts_what_all_its_keys_have_spent() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    let id = account.default_workspace();
    let budget = WorkspaceBudget {
        id: String::new(),
        limit_usd: 0.02,
        interval: Some(LimitReset::Daily),
    };
    account
        .set_workspace_budgets(&id, vec![budget], false)
        .unwrap();
    let (_, one) = client.create(json!({ "name": "one" })).await;
    let (hash, other) = client.create(json!({ "name": "other", "limit": 5 })).await;
    client.complete(&one).await;
    let budgets = account.budgets(&hash);
    let left: Vec<f64> = budgets.iter().map(|one| one.remaining_usd()).collect();
    assert_eq!(left, [0.01, 5.0]);
    assert_eq!(client.complete(&other).await.0, 200);
    let (status, message) = client.complete(&other).await;
    assert_eq!(
        (status, message.as_str()),
        (403, "Workspace budget exceeded (daily limit)")
    );
    simulator
        .clock()
        .set("2026-11-21T00:00:00Z".parse().unwrap());
    assert_eq!(client.complete(&other).await.0, 200);
}
