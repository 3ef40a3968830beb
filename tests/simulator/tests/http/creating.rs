//! `POST /keys`.

use openrouter_simulator::NewKey;
use serde_json::{Value, json};

use crate::client::{Client, sha256_hex, simulator};

#[tokio::test]
async fn a_created_key_comes_with_its_secret_beside_data_and_status_201() {
    let simulator = simulator().await;
    let answer = Client::of(&simulator)
        .post("/keys", json!({ "name": "app" }))
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.body["data"].get("key").is_none());

    let secret = answer.text("/key");
    let digits = secret.strip_prefix("sk-or-v1-").unwrap();
    assert_eq!(digits.len(), 64);
    assert!(
        digits
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    );
}

#[tokio::test]
async fn a_hash_is_the_sha_256_of_the_whole_secret() {
    let simulator = simulator().await;
    let (hash, secret) = Client::of(&simulator)
        .create(json!({ "name": "app" }))
        .await;
    assert_eq!(hash, sha256_hex(&secret));
}

#[tokio::test]
async fn a_label_is_the_secret_with_its_middle_left_out() {
    let simulator = simulator().await;
    let answer = Client::of(&simulator)
        .post("/keys", json!({ "name": "app" }))
        .await;
    let secret = answer.text("/key");
    let expected = format!("{}...{}", &secret[..12], &secret[69..]);
    assert_eq!(answer.text("/data/label"), expected);
}

#[tokio::test]
async fn a_key_object_has_every_field_that_the_official_sdks_require() {
    let simulator = simulator().await;
    let asked = json!({
        "name": "app",
        "limit": 12.5,
        "limit_reset": "monthly",
        "include_byok_in_limit": true,
        "expires_at": "2027-12-31T23:59:59.000Z",
        "creator_user_id": "user_1",
        "external": { "user": "their user" },
    });
    let answer = Client::of(&simulator).post("/keys", asked).await;
    let mut data = answer.body["data"].as_object().unwrap().clone();
    for generated in ["hash", "label"] {
        assert!(data.remove(generated).unwrap().is_string());
    }
    let expected = json!({
        "name": "app",
        "disabled": false,
        "limit": 12.5,
        "limit_remaining": 12.5,
        "limit_reset": "monthly",
        "include_byok_in_limit": true,
        "usage": 0, "usage_daily": 0, "usage_weekly": 0, "usage_monthly": 0,
        "byok_usage": 0, "byok_usage_daily": 0, "byok_usage_weekly": 0, "byok_usage_monthly": 0,
        "created_at": "2026-11-20T12:00:00.000000+00:00",
        "updated_at": null,
        "expires_at": "2027-12-31T23:59:59Z",
        "creator_user_id": "user_1",
        "workspace_id": simulator.account().default_workspace(),
        "external_user": "their user",
        "last_used_at": null,
    });
    assert_eq!(Value::Object(data), expected);
}

#[tokio::test]
async fn a_key_goes_to_the_workspace_that_was_asked_for() {
    let simulator = simulator().await;
    let workspace = simulator.account().add_workspace();
    let asked = json!({ "name": "app", "workspace_id": workspace });
    let answer = Client::of(&simulator).post("/keys", asked).await;
    assert_eq!(answer.body["data"]["workspace_id"], json!(workspace));
}

#[tokio::test]
async fn names_need_not_be_unique() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (one, _) = client.create(json!({ "name": "app" })).await;
    let (other, _) = client.create(json!({ "name": "app" })).await;
    assert_ne!(one, other);
}

#[tokio::test]
async fn optional_fields_may_be_null_where_the_specification_allows_it() {
    let simulator = simulator().await;
    let asked = json!({
        "name": "app", "limit": null, "limit_reset": null, "expires_at": null,
        "creator_user_id": null,
    });
    let answer = Client::of(&simulator).post("/keys", asked).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["data"]["limit_remaining"], Value::Null);
}

#[tokio::test]
async fn a_creation_that_breaks_a_rule_is_refused_and_creates_nothing() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let table = [
        (json!({}), "missing field `name`"),
        (json!({ "name": "" }), "name must not be empty"),
        (json!({ "name": null }), "invalid type: null"),
        (json!({ "name": "a", "limt": 5 }), "unknown field `limt`"),
        (
            json!({ "name": "a", "disabled": true }),
            "unknown field `disabled`",
        ),
        (
            json!({ "name": "a", "limit": -1 }),
            "limit must not be negative",
        ),
        (json!({ "name": "a", "limit": "5" }), "invalid type: string"),
        (
            json!({ "name": "a", "limit_reset": "never" }),
            "unknown variant `never`",
        ),
        (
            json!({ "name": "a", "include_byok_in_limit": null }),
            "invalid type: null",
        ),
        (
            json!({ "name": "a", "creator_user_id": "" }),
            "creator_user_id must not be empty",
        ),
        (
            json!({ "name": "a", "workspace_id": null }),
            "invalid type: null",
        ),
        (
            json!({ "name": "a", "workspace_id": "main" }),
            "must be a UUID",
        ),
        (
            json!({ "name": "a", "workspace_id": "00000000-0000-4000-8000-000000000000" }),
            "no such workspace",
        ),
        (
            json!({ "name": "a", "external": { "user": "" } }),
            "1 to 512 characters",
        ),
    ];
    for (body, complaint) in table {
        let answer = client.post("/keys", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.body["error"]["code"], json!(400), "{body}");
        assert!(
            answer.message().starts_with("Invalid request parameters: "),
            "{answer:?}"
        );
        assert!(
            answer.message().contains(complaint),
            "{body}: {}",
            answer.message()
        );
    }
    assert!(simulator.account().all_keys().is_empty());
}

#[tokio::test]
async fn an_expiry_must_be_utc_with_seconds_and_in_the_future() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    for good in ["2026-11-20T12:00:01Z", "2030-01-01T00:00:00.123Z"] {
        client
            .create(json!({ "name": "a", "expires_at": good }))
            .await;
    }
    let bad = [
        "2026-11-20T12:00:00Z",
        "2020-01-01T00:00:00Z",
        "2030-01-01T00:00Z",
        "2030-01-01T00:00:00",
        "2030-01-01T00:00:00+02:00",
        "2030-01-01T00:00:00+00:00",
        "2030-01-01 00:00:00Z",
        "2030-02-30T00:00:00Z",
        "2030-01-01",
        "tomorrow",
    ];
    for bad in bad {
        let answer = client
            .post("/keys", json!({ "name": "a", "expires_at": bad }))
            .await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    assert_eq!(simulator.account().keys().len(), 2);
}

#[tokio::test]
async fn a_body_must_be_a_json_object_and_say_so() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let no_body = client
        .send(reqwest::Method::POST, "/keys", None)
        .await
        .unwrap();
    assert_eq!(no_body.status(), 400);
    assert_eq!(client.post("/keys", json!(["name"])).await.status, 400);
}

#[tokio::test]
async fn a_content_type_is_json_with_parameters_and_in_capitals_and_not_something_like_it() {
    let simulator = simulator().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (content_type, status) in [
        ("application/json; charset=utf-8", 201),
        ("Application/JSON", 201),
        ("application/jsonx", 400),
        ("application/json-patch+json", 400),
        ("text/plain", 400),
    ] {
        let answer = http
            .post(format!("{}/keys", simulator.base_url()))
            .bearer_auth(simulator.management_key())
            .header("Content-Type", content_type)
            .body(r#"{"name": "app"}"#);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), status, "{content_type}");
    }
}

#[tokio::test]
async fn paths_with_a_trailing_slash_do_not_exist() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, _) = client.create(json!({ "name": "app" })).await;
    assert_eq!(
        client.post("/keys/", json!({ "name": "app" })).await.status,
        404
    );
    assert_eq!(client.get("/keys/").await.status, 404);
    assert_eq!(client.delete(&format!("/keys/{hash}/")).await.status, 404);
    assert_eq!(client.get("/key/").await.status, 404);
    assert_eq!(simulator.account().keys().len(), 1);
}

#[tokio::test]
async fn two_simulators_with_one_seed_make_the_same_keys() {
    let (one, other) = (simulator().await, simulator().await);
    let ours = Client::of(&one).create(json!({ "name": "a" })).await;
    let theirs = Client::of(&other).create(json!({ "name": "a" })).await;
    assert_eq!(ours, theirs);
    assert_ne!(
        ours.1,
        other.account().create_key(NewKey::named("a")).secret()
    );
}
