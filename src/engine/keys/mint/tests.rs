//! Creating keys for leases: what they cost, how they are verified, and what happens to a key that nobody
//! takes. No path orders keys here.

use std::sync::Arc;

use openrouter_simulator::{Fault, KeyChanges, Options, Simulator};
use serde_json::json;

use super::*;
use crate::engine::clock::SystemClock;
use crate::engine::connection::Connection;
use crate::engine::keys::recover;
use crate::engine::names::{ConnectionName, Origin, Series};
use crate::engine::randomness::SystemRandomness;
use crate::engine::stored;
use crate::logical::{FixedSystemView, MemoryStorage, Mount, NoEvents};
use crate::openrouter::{SystemNetwork, WorkspaceId};

/// An engine with a connection, and its OpenRouter.
async fn engine() -> (Simulator, Engine) {
    let openrouter = Simulator::start(Options::default()).await.unwrap();
    let storage = MemoryStorage::default();
    let connection = json!({
        "management_key": openrouter.management_key(), "api_url": openrouter.base_url(),
        "description": "", "request_timeout": 30, "ca_certificate": null, "proxy_url": null,
        "proof": null,
    });
    let stored = stored::store::<Connection>(&storage, "config/default", &connection);
    stored.await.unwrap();
    let mount = Mount {
        storage: Arc::new(storage),
        system: Arc::new(FixedSystemView::default()),
        events: Arc::new(NoEvents),
        backend_uuid: "test".to_owned(),
    };
    let engine = Engine::new(
        mount,
        Arc::new(SystemClock),
        Arc::new(SystemRandomness),
        Arc::new(SystemNetwork),
    );
    (openrouter, engine)
}

fn place(workspace_id: Option<&WorkspaceId>) -> Place {
    Place {
        connection: ConnectionName::default(),
        workspace_id: workspace_id.cloned(),
    }
}

async fn lease(engine: &Engine, workspace_id: Option<&WorkspaceId>) -> Result<Minted, Error> {
    let order = Order {
        recipient: Recipient::Reader(&RoleName::new("app").unwrap()),
        life: &Life::default(),
        place: place(workspace_id),
        key_name: "app",
        ceiling: None,
        grant: None,
        limits: Limits::default(),
        guardrail: None,
        creator_user_id: None,
        lifetime: Some(3_600),
        in_use: 60,
        urgency: Urgency::Ordinary,
        caller_gone: &CancellationToken::new(),
    };
    mint(engine, order).await
}

async fn intents(engine: &Engine) -> usize {
    engine.storage.list("wal/").await.unwrap().len()
}

#[tokio::test]
async fn a_key_for_a_lease_costs_one_request() {
    let (openrouter, engine) = engine().await;
    let minted = lease(&engine, None).await.unwrap();
    assert_eq!(
        openrouter.requests().counts(),
        [("POST /keys".to_owned(), 1)].into()
    );
    let key = openrouter.account().keys().remove(0);
    assert_eq!(key.name, minted.name);
    assert_eq!(key.expires_at, minted.expires_at);
    assert_eq!(key.hash, minted.created.key.hash.as_str());
    let deleted = minted.in_flight.delete(&*engine.storage);
    deleted.await.unwrap();
    drop(minted);
    assert_eq!(recover(&engine, &place(None)).await, Ok(None));
    assert_eq!(openrouter.account().keys().len(), 1, "it is somebody's");
}

#[tokio::test]
async fn a_key_for_a_lease_that_is_not_what_was_ordered_is_deleted() {
    let (openrouter, engine) = engine().await;
    let account = openrouter.account();
    let home = WorkspaceId::parse(&account.add_workspace()).unwrap();
    let none = KeyChanges::default;
    let changes = [
        KeyChanges {
            limit: Some(Some(7.0)),
            ..none()
        },
        KeyChanges {
            name: Some("something else".to_owned()),
            ..none()
        },
        KeyChanges {
            expires_at: Some(None),
            ..none()
        },
        KeyChanges {
            workspace_id: Some(account.default_workspace()),
            ..none()
        },
        KeyChanges {
            disabled: Some(true),
            ..none()
        },
        KeyChanges {
            hash: Some("0".repeat(64)),
            ..none()
        },
    ];
    for change in changes {
        let fault = Fault::CreatedOtherwise(change.clone());
        openrouter.faults().add(fault.on("POST", "/keys"));
        let refusal = lease(&engine, Some(&home)).await.unwrap_err();
        assert!(
            matches!(refusal, Error::Unproven(_)),
            "{change:?}: {refusal}"
        );
        recover(&engine, &place(Some(&home))).await.unwrap();
        assert!(account.keys().is_empty(), "{change:?}");
        assert_eq!(intents(&engine).await, 0, "{change:?}");
    }
}

#[tokio::test]
async fn a_key_for_a_lease_that_nobody_took_is_deleted_whatever_the_role_has() {
    let (openrouter, engine) = engine().await;
    drop(lease(&engine, None).await.unwrap());
    assert_eq!(intents(&engine).await, 1);
    assert_eq!(recover(&engine, &place(None)).await, Ok(None));
    assert!(openrouter.account().keys().is_empty());
    assert_eq!(intents(&engine).await, 0);
}

#[tokio::test]
async fn a_lease_does_not_wait_for_what_came_of_another() {
    let (openrouter, engine) = engine().await;
    openrouter
        .faults()
        .add(Fault::LostReply.on("POST", "/keys"));
    lease(&engine, None).await.unwrap_err();
    openrouter.requests().reset();
    lease(&engine, None).await.unwrap();
    assert_eq!(
        openrouter.requests().counts(),
        [("POST /keys".to_owned(), 1)].into()
    );
}

#[tokio::test]
async fn an_intent_is_read_back_as_it_was_stored() {
    for (purpose, stored) in [
        (Purpose::Lease, json!("lease")),
        (
            Purpose::Rotation { version: 2 },
            json!({"rotation": {"version": 2}}),
        ),
    ] {
        let role = RoleName::new("app").unwrap();
        let origin = Origin::new("test", &role, &Life::default());
        let intent = Intent {
            nonce: Nonce::new(&origin, &Series::new(&SystemRandomness)),
            role,
            purpose,
            key_name: "app".to_owned(),
            place: place(None),
            in_use: Some(600),
            rejected: None,
            grant: None,
        };
        let value = serde_json::to_value(&intent).unwrap();
        assert_eq!(value["purpose"], stored);
        assert_eq!(value["connection"], "default");
        assert_eq!(serde_json::from_value::<Intent>(value).unwrap(), intent);
    }
}
