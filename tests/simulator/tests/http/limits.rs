//! Spending, limits and their reset windows.

use openrouter_simulator::Simulator;
use serde_json::{Value, json};

use crate::client::{Client, simulator};

async fn data(client: &Client, hash: &str) -> Value {
    client.get(&format!("/keys/{hash}")).await.body["data"].clone()
}

fn travel(simulator: &Simulator, to: &str) {
    simulator.clock().set(to.parse().unwrap());
}

#[tokio::test]
async fn a_completion_costs_a_cent_and_is_remembered_as_the_last_use() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, secret) = client.create(json!({ "name": "app", "limit": 1 })).await;
    let body = json!({ "model": "some/model", "messages": [{ "role": "user", "content": "hi" }] });
    let answer = client.with(&secret).post("/chat/completions", body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["model"], json!("some/model"));
    assert!(answer.body["choices"][0]["message"]["content"].is_string());
    assert_eq!(answer.body.get("system_fingerprint"), Some(&Value::Null));

    let data = data(&client, &hash).await;
    assert_eq!(data["usage"], json!(0.01));
    assert_eq!(data["limit_remaining"], json!(0.99));
    assert_eq!(data["last_used_at"], json!("2026-11-20T12:00:00Z"));
}

#[tokio::test]
async fn a_completion_without_messages_is_refused() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (_, secret) = client.create(json!({ "name": "app" })).await;
    let answer = client
        .with(&secret)
        .post("/chat/completions", json!({ "model": "m" }))
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn an_exhausted_key_is_told_which_limit_it_has_exceeded() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let table = [
        (Value::Null, "total"),
        (json!("daily"), "daily"),
        (json!("monthly"), "monthly"),
    ];
    for (reset, window) in table {
        let asked = json!({ "name": "app", "limit": 0.01, "limit_reset": reset });
        let (_, secret) = client.create(asked).await;
        assert_eq!(client.complete(&secret).await.0, 200);
        let (status, message) = client.complete(&secret).await;
        assert_eq!(status, 403);
        assert!(
            message.starts_with(&format!("Key limit exceeded ({window} limit)")),
            "{message}"
        );
        assert_eq!(client.with(&secret).get("/key").await.status, 200);
    }
}

#[tokio::test]
async fn a_limit_of_zero_is_accepted_and_lets_nothing_through() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (_, secret) = client.create(json!({ "name": "app", "limit": 0 })).await;
    assert_eq!(client.complete(&secret).await.0, 403);
}

#[tokio::test]
async fn a_limit_without_reset_is_for_life() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, _) = client.create(json!({ "name": "app", "limit": 5 })).await;
    simulator.account().set_usage(&hash, 3.0).unwrap();
    travel(&simulator, "2030-01-01T00:00:00Z");
    assert_eq!(data(&client, &hash).await["limit_remaining"], json!(2));
}

#[tokio::test]
async fn a_limit_starts_afresh_at_midnight_on_monday_or_on_the_first() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    // It is Friday, 20 November.
    let table = [
        ("daily", "2026-11-20T23:59:59Z", "2026-11-21T00:00:00Z"),
        ("weekly", "2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z"),
        ("monthly", "2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z"),
    ];
    for (reset, last_second, fresh) in table {
        travel(&simulator, "2026-11-20T12:00:00Z");
        let asked = json!({ "name": "app", "limit": 5, "limit_reset": reset });
        let (hash, _) = client.create(asked).await;
        simulator.account().set_usage(&hash, 3.0).unwrap();
        travel(&simulator, last_second);
        assert_eq!(
            data(&client, &hash).await["limit_remaining"],
            json!(2),
            "{reset}"
        );
        travel(&simulator, fresh);
        let data = data(&client, &hash).await;
        assert_eq!(data["limit_remaining"], json!(5), "{reset}");
        assert_eq!(
            data["usage"],
            json!(3),
            "a reset touches the limit, not the counter"
        );
    }
}

#[tokio::test]
async fn usage_is_counted_for_ever_and_per_day_week_and_month() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, secret) = client.create(json!({ "name": "app" })).await;
    // One completion in the month, one more in the week, one more today.
    for day in [
        "2026-11-10T12:00:00Z",
        "2026-11-17T12:00:00Z",
        "2026-11-20T12:00:00Z",
    ] {
        travel(&simulator, day);
        client.complete(&secret).await;
    }
    let data = data(&client, &hash).await;
    let counted =
        ["usage", "usage_monthly", "usage_weekly", "usage_daily"].map(|f| data[f].clone());
    assert_eq!(
        counted,
        [json!(0.03), json!(0.03), json!(0.02), json!(0.01)]
    );
}

#[tokio::test]
async fn spending_through_ones_own_provider_keys_counts_only_if_asked_for() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    for (include, remaining) in [(false, 5), (true, 1)] {
        let asked = json!({ "name": "app", "limit": 5, "include_byok_in_limit": include });
        let (hash, _) = client.create(asked).await;
        simulator.account().set_byok_usage(&hash, 4.0).unwrap();
        let data = data(&client, &hash).await;
        assert_eq!(data["byok_usage"], json!(4));
        assert_eq!(data["limit_remaining"], json!(remaining));
    }
}
