//! `PATCH /keys/{hash}` and `DELETE /keys/{hash}`.

use std::time::Duration;

use openrouter_simulator::{LimitReset, NewKey, Simulator};
use serde_json::{Value, json};

use crate::client::{Client, simulator};

/// A key with a limit of 10 dollars a day, and its path.
fn limited_key(simulator: &Simulator) -> String {
    let key = simulator.account().create_key(NewKey {
        limit: Some(10.0),
        limit_reset: Some(LimitReset::Daily),
        ..NewKey::named("app")
    });
    format!("/keys/{}", key.hash)
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let simulator = simulator().await;
    let path = limited_key(&simulator);
    let client = Client::of(&simulator);
    let before = client.get(&path).await.body["data"].clone();
    assert_eq!(before["updated_at"], Value::Null);

    simulator.clock().advance(Duration::from_secs(60));
    let answer = client
        .patch(&path, json!({ "name": "renamed", "limit": 2.5 }))
        .await;
    assert_eq!(answer.status, 200);
    let mut expected = before;
    expected["name"] = json!("renamed");
    expected["limit"] = json!(2.5);
    expected["limit_remaining"] = json!(2.5);
    expected["updated_at"] = json!("2026-11-20T12:01:00.000000+00:00");
    assert_eq!(answer.body["data"], expected);
    assert_eq!(client.get(&path).await.body["data"], expected);
}

#[tokio::test]
async fn null_clears_a_limit_and_its_reset() {
    let simulator = simulator().await;
    let path = limited_key(&simulator);
    let body = json!({ "limit": null, "limit_reset": null });
    let data = Client::of(&simulator).patch(&path, body).await.body["data"].clone();
    for cleared in ["limit", "limit_remaining", "limit_reset"] {
        assert_eq!(data[cleared], Value::Null, "{cleared}");
    }
}

#[tokio::test]
async fn a_disabled_key_is_refused_until_it_is_enabled_again() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, secret) = client.create(json!({ "name": "app" })).await;
    let path = format!("/keys/{hash}");
    client.patch(&path, json!({ "disabled": true })).await;
    assert_eq!(client.complete(&secret).await.0, 401);
    client.patch(&path, json!({ "disabled": false })).await;
    assert_eq!(client.complete(&secret).await.0, 200);
}

#[tokio::test]
async fn an_update_ignores_unknown_fields_and_those_fixed_at_creation() {
    let simulator = simulator().await;
    let path = limited_key(&simulator);
    let body = json!({
        "name": "renamed", "expires_at": "2030-01-01T00:00:00Z", "creator_user_id": "user_9",
        "colour": "red",
    });
    let data = Client::of(&simulator).patch(&path, body).await.body["data"].clone();
    assert_eq!(data["name"], json!("renamed"));
    assert_eq!(data["expires_at"], Value::Null);
    assert_ne!(data["creator_user_id"], json!("user_9"));
}

#[tokio::test]
async fn an_update_without_a_known_field_is_refused() {
    let simulator = simulator().await;
    let path = limited_key(&simulator);
    for body in [json!({}), json!({ "expires_at": "2030-01-01T00:00:00Z" })] {
        let answer = Client::of(&simulator).patch(&path, body).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.message(), "No update fields provided");
    }
}

#[tokio::test]
async fn an_update_that_breaks_a_rule_is_refused_and_changes_nothing() {
    let simulator = simulator().await;
    let path = limited_key(&simulator);
    let client = Client::of(&simulator);
    let before = client.get(&path).await.body;
    let unknown_workspace = json!("00000000-0000-4000-8000-000000000000");
    for (field, value) in [
        ("limit", json!(-0.5)),
        ("limit", json!("5")),
        ("limit_reset", json!("yearly")),
        ("disabled", Value::Null),
        ("include_byok_in_limit", Value::Null),
        ("name", json!(7)),
        ("workspace_id", unknown_workspace),
    ] {
        let answer = client
            .patch(&path, json!({ "name": "renamed", field: value }))
            .await;
        assert_eq!(answer.status, 400, "{field}");
    }
    assert_eq!(client.get(&path).await.body, before);
}

#[tokio::test]
async fn an_update_moves_a_key_to_another_workspace() {
    let simulator = simulator().await;
    let path = limited_key(&simulator);
    let other = simulator.account().add_workspace();
    let client = Client::of(&simulator);
    client.patch(&path, json!({ "workspace_id": other })).await;
    assert!(client.names("/keys").await.is_empty());
    assert_eq!(
        client.names(&format!("/keys?workspace_id={other}")).await,
        ["app"]
    );
}

#[tokio::test]
async fn changing_a_limit_does_not_reset_usage() {
    let simulator = simulator().await;
    let path = limited_key(&simulator);
    let hash = path.trim_start_matches("/keys/");
    simulator.account().set_usage(hash, 4.0).unwrap();
    let answer = Client::of(&simulator)
        .patch(&path, json!({ "limit": 20 }))
        .await;
    assert_eq!(answer.body["data"]["usage"], json!(4));
    assert_eq!(answer.body["data"]["limit_remaining"], json!(16));
}

#[tokio::test]
async fn a_deleted_key_is_gone_for_good() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, secret) = client.create(json!({ "name": "app" })).await;
    let path = format!("/keys/{hash}");
    let answer = client.delete(&path).await;
    assert_eq!(
        (answer.status, answer.body),
        (200, json!({ "deleted": true }))
    );

    assert_eq!(client.delete(&path).await.status, 404);
    assert_eq!(client.get(&path).await.status, 404);
    assert_eq!(
        client
            .patch(&path, json!({ "disabled": false }))
            .await
            .status,
        404
    );
    let everything = "/keys?include_disabled=true&include_expired=true";
    assert!(client.names(everything).await.is_empty());
    assert_eq!(
        client.complete(&secret).await,
        (401, "User not found.".to_owned())
    );
}
