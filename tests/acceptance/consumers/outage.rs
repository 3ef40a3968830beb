//! Vault is away while keys are rotated and used: what a client holds then, and when it is right again.
//!
//! The clients' retries are those that were measured, ten times as fast.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::application::Tally;
use crate::harness::{Mount, RaftVault};

/// How a client waits between two reads that fail.
struct Retries {
    first: Duration,
    longest: Duration,
}

/// Vault Secrets Operator: after five seconds, then up to a minute.
const VSO: Retries = Retries {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(6),
};

/// External Secrets Operator: exponentially, up to seven minutes; the longest wait is not reached here.
const ESO: Retries = Retries {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(42),
};

#[tokio::test]
async fn an_outage_shorter_than_grace_without_ttl_costs_vault_secrets_operator_nothing() {
    nothing_is_lost(&VSO).await;
}

#[tokio::test]
async fn nor_external_secrets_operator() {
    nothing_is_lost(&ESO).await;
}

async fn nothing_is_lost(retries: &Retries) {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    // What is left of the grace period after `ttl` is far longer than the outage and the longest retry.
    let fields = json!({"rotation_period": 6, "rotation_grace_period": 90, "ttl": 4});
    mount.role("app", fields).await;
    let back = Cell::new(false);
    let failures = Cell::new(0_u32);
    let outage = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        vault.stop();
        tokio::time::sleep(Duration::from_secs(6)).await;
        vault.start().await;
        back.set(true);
    };
    let (mut key, mut due, mut wait) = (None, Instant::now(), retries.first);
    let mut keys_before = 0;
    let current = async || {
        if Instant::now() >= due {
            let reply = mount
                .client()
                .try_read(&mount.at("static-creds/app"))
                .await
                .filter(|reply| reply.status() == 200);
            let pause = if let Some(reply) = reply {
                key = Some(reply.text("api_key"));
                wait = retries.first;
                Duration::from_secs(reply.integer("ttl").try_into().unwrap())
            } else {
                failures.set(failures.get() + 1);
                let pause = wait;
                wait = (wait * 2).min(retries.longest);
                pause
            };
            due = Instant::now() + pause;
        }
        key.clone()
    };
    let done = |tally: &Tally| {
        if !back.get() {
            keys_before = tally.keys.len();
        }
        back.get() && tally.keys.len() > keys_before + 1
    };
    let (used, ()) = tokio::join!(Tally::of(&mount, current, done), outage);
    used.is_flawless();
    assert!(failures.get() > 0, "the outage was noticed");
}
