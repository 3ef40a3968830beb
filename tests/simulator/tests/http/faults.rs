//! Each fault, as the client sees it and as the account knows it.

use std::error::Error as _;
use std::time::Duration;

use openrouter_simulator::{CallerKind, Fault, KeyChanges, LimitReset, Simulator};
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::client::{Answer, Client, simulator};

async fn create(client: &Client) -> reqwest::Result<reqwest::Response> {
    client
        .send(Method::POST, "/keys", Some(json!({ "name": "app" })))
        .await
}

async fn create_under(simulator: &Simulator, fault: Fault) -> Answer {
    simulator.faults().add(fault.on("POST", "/keys"));
    Client::of(simulator)
        .post("/keys", json!({ "name": "app", "limit": 5 }))
        .await
}

fn living(simulator: &Simulator) -> usize {
    simulator.account().keys().len()
}

fn is_a_reset(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionReset;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn a_lost_reply_resets_the_connection_after_the_key_was_created() {
    let simulator = simulator().await;
    simulator.faults().add(Fault::LostReply.on("POST", "/keys"));
    let error = create(&Client::of(&simulator)).await.unwrap_err();
    assert!(is_a_reset(&error), "{error:?}");
    assert_eq!(living(&simulator), 1);
}

#[tokio::test]
async fn a_reset_before_the_effect_creates_nothing() {
    let simulator = simulator().await;
    simulator
        .faults()
        .add(Fault::ResetBeforeEffect.on("POST", "/keys"));
    let client = Client::of(&simulator);
    assert!(is_a_reset(&create(&client).await.unwrap_err()));
    assert_eq!(living(&simulator), 0);
    assert_eq!(create(&client).await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_status_is_answered_with_openrouters_error_body() {
    let simulator = simulator().await;
    let answer = create_under(&simulator, Fault::status(503)).await;
    assert_eq!(answer.status, 503);
    let body = json!({ "error": { "code": 503, "message": "Service Unavailable" } });
    assert_eq!(answer.body, body);
    assert_eq!(living(&simulator), 0);
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let simulator = simulator().await;
    let answer = create_under(&simulator, Fault::rate_limited(7)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!(answer.message(), "Rate limit exceeded");
    let kind = &answer.body["error"]["metadata"]["error_type"];
    assert_eq!(kind, &json!("rate_limit_exceeded"));
}

#[tokio::test]
async fn an_error_status_may_come_after_the_effect() {
    let simulator = simulator().await;
    let answer = create_under(&simulator, Fault::status(500).after_the_effect()).await;
    assert_eq!(answer.status, 500);
    assert_eq!(living(&simulator), 1);
}

#[tokio::test]
async fn a_status_that_no_answer_can_have_becomes_502() {
    let simulator = simulator().await;
    for impossible in [0, 100, 1000] {
        assert_eq!(
            create_under(&simulator, Fault::status(impossible))
                .await
                .status,
            502
        );
    }
}

#[tokio::test]
async fn a_proxys_html_is_not_json() {
    let simulator = simulator().await;
    let answer = create_under(
        &simulator,
        Fault::Html {
            status: 502,
            after_effect: false,
        },
    )
    .await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    assert_eq!(living(&simulator), 0);
}

#[tokio::test]
async fn a_slow_request_takes_effect_even_if_the_client_stops_waiting() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let slow = Fault::Slow {
        milliseconds: 5_000,
        after_effect: false,
    };
    simulator.faults().add(slow.on("POST", "/keys"));
    assert!(
        timeout(Duration::from_millis(100), create(&client))
            .await
            .is_err()
    );
    assert_eq!(living(&simulator), 0);
    while living(&simulator) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_slow_reply_comes_after_the_effect() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let slow = Fault::Slow {
        milliseconds: 60_000,
        after_effect: true,
    };
    simulator.faults().add(slow.on("POST", "/keys"));
    let waiting = tokio::spawn(async move { create(&client).await.is_ok() });
    while living(&simulator) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test]
async fn a_held_request_waits_for_the_script_to_be_cleared_before_its_effect_or_after() {
    for (fault, made) in [(Fault::held(), 0), (Fault::held().after_the_effect(), 1)] {
        let simulator = simulator().await;
        let client = Client::of(&simulator);
        simulator.faults().add(fault.on("POST", "/keys"));
        let waiting = tokio::spawn(async move { create(&client).await.unwrap().status() });
        while simulator.faults().held() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(living(&simulator), made);
        assert!(!waiting.is_finished());
        simulator.faults().clear();
        assert_eq!(waiting.await.unwrap(), 201);
        assert_eq!(living(&simulator), 1);
        assert_eq!(simulator.faults().held(), 0);
    }
}

#[tokio::test]
async fn a_held_request_takes_effect_even_if_the_client_has_gone() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    simulator.faults().add(Fault::held().on("POST", "/keys"));
    let waiting = tokio::spawn(async move { create(&client).await.is_ok() });
    while simulator.faults().held() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    waiting.abort();
    assert!(waiting.await.is_err());
    assert_eq!(simulator.faults().held(), 1);
    simulator.faults().clear();
    while living(&simulator) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_truncated_body_ends_before_its_length() {
    let simulator = simulator().await;
    simulator
        .faults()
        .add(Fault::TruncatedBody.on("POST", "/keys"));
    let mut response = create(&Client::of(&simulator)).await.unwrap();
    assert_eq!(response.status(), 201);
    let promised = response.content_length().unwrap();
    let beginning = response.chunk().await.unwrap().unwrap();
    assert!(beginning.starts_with(b"{") && (beginning.len() as u64) < promised);
    assert!(response.chunk().await.is_err());
    assert_eq!(living(&simulator), 1);
}

#[tokio::test]
async fn nonsense_comes_under_the_status_of_success() {
    let simulator = simulator().await;
    let answer = create_under(&simulator, Fault::NonsenseJson).await;
    assert_eq!(answer.status, 201);
    assert!(answer.body.is_object());
    assert!(answer.body.get("data").is_none() && answer.body.get("key").is_none());
    assert_eq!(living(&simulator), 1);
}

#[tokio::test]
async fn a_wrong_content_type_comes_with_the_right_body() {
    let simulator = simulator().await;
    let answer = create_under(&simulator, Fault::WrongContentType).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert!(answer.body["key"].is_string());
}

#[tokio::test]
async fn a_redirect_leads_elsewhere_and_has_no_effect() {
    let simulator = simulator().await;
    let location = "https://elsewhere.example/api/v1/keys".to_owned();
    let answer = create_under(
        &simulator,
        Fault::Redirect {
            location: location.clone(),
        },
    )
    .await;
    assert_eq!(answer.status, 307);
    assert_eq!(answer.headers["location"], location.as_str());
    assert_eq!(living(&simulator), 0);
}

#[tokio::test]
async fn an_endless_body_does_not_end() {
    let simulator = simulator().await;
    simulator
        .faults()
        .add(Fault::EndlessBody.on("POST", "/keys"));
    let mut response = create(&Client::of(&simulator)).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.content_length()),
        (201, None)
    );
    let mut received = 0;
    while received < 2 * 1024 * 1024 {
        received += response.chunk().await.unwrap().unwrap().len();
    }
    assert_eq!(living(&simulator), 1);
}

#[tokio::test]
async fn an_edited_reply_contradicts_the_account_and_nothing_else() {
    let simulator = simulator().await;
    let edited = || Fault::edited_reply(json!({ "limit_remaining": 99, "label": null }));
    let answer = create_under(&simulator, edited()).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["data"]["limit"], 5);
    assert_eq!(answer.body["data"]["limit_remaining"], 99);
    assert!(answer.body["data"]["label"].is_null() && answer.body["key"].is_string());
    let key = simulator.account().keys().remove(0);
    assert!(!key.label.is_empty());

    simulator.faults().add(edited().on("GET", "/keys"));
    let list = Client::of(&simulator).get("/keys").await;
    assert_eq!(list.body["data"][0]["limit_remaining"], 99);
    let again = Client::of(&simulator).get("/keys").await;
    assert_eq!(again.body["data"][0]["limit_remaining"], 5);
}

#[tokio::test]
async fn a_created_key_may_never_authenticate() {
    let simulator = simulator().await;
    let fault = Fault::CreatedKeyDoesNotAuthenticate { uses: None };
    let secret = create_under(&simulator, fault).await.text("/key");
    let client = Client::of(&simulator).with(&secret);
    for _ in 0..3 {
        let answer = client.get("/key").await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (401, "User not found.")
        );
    }
    assert_eq!(Client::of(&simulator).names("/keys").await, ["app"]);
}

#[tokio::test]
async fn a_created_key_may_authenticate_after_a_few_attempts() {
    let simulator = simulator().await;
    let fault = Fault::CreatedKeyDoesNotAuthenticate { uses: Some(2) };
    let secret = create_under(&simulator, fault).await.text("/key");
    let client = Client::of(&simulator).with(&secret);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get("/key").await.status);
    }
    assert_eq!(statuses, [401, 401, 200, 200]);
}

#[tokio::test]
async fn a_created_key_may_contradict_the_request_everywhere() {
    let simulator = simulator().await;
    let workspace = simulator.account().add_workspace();
    let changes = KeyChanges {
        limit: Some(Some(500.0)),
        limit_reset: Some(Some(LimitReset::Daily)),
        expires_at: Some(Some("2026-11-21T00:00:00Z".parse().unwrap())),
        workspace_id: Some(workspace.clone()),
        ..KeyChanges::default()
    };
    let answer = create_under(&simulator, Fault::CreatedOtherwise(changes)).await;
    let data = &answer.body["data"];
    assert_eq!(data["limit"], json!(500));
    assert_eq!(data["limit_reset"], json!("daily"));
    assert_eq!(data["expires_at"], json!("2026-11-21T00:00:00Z"));
    assert_eq!(data["workspace_id"], json!(workspace));
    assert_eq!(data["name"], json!("app"));

    let client = Client::of(&simulator);
    let read = client
        .get(&format!("/keys/{}", answer.text("/data/hash")))
        .await;
    assert_eq!(&read.body["data"], data);
    let own = client.with(&answer.text("/key")).get("/key").await;
    assert_eq!(own.body["data"]["limit"], json!(500));
}

#[tokio::test]
async fn a_created_key_may_have_a_hash_that_is_not_its_secrets() {
    let simulator = simulator().await;
    let hash = "ab".repeat(32);
    let changes = KeyChanges {
        hash: Some(hash.clone()),
        ..KeyChanges::default()
    };
    let answer = create_under(&simulator, Fault::CreatedOtherwise(changes)).await;
    assert_eq!(answer.text("/data/hash"), hash);
    let client = Client::of(&simulator);
    assert_eq!(
        client.with(&answer.text("/key")).get("/key").await.status,
        200
    );
    assert_eq!(client.delete(&format!("/keys/{hash}")).await.status, 200);
    assert_eq!(
        client.with(&answer.text("/key")).get("/key").await.status,
        401
    );
}

#[tokio::test]
async fn a_rule_may_spare_the_management_key() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (_, secret) = client.create(json!({ "name": "app" })).await;
    let rule = Fault::status(500)
        .on("GET", "/key")
        .by(CallerKind::Key)
        .forever();
    simulator.faults().add(rule);
    assert_eq!(client.get("/key").await.status, 200);
    assert_eq!(client.with(&secret).get("/key").await.status, 500);
}

#[tokio::test]
async fn the_third_request_alone_may_fail() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    simulator
        .faults()
        .add(Fault::status(500).on("GET", "/keys").nth(3));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get("/keys").await.status);
    }
    assert_eq!(statuses, [200, 200, 500, 200]);
    assert_eq!(simulator.faults().list()[0].fired, 1);
}

#[tokio::test]
async fn latency_delays_management_requests_only() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (_, secret) = client.create(json!({ "name": "app" })).await;
    simulator.set_latency(Duration::from_secs(60));
    let within = Duration::from_millis(300);
    assert!(timeout(within, client.get("/keys")).await.is_err());
    assert_eq!(
        timeout(Duration::from_secs(30), client.complete(&secret))
            .await
            .unwrap()
            .0,
        200
    );
}
