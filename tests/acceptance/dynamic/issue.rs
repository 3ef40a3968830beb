//! What a read of a dynamic role's `creds/:name` returns, and what it costs.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use super::{dynamic, revoke};
use crate::harness::{Mount, SOON, Vault, eventually};

#[tokio::test]
async fn every_read_makes_a_key_of_its_own() {
    let mount = dynamic(json!({"limit": 5, "limit_reset": "daily"})).await;
    assert_eq!(
        mount.openrouter.hashes(),
        [""; 0],
        "none before it is asked"
    );
    let reply = mount.read("creds/ci").await.ok();
    let expected = [
        "api_key",
        "expires_at",
        "key_hash",
        "key_name",
        "limit",
        "limit_reset",
    ];
    assert_eq!(reply.fields(), expected);
    assert_eq!(
        (reply.field("limit"), reply.text("limit_reset").as_str()),
        (&json!(5), "daily")
    );
    let other = mount.read("creds/ci").await.ok();
    assert_ne!(reply.text("api_key"), other.text("api_key"));
    for reply in [&reply, &other] {
        assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
    }
    let made = mount.openrouter.account().keys();
    assert_eq!(made[0].hash, reply.text("key_hash"));
    assert_eq!(made[0].name, reply.text("key_name"));
    assert_eq!((made[0].limit, made.len()), (Some(5.0), 2));
}

#[tokio::test]
async fn the_lease_is_the_roles_and_the_key_expires_a_little_after_the_longest() {
    let mount = dynamic(json!({"ttl": "20m", "max_ttl": "2h"})).await;
    let before = mount.openrouter.clock().now();
    let reply = mount.read("creds/ci").await.ok();
    assert!(reply.renewable());
    assert_eq!(reply.lease_duration(), 1_200);
    assert!(reply.lease_id().starts_with(&mount.at("creds/ci/")));
    let expires_at: jiff::Timestamp = reply.text("expires_at").parse().unwrap();
    let life = expires_at.duration_since(before).as_secs();
    assert!((7_200..7_800).contains(&life), "{life}");
    assert_eq!(
        mount.openrouter.account().keys()[0].expires_at,
        Some(expires_at)
    );
}

#[tokio::test]
async fn a_read_costs_one_order_and_a_revocation_one_deletion() {
    let mount = dynamic(json!({})).await;
    mount.openrouter.requests().reset();
    let reply = mount.read("creds/ci").await.ok();
    revoke(mount.client(), &reply).await.ok();
    let seen = mount.openrouter.requests().all();
    let seen: Vec<&str> = seen.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(seen, ["POST", "DELETE"]);
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
}

#[tokio::test]
async fn no_more_leases_than_max_leases_are_alive() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let role = json!({"credential_type": "dynamic", "max_leases": 2});
    mount.role("ci", role).await.ok();
    let first = mount.read("creds/ci").await.ok();
    mount.read("creds/ci").await.ok();
    let full = mount.read("creds/ci").await;
    full.refused(429, &["max_leases", "\"ci\"", "2"]);
    for plugin in vault.plugin_processes() {
        plugin.kill();
    }
    eventually(
        "the plugin is back and knows its leases",
        SOON,
        async || {
            let full = mount.read("creds/ci").await;
            (full.status() == 429).then_some(())
        },
    )
    .await;
    assert_eq!(
        mount.read("roles/ci").await.ok().integer("living_leases"),
        2
    );
    revoke(mount.client(), &first).await.ok();
    mount.read("creds/ci").await.ok();
    assert_eq!(mount.openrouter.hashes().len(), 2);
}

#[tokio::test]
async fn a_hundred_clients_at_once_get_a_key_each_eight_at_a_time() {
    let mount = dynamic(json!({})).await;
    mount.openrouter.set_latency(Duration::from_millis(50));
    let reads = (0..100).map(|_| mount.read("creds/ci"));
    let mut keys: Vec<String> = join_all(reads)
        .await
        .into_iter()
        .map(|reply| reply.ok().text("key_hash"))
        .collect();
    keys.sort();
    let mut alive = mount.openrouter.hashes();
    alive.sort();
    assert_eq!(keys, alive);
    assert!(mount.openrouter.requests().high_water_mark() <= 8);
}

#[tokio::test]
async fn the_name_says_who_asked() {
    let mount = dynamic(json!({"key_name": "ci {{display_name}} {{entity_name}}"})).await;
    let client = mount.client();
    let auth = format!("userpass-{}", mount.path());
    client
        .write(&format!("sys/auth/{auth}"), json!({"type": "userpass"}))
        .await
        .ok();
    let policy = json!({"policy": format!("path \"{}\" {{ capabilities = [\"read\"] }}", mount.at("creds/ci"))});
    client
        .write(&format!("sys/policies/acl/{auth}"), policy)
        .await
        .ok();
    let user = json!({"password": "secret", "token_policies": auth});
    client
        .write(&format!("auth/{auth}/users/alice"), user)
        .await
        .ok();
    let login = format!("auth/{auth}/login/alice");
    let login = client
        .write(&login, json!({"password": "secret"}))
        .await
        .ok();
    let entity = login.json()["auth"]["entity_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let entity_name = format!("alice of {}", mount.path());
    let named = json!({"name": entity_name});
    client
        .write(&format!("identity/entity/id/{entity}"), named)
        .await
        .ok();
    let alice = client.with_token(login.json()["auth"]["client_token"].as_str().unwrap());
    let reply = alice.read(&mount.at("creds/ci")).await.ok();
    let name = reply.text("key_name");
    let expected = format!("ci {auth}-alice alice-of-{} ", mount.path());
    assert!(name.starts_with(&expected), "{name} is not {expected}");
    let root = mount.read("creds/ci").await.ok().text("key_name");
    assert!(root.starts_with("ci token none "), "{root}");
}

#[tokio::test]
async fn a_dynamic_role_needs_a_connection_and_openrouters_yes() {
    let mount = Mount::unconfigured().await;
    let role = json!({"credential_type": "dynamic"});
    let unconnected = mount.write("roles/ci", role.clone()).await;
    unconnected.refused(400, &["no connection \"default\""]);
    mount.connect().await.ok();
    mount.role("ci", role).await.ok();
    mount.openrouter.fail();
    mount
        .read("creds/ci")
        .await
        .refused(502, &["no key could be created"]);
    mount.openrouter.recover();
    mount.read("creds/ci").await.ok();
}
