//! The cost of calls, when it is charged, and when it becomes known.

use std::time::Duration;

use openrouter_simulator::{
    BillingRules, CallRefused, ChargedIn, CreditsAnswer, Exhausted, NewKey, Price, Simulator,
};
use serde_json::{Value, json};

use crate::client::{Client, simulator};

async fn usage(client: &Client, hash: &str) -> Value {
    client.get(&format!("/keys/{hash}")).await.body["data"]["usage"].clone()
}

/// A completion that stays in flight until the rules release it.
async fn in_flight(
    simulator: &Simulator,
    client: &Client,
    secret: &str,
) -> tokio::task::JoinHandle<(u16, String)> {
    simulator.billing().change(|rules| rules.hold_calls = true);
    let (client, secret) = (client.clone(), secret.to_owned());
    let call = tokio::spawn(async move { client.complete(&secret).await });
    while simulator.billing().calls().is_empty() {
        tokio::task::yield_now().await;
    }
    call
}

fn let_go(simulator: &Simulator) {
    simulator.billing().change(|rules| rules.hold_calls = false);
}

#[tokio::test]
async fn a_call_costs_what_its_model_costs() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    simulator.billing().change(|rules| {
        rules.price = Price::usd(0.5);
        rules.prices.insert("dear".into(), Price::usd(2.0));
        rules.prices.insert("free".into(), Price::usd(0.0));
        let own = Price {
            usd: 3.0,
            byok: true,
        };
        rules.prices.insert("own".into(), own);
    });
    let (hash, secret) = client.create(json!({ "name": "app" })).await;
    for (model, cost) in [("any", 0.5), ("dear", 2.0), ("free", 0.0), ("own", 3.0)] {
        let body = json!({ "model": model, "messages": [] });
        let answer = client.with(&secret).post("/chat/completions", body).await;
        assert_eq!(answer.body["usage"]["cost"].as_f64(), Some(cost), "{model}");
    }
    let key = simulator.account().key(&hash).unwrap();
    assert_eq!((key.usage.total(), key.byok_usage.total()), (2.5, 3.0));
}

#[tokio::test]
async fn a_call_is_charged_when_it_completes_and_not_when_it_begins() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, secret) = client.create(json!({ "name": "app", "limit": 0.01 })).await;
    let first = in_flight(&simulator, &client, &secret).await;
    assert_eq!(usage(&client, &hash).await, json!(0));
    let shown = simulator.billing().calls();
    assert_eq!((shown.len(), &shown[0].key_hash), (1, &hash));
    // Nothing is spent yet, so another call may start. That is how a key overshoots its limit.
    let second = simulator.account().begin_call(&hash, "m").unwrap();
    let_go(&simulator);
    assert_eq!(first.await.unwrap().0, 200);
    second.complete();
    let data = client.get(&format!("/keys/{hash}")).await.body["data"].clone();
    assert_eq!(data["limit_remaining"], json!(-0.01));
    assert_eq!(client.complete(&secret).await.0, 403);
    assert!(simulator.billing().calls().is_empty());
}

#[tokio::test]
async fn a_call_that_fails_costs_nothing() {
    let simulator = simulator().await;
    let key = simulator.account().create_key(NewKey::named("app"));
    drop(simulator.account().begin_call(&key.hash, "m").unwrap());
    assert!(simulator.billing().calls().is_empty());
    let usage = simulator.account().key(&key.hash).unwrap().usage;
    assert_eq!(usage.total(), 0.0);
}

#[tokio::test]
async fn a_call_in_flight_is_charged_to_a_key_that_was_disabled_or_deleted_meanwhile() {
    let simulator = simulator().await;
    let (client, account) = (Client::of(&simulator), simulator.account());
    for deleted in [false, true] {
        let (hash, secret) = client.create(json!({ "name": "app" })).await;
        let call = in_flight(&simulator, &client, &secret).await;
        let path = format!("/keys/{hash}");
        match deleted {
            true => client.delete(&path).await,
            false => client.patch(&path, json!({ "disabled": true })).await,
        };
        assert_eq!(client.complete(&secret).await.0, 401);
        let_go(&simulator);
        assert_eq!(call.await.unwrap().0, 200);
        assert_eq!(account.key(&hash).unwrap().usage.total(), 0.01);
    }
    let spent = client.get("/credits").await.body["data"]["total_usage"].clone();
    assert_eq!(spent, json!(0.02));
}

#[tokio::test]
async fn a_call_in_flight_over_a_reset_belongs_to_the_window_that_the_rules_say() {
    for (charged_in, left) in [(ChargedIn::Completion, 0.99), (ChargedIn::Start, 1.0)] {
        let simulator = simulator().await;
        simulator
            .billing()
            .change(|rules| rules.charged_in = charged_in);
        let client = Client::of(&simulator);
        let body = json!({ "name": "app", "limit": 1, "limit_reset": "daily" });
        let (hash, secret) = client.create(body).await;
        let call = in_flight(&simulator, &client, &secret).await;
        simulator
            .clock()
            .set("2026-11-21T00:00:01Z".parse().unwrap());
        let_go(&simulator);
        call.await.unwrap();
        let data = client.get(&format!("/keys/{hash}")).await.body["data"].clone();
        assert_eq!(
            data["limit_remaining"].as_f64(),
            Some(left),
            "{charged_in:?}"
        );
        assert_eq!(data["usage"], json!(0.01));
        assert_eq!(data["last_used_at"], json!("2026-11-21T00:00:01Z"));
    }
}

#[tokio::test]
async fn reports_may_lag_behind_while_enforcement_does_not() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    simulator
        .billing()
        .change(|rules| rules.reporting_lag_seconds = 30);
    let (hash, secret) = client.create(json!({ "name": "app", "limit": 0.01 })).await;
    client.complete(&secret).await;
    assert_eq!(client.complete(&secret).await.0, 403);
    let bearer = client.with(&secret).get("/key").await.body["data"].clone();
    assert_eq!(bearer["usage"], json!(0));
    assert_eq!(bearer["limit_remaining"], json!(0.01));
    assert_eq!(bearer["budgets"][0]["spend_usd"], json!(0.01));
    let path = format!("/keys/{hash}");
    for (seconds, used, last) in [
        (29, json!(0), Value::Null),
        (1, json!(0.01), json!("2026-11-20T12:00:00Z")),
    ] {
        simulator.clock().advance(Duration::from_secs(seconds));
        let data = client.get(&path).await.body["data"].clone();
        assert_eq!((&data["usage"], &data["last_used_at"]), (&used, &last));
        let listed = client.get("/keys").await.body["data"][0].clone();
        assert_eq!(listed, data);
        let credits = client.get("/credits").await.body["data"].clone();
        assert_eq!(credits["total_usage"], used);
    }
}

#[tokio::test]
async fn enforcement_may_lag_behind_too() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    simulator
        .billing()
        .change(|rules| rules.enforcement_lag_seconds = 30);
    let (hash, secret) = client.create(json!({ "name": "app", "limit": 0.01 })).await;
    for _ in 0..3 {
        assert_eq!(client.complete(&secret).await.0, 200);
    }
    let budget = simulator.account().effective_budget(&hash).unwrap();
    assert_eq!(budget.spend_usd, 0.0);
    assert_eq!(usage(&client, &hash).await, json!(0.03));
    simulator.clock().advance(Duration::from_secs(30));
    assert_eq!(client.complete(&secret).await.0, 403);
}

#[tokio::test]
async fn a_limit_is_a_budget_of_the_key_and_the_effective_one_if_it_is_alone() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let body = json!({
        "name": "app", "limit": 2, "limit_reset": "weekly", "include_byok_in_limit": true,
    });
    let (hash, secret) = client.create(body).await;
    simulator.account().set_byok_usage(&hash, 3.0).unwrap();
    let data = client.with(&secret).get("/key").await.body["data"].clone();
    let expected = json!({
        "scope": "key_limit", "limit_usd": 2, "spend_usd": 3, "remaining_usd": -1,
        "reset_interval": "weekly", "resets_at": "2026-11-23T00:00:00Z", "include_byok": true,
        "budget_id": null, "guardrail_id": null,
    });
    assert_eq!(data["budgets"], json!([expected]));
    assert_eq!(data["effective_budget"], expected);
    assert_eq!(data["limit_remaining"], json!(-1));
    let (_, unlimited) = client.create(json!({ "name": "app" })).await;
    let data = client.with(&unlimited).get("/key").await.body["data"].clone();
    assert_eq!(
        (&data["budgets"], &data["effective_budget"]),
        (&json!([]), &Value::Null)
    );
}

#[tokio::test]
async fn a_spent_key_is_refused_with_402_where_the_rules_say_so() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    simulator
        .billing()
        .change(|rules| rules.exhausted = Exhausted::PaymentRequired);
    let (_, secret) = client.create(json!({ "name": "app", "limit": 0 })).await;
    let body = json!({ "messages": [] });
    let answer = client.with(&secret).post("/chat/completions", body).await;
    assert_eq!(answer.status, 402);
    let source = &answer.body["error"]["metadata"]["limit_source"];
    assert_eq!(source, &json!("openrouter_key_limit"));
}

#[tokio::test]
async fn an_ordinary_key_is_refused_credits_or_gets_zeros() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (_, secret) = client.create(json!({ "name": "app" })).await;
    client.complete(&secret).await;
    let own = client.with(&secret);
    assert_eq!(own.get("/credits").await.status, 403);
    simulator
        .billing()
        .change(|rules| rules.credits_with_ordinary_key = CreditsAnswer::Zeros);
    let zeros = json!({ "data": { "total_credits": 0, "total_usage": 0 } });
    let answer = own.get("/credits").await;
    assert_eq!((answer.status, answer.body), (200, zeros));
    assert_eq!(
        client.with("sk-or-v1-nobody").get("/credits").await.status,
        401
    );
}

#[tokio::test]
async fn a_call_begun_without_http_is_refused_for_the_same_reasons() {
    let simulator = simulator().await;
    let account = simulator.account();
    let key = account.create_key(NewKey {
        limit: Some(1.0),
        ..NewKey::named("app")
    });
    let call = account.begin_call(&key.hash, "m").unwrap();
    assert_eq!(call.price(), BillingRules::default().price);
    assert_eq!(call.at_price(Price::usd(1.5)).complete(), 1.5);
    let refusal = account.begin_call(&key.hash, "m").unwrap_err();
    assert!(matches!(refusal, CallRefused::Exhausted(budget) if budget.remaining_usd() == -0.5));
    account.delete_key(&key.hash).unwrap();
    let refusal = account.begin_call(&key.hash, "m").unwrap_err();
    assert_eq!(refusal, CallRefused::KeyDoesNotWork);
}

#[tokio::test]
async fn amounts_are_shown_with_nine_decimals_and_never_as_null_for_being_large() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    for (limit, spent, left) in [
        (1.0, 0.123_456_789, 0.876_543_211),
        (1e303, 0.0, 1e303),
        (f64::MAX, 0.0, f64::MAX),
        (0.0, f64::MAX, f64::MIN),
    ] {
        let (hash, _) = client
            .create(json!({ "name": "app", "limit": limit }))
            .await;
        simulator.account().set_usage(&hash, spent).unwrap();
        let data = client.get(&format!("/keys/{hash}")).await.body["data"].clone();
        assert_eq!(data["limit"].as_f64(), Some(limit));
        assert_eq!(data["usage"].as_f64(), Some(spent));
        assert_eq!(data["limit_remaining"].as_f64(), Some(left));
    }
}
