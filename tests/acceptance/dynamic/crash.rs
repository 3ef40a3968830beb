//! The plugin is killed while a key of a lease is created or deleted.

use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::json;

use super::revoke;
use crate::crash::kill_plugin;
use crate::harness::{Mount, Vault, eventually};

#[tokio::test]
async fn a_plugin_that_dies_while_it_makes_a_key_leaves_none_that_nobody_has() {
    let vault = Vault::dev().await;
    let mut callers = Vec::new();
    let mut mounts = Vec::new();
    for after_effect in [false, true] {
        let mount = Mount::on(vault.client()).await;
        // The key is left alone for the duration of a lease, because a restored snapshot may have lost its
        // reader.
        let role = json!({"credential_type": "dynamic", "ttl": 10});
        mount.role("ci", role).await;
        let held = Fault::Held { after_effect };
        mount.openrouter.faults().add(held.on("POST", "/keys"));
        let (client, path) = (mount.client().clone(), mount.at("creds/ci"));
        callers.push(tokio::spawn(async move { client.read(&path).await }));
        mount.openrouter.holding(1).await;
        mounts.push(mount);
    }
    kill_plugin(&vault).await;
    for mount in &mounts {
        // The request that is on its way arrives only now.
        mount.openrouter.recover();
    }
    for (mount, caller) in mounts.iter().zip(callers) {
        // The server repeats the request in a new process, or fails it; either may happen.
        let reply = caller.await.unwrap();
        let given = (reply.status() == 200).then(|| reply.text("key_hash"));
        // Wakes the plugin, as any request does.
        mount.read("roles/ci").await.ok();
        // One key was created for nothing, however late its order arrives.
        let orders = 1 + given.iter().len();
        let alone = async || {
            let made = mount.openrouter.account().all_keys().len();
            let known = |hash: &String| given.as_ref() == Some(hash);
            (made == orders && mount.openrouter.hashes().iter().all(known)).then_some(())
        };
        eventually("no key is left that nobody was given", FOUND, alone).await;
    }
}

#[tokio::test]
async fn a_plugin_that_dies_while_it_deletes_a_key_does_so_when_it_is_asked_again() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    for after_effect in [false, true] {
        mount
            .role("ci", json!({"credential_type": "dynamic"}))
            .await;
        let lease = mount.read("creds/ci").await.ok();
        let held = Fault::Held { after_effect };
        mount.openrouter.faults().add(held.on("DELETE", "/keys/*"));
        let (client, body) = (
            mount.client().clone(),
            json!({"lease_id": lease.lease_id(), "sync": true}),
        );
        let caller = tokio::spawn(async move { client.write("sys/leases/revoke", body).await });
        mount.openrouter.holding(1).await;
        kill_plugin(&vault).await;
        mount.openrouter.recover();
        // The server repeats the request in a new process, or fails it; either may happen.
        if caller.await.unwrap().status() >= 400 {
            revoke(mount.client(), &lease).await.ok();
        }
        assert_eq!(mount.openrouter.hashes(), [""; 0]);
        let role = mount.read("roles/ci").await.ok();
        assert_eq!(role.integer("living_leases"), 0);
    }
}

/// The engine searches for a lost key at once, and again after 5, 30 and 120 seconds.
const FOUND: Duration = Duration::from_secs(240);
