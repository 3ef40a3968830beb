//! `GET /keys` and `GET /keys/{hash}`.

use std::collections::HashSet;
use std::time::Duration;

use openrouter_simulator::{ListDelay, NewKey};
use serde_json::json;

use crate::client::{Client, sha256_hex, simulator};

#[tokio::test]
async fn a_page_has_a_hundred_keys_newest_first_and_offset_leads_on() {
    let simulator = simulator().await;
    simulator.account().create_keys("k", 205);
    let client = Client::of(&simulator);
    let first = client.names("/keys").await;
    assert_eq!(first.len(), 100);
    assert_eq!((first[0].as_str(), first[99].as_str()), ("k 205", "k 106"));
    let second = client.names("/keys?offset=100").await;
    let third = client.names("/keys?offset=200").await;
    assert_eq!(third, ["k 5", "k 4", "k 3", "k 2", "k 1"]);
    assert!(client.names("/keys?offset=205").await.is_empty());
    let all: HashSet<_> = [first, second, third].concat().into_iter().collect();
    assert_eq!(all.len(), 205);
}

#[tokio::test]
async fn disabled_and_expired_keys_are_listed_only_on_request() {
    let simulator = simulator().await;
    let account = simulator.account();
    account.create_key(NewKey::named("plain"));
    let disabled = account.create_key(NewKey::named("disabled"));
    account.set_disabled(&disabled.hash, true).unwrap();
    let expiry = "2026-11-20T12:30:00Z".parse().unwrap();
    account.create_key(NewKey {
        expires_at: Some(expiry),
        ..NewKey::named("expired")
    });
    simulator.clock().set(expiry);

    let client = Client::of(&simulator);
    assert_eq!(client.names("/keys").await, ["plain"]);
    assert_eq!(
        client.names("/keys?include_disabled=true").await,
        ["disabled", "plain"]
    );
    assert_eq!(
        client.names("/keys?include_expired=true").await,
        ["expired", "plain"]
    );
    let both = client
        .names("/keys?include_disabled=true&include_expired=true")
        .await;
    assert_eq!(both, ["expired", "disabled", "plain"]);
    assert_eq!(
        client.names("/keys?include_disabled=false").await,
        ["plain"]
    );
}

#[tokio::test]
async fn a_list_shows_one_workspace_the_default_one_if_none_is_named() {
    let simulator = simulator().await;
    let account = simulator.account();
    let other = account.add_workspace();
    account.create_key(NewKey::named("here"));
    account.create_key(NewKey {
        workspace_id: Some(other.clone()),
        ..NewKey::named("there")
    });

    let client = Client::of(&simulator);
    assert_eq!(client.names("/keys").await, ["here"]);
    assert_eq!(
        client.names(&format!("/keys?workspace_id={other}")).await,
        ["there"]
    );
}

#[tokio::test]
async fn a_list_of_an_unknown_workspace_is_not_found() {
    let simulator = simulator().await;
    let unknown = "/keys?workspace_id=00000000-0000-4000-8000-000000000000";
    assert_eq!(Client::of(&simulator).get(unknown).await.status, 404);
}

#[tokio::test]
async fn a_query_that_is_not_documented_is_refused() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    for query in [
        "limit=10",
        "include_disabled=1",
        "offset=-1",
        "offset=x",
        "workspace_id=main",
    ] {
        assert_eq!(
            client.get(&format!("/keys?{query}")).await.status,
            400,
            "{query}"
        );
    }
}

#[tokio::test]
async fn management_keys_are_not_listed_and_cannot_be_read() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    assert!(client.names("/keys?include_disabled=true").await.is_empty());
    let path = format!("/keys/{}", sha256_hex(simulator.management_key()));
    assert_eq!(client.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_key_is_read_by_its_hash_in_whichever_workspace_and_state_it_is() {
    let simulator = simulator().await;
    let account = simulator.account();
    let workspace_id = Some(account.add_workspace());
    let key = account.create_key(NewKey {
        workspace_id,
        ..NewKey::named("k")
    });
    account.set_disabled(&key.hash, true).unwrap();
    let answer = Client::of(&simulator)
        .get(&format!("/keys/{}", key.hash))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["data"]["name"], json!("k"));
    assert_eq!(answer.body["data"]["disabled"], json!(true));
    assert!(answer.body.get("key").is_none());
}

#[tokio::test]
async fn an_unknown_hash_is_not_found() {
    let simulator = simulator().await;
    let client = Client::of(&simulator);
    let path = format!("/keys/{}", "0".repeat(64));
    for answer in [
        client.get(&path).await,
        client.patch(&path, json!({ "disabled": true })).await,
        client.delete(&path).await,
    ] {
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (404, "Resource not found")
        );
    }
}

#[tokio::test]
async fn a_key_hidden_for_some_listings_can_be_read_but_not_found_until_they_are_over() {
    let simulator = simulator().await;
    let account = simulator.account();
    account.create_key(NewKey::named("old"));
    let key = account.create_key(NewKey::named("new"));
    account
        .hide_newest_key_from_lists(ListDelay::Listings(2))
        .unwrap();

    let client = Client::of(&simulator);
    assert_eq!(client.names("/keys").await, ["old"]);
    assert_eq!(client.get(&format!("/keys/{}", key.hash)).await.status, 200);
    assert_eq!(client.names("/keys").await, ["old"]);
    assert_eq!(client.names("/keys").await, ["new", "old"]);
}

#[tokio::test]
async fn keys_can_be_hidden_from_lists_for_a_time_as_soon_as_they_are_created() {
    let simulator = simulator().await;
    let delay = ListDelay::For(Duration::from_secs(5));
    simulator.account().hide_new_keys_from_lists(Some(delay));
    let client = Client::of(&simulator);
    client.create(json!({ "name": "late" })).await;
    assert!(client.names("/keys").await.is_empty());
    simulator.clock().advance(Duration::from_secs(5));
    assert_eq!(client.names("/keys").await, ["late"]);

    simulator.account().hide_new_keys_from_lists(None);
    client.create(json!({ "name": "at once" })).await;
    assert_eq!(client.names("/keys").await, ["at once", "late"]);
}
