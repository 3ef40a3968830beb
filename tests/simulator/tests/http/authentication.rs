//! Permissions, and the answers without them. Also `GET /key` and `GET /credits`.

use std::time::Duration;

use openrouter_simulator::{NewKey, Options, Simulator};
use serde_json::{Value, json};

use crate::client::{Client, simulator};

const MANAGEMENT_PATHS: [&str; 3] = ["/keys", "/keys/00", "/credits"];

#[tokio::test]
async fn a_request_without_a_bearer_token_is_told_so() {
    let simulator = simulator().await;
    let client = Client::of(&simulator).anonymous();
    for path in MANAGEMENT_PATHS.into_iter().chain(["/key"]) {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.body["error"]["code"], json!(401), "{path}");
        assert_eq!(answer.message(), "Missing Authentication header", "{path}");
    }
}

#[tokio::test]
async fn an_unknown_token_has_no_user() {
    let simulator = simulator().await;
    let client = Client::of(&simulator).with("sk-or-v1-unknown");
    for path in MANAGEMENT_PATHS.into_iter().chain(["/key"]) {
        let answer = client.get(path).await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (401, "User not found."),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_ordinary_key_cannot_manage_keys() {
    let simulator = simulator().await;
    let key = simulator.account().create_key(NewKey::named("app"));
    let client = Client::of(&simulator).with(key.secret());
    let path = format!("/keys/{}", key.hash);
    for answer in [
        client.get("/keys").await,
        client.post("/keys", json!({ "name": "more" })).await,
        client.get(&path).await,
        client.patch(&path, json!({ "limit": null })).await,
        client.delete(&path).await,
        client.get("/credits").await,
    ] {
        assert_eq!(answer.status, 403);
        assert_eq!(
            answer.message(),
            "Only management keys can perform this operation"
        );
    }
    assert_eq!(simulator.account().keys().len(), 1);
}

#[tokio::test]
async fn a_management_key_cannot_buy_completions() {
    let simulator = simulator().await;
    let refused = Client::of(&simulator)
        .complete(simulator.management_key())
        .await;
    assert_eq!(refused, (401, "User not found.".to_owned()));
}

#[tokio::test]
async fn an_expired_key_is_refused_from_the_second_of_its_expiry_on() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let asked = json!({ "name": "app", "expires_at": "2026-11-20T12:00:10Z" });
    let (_, secret) = client.create(asked).await;
    simulator.clock().advance(Duration::from_secs(9));
    assert_eq!(client.with(&secret).get("/key").await.status, 200);
    simulator.clock().advance(Duration::from_secs(1));
    let answer = client.with(&secret).get("/key").await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (401, "User not found.")
    );
}

#[tokio::test]
async fn a_disabled_key_cannot_even_ask_what_it_is() {
    let simulator = simulator().await;
    let key = simulator.account().create_key(NewKey::named("app"));
    simulator.account().set_disabled(&key.hash, true).unwrap();
    assert_eq!(
        Client::of(&simulator)
            .with(key.secret())
            .get("/key")
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn an_ordinary_key_is_described_to_its_bearer_without_hash_or_name() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let asked = json!({
        "name": "app", "limit": 5, "limit_reset": "weekly", "include_byok_in_limit": true,
        "expires_at": "2027-01-01T00:00:00Z",
    });
    let created = client.post("/keys", asked).await;
    let answer = client.with(&created.text("/key")).get("/key").await;
    assert_eq!(answer.status, 200);
    let data = &answer.body["data"];
    for same in [
        "label",
        "limit",
        "limit_reset",
        "include_byok_in_limit",
        "expires_at",
    ] {
        assert_eq!(data[same], created.body["data"][same], "{same}");
    }
    assert_eq!(data["is_management_key"], json!(false));
    assert_eq!(
        data["workspace_id"],
        json!(simulator.account().default_workspace())
    );
    assert!(data.get("hash").is_none() && data.get("name").is_none());
}

#[tokio::test]
async fn a_management_key_is_described_with_every_field_that_the_sdks_require() {
    let simulator = simulator().await;
    let expiry = "2026-12-01T00:00:00Z".parse().unwrap();
    let management_key = simulator.management_key();
    simulator
        .account()
        .set_management_key_expiry(management_key, Some(expiry))
        .unwrap();
    let data = Client::of(&simulator).get("/key").await.body["data"].clone();
    let expected = [
        ("is_management_key", json!(true)),
        ("is_provisioning_key", json!(true)),
        ("is_free_tier", json!(false)),
        ("expires_at", json!("2026-12-01T00:00:00Z")),
        ("limit", Value::Null),
        ("limit_remaining", Value::Null),
        ("limit_reset", Value::Null),
        ("include_byok_in_limit", json!(false)),
        ("usage", json!(0)),
        ("byok_usage_monthly", json!(0)),
        ("allowed_data_regions", json!(["global"])),
        ("budgets", json!([])),
        ("effective_budget", Value::Null),
        ("organization_id", Value::Null),
        ("workspace_id", Value::Null),
    ];
    for (field, value) in expected {
        assert_eq!(data.get(field), Some(&value), "{field}");
    }
    assert_eq!(data["rate_limit"]["requests"], json!(-1));
    assert!(data["free_model_daily_requests"]["remaining"].is_number());
}

#[tokio::test]
async fn a_revoked_management_key_is_refused_and_another_still_works() {
    let simulator = simulator().await;
    let second = simulator.account().add_management_key();
    simulator
        .account()
        .revoke_management_key(simulator.management_key())
        .unwrap();
    let client = Client::of(&simulator);
    assert_eq!(client.get("/keys").await.status, 401);
    assert_eq!(client.with(&second).get("/keys").await.status, 200);
}

#[tokio::test]
async fn an_expired_management_key_is_refused() {
    let simulator = simulator().await;
    let now = simulator.clock().now();
    let management_key = simulator.management_key();
    simulator
        .account()
        .set_management_key_expiry(management_key, Some(now))
        .unwrap();
    assert_eq!(Client::of(&simulator).get("/key").await.status, 401);
}

#[tokio::test]
async fn keys_of_another_account_are_out_of_sight_and_out_of_reach() {
    let simulator = simulator().await;
    let stranger = simulator.add_account();
    let theirs = stranger.create_key(NewKey::named("theirs"));
    let client = Client::of(&simulator);
    assert!(client.names("/keys").await.is_empty());
    assert_eq!(
        client.get(&format!("/keys/{}", theirs.hash)).await.status,
        404
    );
    assert_eq!(
        client
            .delete(&format!("/keys/{}", theirs.hash))
            .await
            .status,
        404
    );
    let theirs_too = client.with(&stranger.add_management_key());
    assert_eq!(theirs_too.names("/keys").await, ["theirs"]);
    assert_eq!(client.complete(theirs.secret()).await.0, 200);
}

#[tokio::test]
async fn credits_count_what_all_keys_have_spent_deleted_ones_too() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, secret) = client.create(json!({ "name": "app" })).await;
    client.complete(&secret).await;
    client.delete(&format!("/keys/{hash}")).await;
    let data = client.get("/credits").await.body["data"].clone();
    assert_eq!(data, json!({ "total_credits": 1000, "total_usage": 0.01 }));
}

#[tokio::test]
async fn management_keys_and_workspaces_can_be_given() {
    let options = Options {
        management_keys: vec!["sk-or-v1-one".into(), "sk-or-mgmt-two".into()],
        workspaces: vec!["6f1c2a52-9a7e-4b6f-8a51-0d1e3c4b5a69".into()],
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    assert_eq!(simulator.management_key(), "sk-or-v1-one");
    assert_eq!(
        simulator.account().workspaces()[1],
        "6f1c2a52-9a7e-4b6f-8a51-0d1e3c4b5a69"
    );
    let client = Client::of(&simulator).with("sk-or-mgmt-two");
    assert_eq!(client.get("/keys").await.status, 200);
}
