//! Vault is away while keys are rotated and used: which key a client holds, and when it has a working key
//! again.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;

use super::agent::{agent, rendered};
use super::application::Tally;
use super::minute::Minute;
use super::operator::{ESO, Habits, Operator, VSO};
use super::proxy::proxy;
use crate::harness::{Mount, RaftVault};

#[tokio::test]
async fn an_outage_shorter_than_grace_without_ttl_costs_vault_secrets_operator_nothing() {
    nothing_is_lost(VSO).await;
}

#[tokio::test]
async fn an_outage_shorter_than_grace_without_ttl_costs_external_secrets_operator_nothing() {
    nothing_is_lost(ESO).await;
}

#[tokio::test]
async fn a_minute_without_vault_costs_no_client_its_key_until_ttl_has_passed_since() {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    let minute = Minute::of(&mount, 4).await;
    let agent = agent(&mount).await;
    let (_proxy, proxy) = proxy(&mount).await;
    let proxy = proxy.giving_up_after(Duration::from_secs(2));
    let mut read = None;
    let mut vso = Operator::new(&mount, VSO);
    let mut eso = Operator::new(&mount, ESO);
    tokio::join!(
        minute.is_survived_by("Vault Agent", async || rendered(&agent)),
        minute.is_survived_by("Vault Proxy", async || {
            // Its application keeps the last key that it got.
            let reply = proxy.try_read(&mount.at("creds/app")).await;
            if let Some(reply) = reply.filter(|reply| reply.status() == 200) {
                read = Some(reply.text("api_key"));
            }
            read.clone()
        }),
        minute.is_survived_by("Vault Secrets Operator, emulated", async || vso.key().await),
        minute.is_survived_by("External Secrets Operator, emulated", async || eso
            .key()
            .await),
        minute.passes(&mut vault),
    );
}

/// The operator's waits are a tenth of the real ones.
async fn nothing_is_lost(habits: Habits) {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    // The rest of the grace period after `ttl` is far longer than the outage and the longest retry.
    let fields = json!({"rotation_period": 6, "rotation_grace_period": 90, "ttl": 4});
    mount.role("app", fields).await;
    let back = Cell::new(false);
    let outage = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        vault.stop();
        tokio::time::sleep(Duration::from_secs(6)).await;
        vault.start().await;
        back.set(true);
    };
    let mut operator = Operator::new(&mount, habits.hurried(10));
    let mut keys_before = 0;
    let done = |tally: &Tally| {
        if !back.get() {
            keys_before = tally.keys.len();
        }
        back.get() && tally.keys.len() > keys_before + 1
    };
    let used = Tally::of(&mount, async || operator.key().await, done);
    let (used, ()) = tokio::join!(used, outage);
    used.is_flawless();
    assert!(operator.failures > 0, "the outage was noticed");
}
