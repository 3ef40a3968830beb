//! Starting, stopping, inspecting an account and changing it behind a client's back.

use openrouter_simulator::{NewKey, Options, Simulator, StartError};
use serde_json::json;

use crate::client::{Client, simulator};

#[tokio::test]
async fn a_deleted_key_is_remembered_among_all_keys() {
    let simulator = simulator().await;
    let account = simulator.account();
    let key = account.create_key(NewKey::named("app"));
    account.delete_key(&key.hash).unwrap();
    assert!(account.keys().is_empty());
    assert_eq!(account.all_keys().len(), 1);
    assert_eq!(
        account.key(&key.hash).unwrap().deleted_at,
        Some(simulator.clock().now())
    );
    assert!(account.delete_key(&key.hash).is_err());
    let path = format!("/keys/{}", key.hash);
    assert_eq!(Client::of(&simulator).get(&path).await.status, 404);
}

#[tokio::test]
async fn living_keys_include_the_disabled_and_the_expired() {
    let simulator = simulator().await;
    let account = simulator.account();
    let disabled = account.create_key(NewKey::named("disabled"));
    account.set_disabled(&disabled.hash, true).unwrap();
    let expired = account.create_key(NewKey::named("expired"));
    let now = simulator.clock().now();
    account.set_expiry(&expired.hash, Some(now)).unwrap();
    let usable: Vec<_> = account
        .keys()
        .iter()
        .map(|key| key.is_usable(now))
        .collect();
    assert_eq!(usable, [false, false]);
}

#[tokio::test]
async fn what_the_client_created_can_be_looked_into() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let (hash, secret) = client.create(json!({ "name": "app", "limit": 3 })).await;
    let key = simulator.account().key(&hash).unwrap();
    assert_eq!(
        (key.name.as_str(), key.limit, key.secret()),
        ("app", Some(3.0), secret.as_str())
    );
    assert_eq!(key.workspace_id, simulator.account().default_workspace());
}

#[tokio::test]
async fn a_stopped_simulator_closes_its_connections_and_frees_its_address() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    client.get("/keys").await;
    let address = simulator.base_url();
    let address = address
        .trim_start_matches("http://")
        .trim_end_matches("/api/v1")
        .to_owned();
    simulator.shutdown().await;
    assert!(
        client
            .send(reqwest::Method::GET, "/keys", None)
            .await
            .is_err()
    );

    let again = Options {
        listen: address.parse().unwrap(),
        ..Options::default()
    };
    Simulator::start(again).await.unwrap();
}

#[tokio::test]
async fn a_dropped_simulator_stops() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    client.get("/keys").await;
    drop(simulator);
    let stopped = async {
        while client
            .send(reqwest::Method::GET, "/keys", None)
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), stopped)
        .await
        .unwrap();
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let options = Options {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..Options::default()
    };
    let error = Simulator::start(options).await.unwrap_err();
    assert!(matches!(error, StartError::NotLoopback(_)));

    let options = Options {
        workspaces: vec!["main".into()],
        ..Options::default()
    };
    let error = Simulator::start(options).await.unwrap_err();
    assert!(matches!(error, StartError::NotAWorkspace(_)));

    let options = Options {
        management_keys: vec!["hunter2".into()],
        ..Options::default()
    };
    let error = Simulator::start(options).await.unwrap_err();
    assert!(matches!(error, StartError::NotAManagementKey));
    assert!(!error.to_string().contains("hunter2"));
}
