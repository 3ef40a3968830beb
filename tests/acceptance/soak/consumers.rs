//! Readers that take keys, and check for each whether its promise is kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;
use tokio::task::JoinSet;

use super::{LEASED, ROLES, Soak, role};
use crate::harness::{Client, Reply};

impl Soak {
    /// Reads the keys of rotating roles at random, and checks for each whether it lives as long as promised.
    pub(super) async fn read_on_and_on(self: Arc<Self>, clients: Vec<Client>, mut random: Rng) {
        let mut promises = JoinSet::new();
        while !self.over.load(Ordering::Relaxed) {
            let name = role(random.u64(0..ROLES));
            let client = random.choice(&clients).expect("there is one");
            let asked = Instant::now();
            match self.take(client, &name).await {
                Some(reply) if reply.status() == 200 => {
                    self.counts.keys_handed_out.add();
                    let ttl = reply.integer("ttl").unsigned_abs();
                    let promise = Promise {
                        hash: reply.text("key_hash"),
                        asked,
                        until: asked + Duration::from_secs(ttl),
                    };
                    promises.spawn(Arc::clone(&self).hold_to(promise));
                }
                // The engine's own rejection, if server and plugin were running.
                Some(reply) if reply.status() == 400 && !self.restores.undid(asked) => {
                    println!("{reply}");
                    self.counts.without_a_key.add();
                }
                _ => self.counts.unanswered.add(),
            }
            tokio::time::sleep(Duration::from_millis(random.u64(10..200))).await;
        }
        promises.join_all().await;
    }

    /// Leases keys, and checks for each whether it lives as long as its lease. The lease is then revoked or
    /// expires.
    pub(super) async fn lease_on_and_on(self: Arc<Self>, clients: Vec<Client>, mut random: Rng) {
        let mut promises = JoinSet::new();
        while !self.over.load(Ordering::Relaxed) {
            let client = random.choice(&clients).expect("there is one").clone();
            let asked = Instant::now();
            match self.take(&client, LEASED).await {
                Some(reply) if reply.status() == 200 => {
                    self.counts.leases.add();
                    let ttl = Duration::from_secs(reply.lease_duration().unsigned_abs());
                    let revoked = random.bool().then(|| ttl.mul_f64(random.f64()));
                    let promise = Promise {
                        hash: reply.text("key_hash"),
                        asked,
                        until: asked + revoked.unwrap_or(ttl),
                    };
                    let (soak, lease) = (Arc::clone(&self), reply.lease_id());
                    promises.spawn(async move {
                        Arc::clone(&soak).hold_to(promise).await;
                        if revoked.is_some() {
                            soak.revoke(&client, &lease).await;
                        }
                    });
                }
                // Creating a key needs OpenRouter.
                _ => self.counts.unanswered.add(),
            }
            tokio::time::sleep(Duration::from_millis(random.u64(50..500))).await;
        }
        promises.join_all().await;
    }

    /// Requests keys and rotations, and waits for each only a moment.
    pub(super) async fn give_up_on_and_on(self: Arc<Self>, clients: Vec<Client>, mut random: Rng) {
        while !self.over.load(Ordering::Relaxed) {
            let limit = Duration::from_millis(random.u64(1..500));
            let client = random.choice(&clients).expect("there is one");
            let client = client.giving_up_after(limit);
            let answer = match random.u32(0..4) {
                0 => {
                    let path = format!("rotate-role/{}", role(random.u64(0..ROLES)));
                    client.try_write(&self.mount.at(&path), json!({})).await
                }
                1 => self.take(&client, &role(random.u64(0..ROLES))).await,
                _ => self.take(&client, LEASED).await,
            };
            match answer {
                None => self.counts.given_up.add(),
                Some(_) => self.counts.in_time.add(),
            }
            tokio::time::sleep(Duration::from_millis(random.u64(50..500))).await;
        }
    }

    async fn take(&self, client: &Client, role: &str) -> Option<Reply> {
        let path = self.mount.at(&format!("creds/{role}"));
        client.try_read(&path).await
    }

    /// Revokes a lease, if a server is running. Otherwise the lease expires.
    async fn revoke(&self, client: &Client, lease: &str) {
        let lease = json!({"lease_id": lease, "sync": true});
        let reply = client.try_write("sys/leases/revoke", lease).await;
        if reply.is_some_and(|reply| reply.status() == 204) {
            self.counts.revocations.add();
        }
    }

    /// A key was promised to live until then.
    async fn hold_to(self: Arc<Self>, promise: Promise) {
        let Promise { hash, asked, until } = promise;
        tokio::time::sleep_until((until - LOOK_BEFORE).into()).await;
        let key = self.mount.openrouter.account().key(&hash);
        let alive = key.is_some_and(|key| key.deleted_at.is_none() && !key.disabled);
        // A check that is too late proves nothing.
        if alive || Instant::now() >= until {
            return;
        }
        if self.restores.undid(asked) {
            self.counts.undone.add();
        } else {
            println!("{hash} died early");
            self.counts.early_deaths.add();
        }
    }
}

/// What the reader of a key was promised.
struct Promise {
    hash: String,
    /// When the key was requested.
    asked: Instant,
    /// The key is valid for at least this long.
    until: Instant,
}

/// How long before its promised end a key is checked.
const LOOK_BEFORE: Duration = Duration::from_millis(100);
