//! Forgetting a role or a connection that cannot be deleted: the keys that are left behind are named.

use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::json;

use crate::crash::kill_plugin;
use crate::harness::{Mount, Reply, SOON, Vault, eventually};

/// The hashes in an answer.
fn left_behind(reply: &Reply) -> Vec<&str> {
    let hashes = reply.field("keys_left_behind").as_array().unwrap();
    hashes.iter().map(|hash| hash.as_str().unwrap()).collect()
}

/// The hashes of the living keys, in the form of an answer.
fn sorted(mut hashes: Vec<String>) -> Vec<String> {
    hashes.sort_unstable();
    hashes
}

#[tokio::test]
async fn a_forgotten_role_leaves_nothing_behind_while_openrouter_is_up() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let reply = mount.write("forget-role/app", json!({})).await.ok();
    assert_eq!(left_behind(&reply), [""; 0]);
    reply.without_warnings();
    mount.read("roles/app").await.absent();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
}

#[tokio::test]
async fn a_forgotten_role_names_the_keys_that_could_not_be_revoked() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    mount.openrouter.fail();
    let reply = mount.write("forget-role/app", json!({})).await.ok();
    let living = sorted(mount.openrouter.hashes());
    assert_eq!(living.len(), 2);
    assert_eq!(left_behind(&reply), living);
    reply.warns(&["2 of the role's keys may still work", "503"]);
    mount.read("roles/app").await.absent();
}

#[tokio::test]
async fn a_role_is_forgotten_without_a_word_to_openrouter_if_its_keys_are_to_live() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    let key = mount.key("app").await;
    mount.openrouter.requests().reset();
    let reply = mount
        .write("forget-role/app", json!({"revoke_keys": false}))
        .await
        .ok();
    assert_eq!(mount.openrouter.requests().all(), []);
    assert_eq!(left_behind(&reply), mount.openrouter.hashes());
    mount.read("roles/app").await.absent();
    assert!(mount.openrouter.accepts(&key).await);

    // A new role with that name is a different role: it does not take over the key, not even at a start.
    mount.role("app", json!({})).await;
    mount.openrouter.requests().reset();
    kill_plugin(&vault).await;
    let compared = async || {
        let status = mount.read("status").await;
        let begun = !mount.openrouter.requests().to("GET", "/keys").is_empty();
        (begun && status.status() == 200).then_some(())
    };
    eventually("the keys are compared", SOON, compared).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    mount.delete("roles/app").await.ok();
    assert!(mount.openrouter.accepts(&key).await);
    assert_eq!(mount.openrouter.hashes().len(), 1);
}

#[tokio::test]
async fn a_forgotten_connection_names_the_keys_made_with_it_and_can_be_written_again() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    mount.read("creds/ci").await.ok();
    let living = sorted(mount.openrouter.hashes());
    let reply = mount.write("forget-connection/default", json!({})).await;
    let reply = reply.ok().warns(&["2 keys can no longer be revoked"]);
    assert_eq!(left_behind(&reply), living);
    mount.read("config").await.absent();
    let without = mount.write("rotate-role/app", json!({})).await;
    without.refused(400, &["no connection \"default\""]);

    mount.connect().await.ok();
    mount.write("rotate-role/app", json!({})).await.ok();
    mount.delete("roles/app").await.ok();
    assert_eq!(mount.openrouter.hashes().len(), 1, "the lease's key");
}

#[tokio::test]
async fn what_is_not_there_cannot_be_forgotten() {
    let mount = Mount::new().await;
    let role = mount.write("forget-role/none", json!({})).await;
    role.refused(400, &["none"]);
    let connection = mount.write("forget-connection/none", json!({})).await;
    connection.refused(400, &["none"]);
}

/// The answer, which names the keys, reaches no one.
#[tokio::test]
async fn what_is_left_behind_is_in_the_log_although_the_caller_has_given_up() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let faults = mount.openrouter.faults();
    // One deletion hangs, the other fails.
    faults.add(Fault::held().on("DELETE", "/keys/*"));
    faults.add(Fault::status(503).on("DELETE", "/keys/*").forever());
    let impatient = mount.client().giving_up_after(Duration::from_secs(2));
    let path = mount.at("forget-role/app");
    let forgotten = impatient.try_write(&path, json!({})).await;
    assert!(forgotten.is_none(), "it was answered");
    faults.clear();
    let is_forgotten = async || (mount.read("roles/app").await.status() == 404).then_some(());
    eventually("the role is forgotten", SOON, is_forgotten).await;
    let living = mount.openrouter.hashes();
    assert_eq!(living.len(), 1);
    let log = vault.log();
    let named = |line: &&str| line.contains("is left behind") && line.contains(&living[0]);
    assert_eq!(log.lines().filter(named).count(), 1, "{log}");
}
