//! Vault is away while keys are rotated and used: what a client holds then, and when it is right again.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::agent::{agent, rendered};
use super::application::Tally;
use super::minute::Minute;
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
            // Its application keeps the last key that it was given.
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

/// With the operator's waits a tenth of what they are.
async fn nothing_is_lost(retries: Retries) {
    let mut vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    // What is left of the grace period after `ttl` is far longer than the outage and the longest retry.
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
    let retries = Retries {
        first: retries.first / 10,
        longest: retries.longest / 10,
    };
    let mut operator = Operator::new(&mount, retries);
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

/// What an operator does to have a key: it reads when `ttl` is over, and again if that failed.
struct Operator<'a> {
    mount: &'a Mount,
    retries: Retries,
    key: Option<String>,
    /// When it reads next.
    due: Instant,
    /// How long it waits after the next read that fails.
    wait: Duration,
    failures: u32,
}

/// How an operator waits between two reads that fail: twice as long each time.
#[derive(Clone, Copy)]
struct Retries {
    first: Duration,
    longest: Duration,
}

impl<'a> Operator<'a> {
    fn new(mount: &'a Mount, retries: Retries) -> Self {
        Self {
            mount,
            retries,
            key: None,
            due: Instant::now(),
            wait: retries.first,
            failures: 0,
        }
    }

    /// The key that it has given its application; reads if it is time to.
    async fn key(&mut self) -> Option<String> {
        if Instant::now() >= self.due {
            let path = self.mount.at("static-creds/app");
            let reply = self.mount.client().try_read(&path).await;
            let pause = if let Some(reply) = reply.filter(|reply| reply.status() == 200) {
                self.key = Some(reply.text("api_key"));
                self.wait = self.retries.first;
                Duration::from_secs(reply.integer("ttl").unsigned_abs())
            } else {
                self.failures += 1;
                let pause = self.wait;
                self.wait = (self.wait * 2).min(self.retries.longest);
                pause
            };
            self.due = Instant::now() + pause;
        }
        self.key.clone()
    }
}

/// Vault Secrets Operator: after five seconds, then up to a minute.
const VSO: Retries = Retries {
    first: Duration::from_secs(5),
    longest: Duration::from_mins(1),
};

/// External Secrets Operator: from a second up to seven minutes; the longest wait is not reached here.
const ESO: Retries = Retries {
    first: Duration::from_secs(1),
    longest: Duration::from_mins(7),
};
