//! The same script, inspection and actions over HTTP.

use jiff::Timestamp;
use openrouter_simulator::{NewKey, Simulator};
use serde_json::json;

use crate::client::{Client, simulator};

fn control(simulator: &Simulator) -> Client {
    Client::at(simulator.control_url(), None)
}

#[tokio::test]
async fn faults_are_added_listed_and_cleared() {
    let simulator = simulator().await;
    let (client, control) = (Client::of(&simulator), control(&simulator));
    let rule = json!({
        "method": "GET", "path": "/keys", "times": null,
        "fault": { "kind": "status", "status": 429, "retry_after": 3 },
    });
    assert_eq!(control.post("/faults", rule).await.status, 201);
    let answer = client.get("/keys").await;
    assert_eq!(
        (answer.status, &answer.headers["retry-after"]),
        (429, &"3".parse().unwrap())
    );
    let listed = control.get("/faults").await.body;
    assert_eq!(listed[0]["fired"], json!(1));
    assert_eq!(listed[0]["fault"]["kind"], json!("status"));
    assert_eq!(control.delete("/faults").await.status, 204);
    assert_eq!(client.get("/keys").await.status, 200);
}

#[tokio::test]
async fn a_misspelt_fault_is_refused() {
    let simulator = simulator().await;
    let rule = json!({ "fault": { "kind": "lost_replies" } });
    assert_eq!(control(&simulator).post("/faults", rule).await.status, 422);
    assert!(simulator.faults().list().is_empty());
}

#[tokio::test]
async fn requests_are_shown_and_forgotten_and_control_requests_are_not_among_them() {
    let simulator = simulator().await;
    Client::of(&simulator).get("/keys").await;
    let control = control(&simulator);
    let shown = control.get("/requests").await.body;
    assert_eq!(shown["counts"], json!({ "GET /keys": 1 }));
    assert_eq!(shown["high_water_mark"], json!(1));
    assert_eq!(shown["requests"][0]["status"], json!(200));
    let moment = |field: &str| -> Timestamp {
        let text = shown["requests"][0][field].as_str().unwrap();
        text.parse().unwrap()
    };
    assert!(moment("at") <= moment("answered_at"));
    assert_eq!(control.delete("/requests").await.status, 204);
    assert_eq!(control.get("/requests").await.body["requests"], json!([]));
}

#[tokio::test]
async fn keys_are_created_changed_and_deleted_behind_the_clients_back() {
    let simulator = simulator().await;
    let control = control(&simulator);
    let asked = json!({ "name": "foreign", "count": 3 });
    assert_eq!(control.post("/keys", asked).await.status, 201);
    let shown = control.get("/keys").await.body;
    assert_eq!(shown["data"].as_array().unwrap().len(), 3);
    let path = format!("/keys/{}", shown["data"][0]["hash"].as_str().unwrap());

    let change = json!({ "disabled": true, "usage": 2, "expires_at": "2026-12-01T00:00:00Z" });
    let changed = control.post(&path, change).await.body;
    assert_eq!(
        (&changed["disabled"], &changed["usage"]),
        (&json!(true), &json!(2))
    );
    let deleted = control.post(&path, json!({ "deleted": true })).await.body;
    assert_eq!(deleted["deleted_at"], json!("2026-11-20T12:00:00Z"));
    assert_eq!(
        control
            .post(&path, json!({ "disabled": false }))
            .await
            .status,
        404
    );
    assert_eq!(
        control.get("/keys").await.body["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        control.get("/keys?all=true").await.body["data"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn a_key_is_hidden_from_lists() {
    let simulator = simulator().await;
    let key = simulator.account().create_key(NewKey::named("app"));
    let path = format!("/keys/{}", key.hash);
    let (client, control) = (Client::of(&simulator), control(&simulator));
    control.post(&path, json!({ "hidden_listings": 1 })).await;
    assert!(client.names("/keys").await.is_empty());
    assert_eq!(client.names("/keys").await, ["app"]);
    control.post(&path, json!({ "hidden_seconds": 60 })).await;
    assert!(client.names("/keys").await.is_empty());
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let simulator = simulator().await;
    let key = simulator.account().create_key(NewKey::named("app"));
    for path in [
        "/keys?all=true",
        "/management-keys",
        "/accounts",
        "/requests",
    ] {
        let shown = control(&simulator).get(path).await.body.to_string();
        assert!(!shown.contains(key.secret()) && !shown.contains(simulator.management_key()));
    }
}

#[tokio::test]
async fn a_management_key_is_expired_and_revoked() {
    let simulator = simulator().await;
    let (client, control) = (Client::of(&simulator), control(&simulator));
    let shown = control.get("/management-keys").await.body;
    let path = format!(
        "/management-keys/{}",
        shown["data"][0]["hash"].as_str().unwrap()
    );
    let change = json!({ "expires_at": "2026-12-01T00:00:00Z" });
    assert_eq!(control.post(&path, change).await.status, 204);
    let expiry = client.get("/key").await.body["data"]["expires_at"].clone();
    assert_eq!(expiry, json!("2026-12-01T00:00:00Z"));
    assert_eq!(
        control.post(&path, json!({ "revoked": true })).await.status,
        204
    );
    assert_eq!(client.get("/key").await.status, 401);
    assert_eq!(
        control.post("/management-keys/00", json!({})).await.status,
        404
    );
}

#[tokio::test]
async fn the_clock_is_read_set_and_advanced() {
    let simulator = simulator().await;
    let control = control(&simulator);
    assert_eq!(
        control.get("/clock").await.body["now"],
        json!("2026-11-20T12:00:00Z")
    );
    control
        .post("/clock", json!({ "advance_seconds": 90 }))
        .await;
    assert_eq!(
        simulator.clock().now(),
        "2026-11-20T12:01:30Z".parse().unwrap()
    );
    control
        .post("/clock", json!({ "set": "2027-01-01T00:00:00Z" }))
        .await;
    assert_eq!(
        simulator.clock().now(),
        "2027-01-01T00:00:00Z".parse().unwrap()
    );
}

#[tokio::test]
async fn latency_is_set() {
    let simulator = simulator().await;
    let set = control(&simulator)
        .post("/latency", json!({ "milliseconds": 60_000 }))
        .await;
    assert_eq!(set.status, 204);
    let client = Client::of(&simulator);
    let within = std::time::Duration::from_millis(300);
    assert!(
        tokio::time::timeout(within, client.get("/keys"))
            .await
            .is_err()
    );
}
