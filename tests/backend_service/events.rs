//! Events, on servers with and without an event bus.

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::vault_host::{Mount, Vault};
use crate::support::vault_mount::{EventBus, MountServer};
use crate::{PATIENCE, connect, openrouter, until};

async fn mount_with_role(
    vault: &Vault,
    event_bus: EventBus,
    openrouter: &openrouter_simulator::Simulator,
) -> Mount {
    let server = MountServer::default();
    server.set_event_bus(event_bus);
    let mount = vault.mount_on(server).await;
    connect(&mount, openrouter).await;
    mount.request("create", "roles/app", json!({})).await.done();
    mount
}

#[tokio::test]
async fn a_rotation_is_news_without_secrets() {
    let (vault, openrouter) = (Vault::start().await, openrouter().await);
    let mount = mount_with_role(&vault, EventBus::Takes, &openrouter).await;
    let before = mount.request("read", "creds/app", Value::Null).await.data();
    mount
        .request("update", "rotate-role/app", json!({}))
        .await
        .done();
    until("the event arrives", || !mount.server.events().is_empty()).await;
    let after = mount.request("read", "creds/app", Value::Null).await.data();

    let events = mount.server.events();
    let [event] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(event.event_type, "openrouter/rotate");
    let news = event.event.as_ref().unwrap();
    assert!(!news.id.is_empty());
    let metadata = &news.metadata.as_ref().unwrap().fields;
    let text = |field: &str| match metadata[field].kind.as_ref().unwrap() {
        prost_types::value::Kind::StringValue(text) => text.clone(),
        other => panic!("{field} is {other:?}"),
    };
    assert_eq!(text("path"), "roles/app");
    assert_eq!(text("operation"), "rotate");
    assert_eq!(text("modified"), "true");
    let shown = format!("{event:?}");
    for secret in [
        before["api_key"].as_str().unwrap(),
        after["api_key"].as_str().unwrap(),
        openrouter.management_key(),
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_server_without_an_event_bus_misses_nothing_else() {
    let (vault, openrouter) = (Vault::start().await, openrouter().await);
    let mount = mount_with_role(&vault, EventBus::Unknown, &openrouter).await;
    let rotated = mount.request("update", "rotate-role/app", json!({})).await;
    assert_eq!(rotated.data()["key_version"], 2);
    assert!(mount.server.events().is_empty());
}

#[tokio::test]
async fn an_event_bus_that_does_not_answer_holds_nothing_up_for_long() {
    let (vault, openrouter) = (Vault::start().await, openrouter().await);
    let mount = mount_with_role(&vault, EventBus::Hangs, &openrouter).await;
    let rotate = mount.request("update", "rotate-role/app", json!({}));
    let rotated = timeout(PATIENCE, rotate).await;
    assert_eq!(rotated.expect("it hangs too").data()["key_version"], 2);
}
