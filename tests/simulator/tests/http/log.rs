//! The request log and the count of requests in flight.

use std::collections::BTreeMap;
use std::time::Duration;

use openrouter_simulator::{Caller, Fault};
use serde_json::json;

use crate::client::{Client, simulator};

#[tokio::test]
async fn every_request_is_logged_with_its_caller_and_its_outcome() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, secret) = client.create(json!({ "name": "app" })).await;
    client.with(&secret).get("/key").await;
    client
        .with("sk-or-v1-unknown")
        .get("/keys?offset=100")
        .await;
    client.anonymous().get("/nowhere").await;
    client.delete(&format!("/keys/{hash}")).await;
    client.with(&secret).get("/key").await;

    let log = simulator.requests().all();
    let lines: Vec<_> = log
        .iter()
        .map(|r| (r.number, r.endpoint(), r.status))
        .collect();
    let expected = [
        (1, "POST /keys", 201),
        (2, "GET /key", 200),
        (3, "GET /keys", 401),
        (4, "GET /nowhere", 404),
        (5, "DELETE /keys/{hash}", 200),
        (6, "GET /key", 401),
    ];
    assert_eq!(
        lines,
        expected.map(|(n, endpoint, status)| (n, endpoint.into(), Some(status)))
    );
    assert_eq!(log[0].body, Some(json!({ "name": "app" })));
    assert_eq!(log[0].at, simulator.clock().now());
    assert!(matches!(&log[0].caller, Caller::Management { label } if label.contains("...")));
    assert_eq!(log[1].caller, Caller::Key { hash: hash.clone() });
    assert_eq!(log[2].caller, Caller::Unknown);
    assert_eq!(log[2].query.as_deref(), Some("offset=100"));
    assert_eq!(log[3].caller, Caller::Anonymous);
    assert!(matches!(&log[5].caller, Caller::Refused { .. }));
    assert!(!serde_json::to_string(&log).unwrap().contains(&secret));
}

#[tokio::test]
async fn requests_are_counted_by_endpoint_until_the_log_is_reset() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    for _ in 0..2 {
        client.create(json!({ "name": "app" })).await;
    }
    client.get("/keys").await;
    let expected = BTreeMap::from([("GET /keys".to_owned(), 1), ("POST /keys".to_owned(), 2)]);
    assert_eq!(simulator.requests().counts(), expected);
    assert_eq!(simulator.requests().to("POST", "/keys").len(), 2);

    simulator.requests().reset();
    assert!(simulator.requests().all().is_empty());
    assert_eq!(simulator.requests().high_water_mark(), 0);
    client.get("/keys").await;
    assert_eq!(simulator.requests().all()[0].number, 4);
}

#[tokio::test]
async fn the_high_water_mark_is_the_most_management_requests_in_flight_at_once() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (_, secret) = client.create(json!({ "name": "app" })).await;
    assert_eq!(simulator.requests().high_water_mark(), 1);

    simulator.set_latency(Duration::from_secs(3));
    let three =
        async { tokio::join!(client.get("/keys"), client.get("/key"), client.get("/keys")) };
    let ordinary = client.with(&secret);
    tokio::join!(three, ordinary.get("/key"), ordinary.get("/key"));
    assert_eq!(simulator.requests().high_water_mark(), 3);
    assert_eq!(simulator.requests().in_flight(), 0);
}

#[tokio::test]
async fn a_fault_and_a_reset_connection_are_visible_in_the_log() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    simulator.faults().add(Fault::LostReply.on("GET", "/keys"));
    client
        .send(reqwest::Method::GET, "/keys", None)
        .await
        .unwrap_err();
    let log = simulator.requests().all();
    assert_eq!((log[0].fault, log[0].status), (Some("lost_reply"), None));
    assert_eq!(simulator.requests().in_flight(), 0);
}
