//! The soak: fifty roles that rotate every few seconds, a role that creates a key for every lease, random
//! faults of OpenRouter, callers that give up, killed processes and restored snapshots, for `SOAK_MINUTES`.
//! It runs on one server with Raft storage, or on a cluster of three whose leaders change. `scripts/soak`
//! runs it; `SOAK_SEED` repeats the random choices of a run, but not its timing.

mod consumers;
mod counts;
mod faults;
mod restores;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use openrouter_simulator::Key;
use serde_json::{Value, json};

use crate::harness::{Client, Cluster, Mount, PluginProcess, RaftVault, eventually};
use counts::Counts;
use restores::Restores;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is told: scripts/soak"]
async fn fifty_roles_survive_faults_and_kills() {
    let mut vault = RaftVault::new().await;
    let soak = Soak::of(Mount::on(vault.client()).await).await;
    let clients = vec![vault.client()];
    let disturb = async |random: &mut Rng| match random.u32(0..100) {
        0..2 => {
            soak.counts.server_kills.add();
            vault.kill();
            vault.start().await;
        }
        2..10 => soak.kill(&vault.plugin_processes()),
        10..12 => match soak.restores.due(random) {
            None => soak.restores.saved(vault.save_snapshot().await),
            Some(file) => {
                vault.restore_snapshot(&file).await;
                soak.restored().await;
            }
        },
        _ => soak.spoil(random),
    };
    soak.run(clients, disturb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is told: scripts/soak --cluster"]
async fn fifty_roles_survive_faults_and_failovers() {
    let mut cluster = Cluster::new().await;
    let soak = Soak::of(Mount::on(cluster.client(0)).await).await;
    let clients = cluster.clients();
    let disturb = async |random: &mut Rng| match random.u32(0..100) {
        0..5 => {
            soak.counts.server_kills.add();
            let leader = cluster.leader().await;
            cluster.kill(leader);
            cluster.successor_of(leader).await;
            soak.counts.failovers.add();
            cluster.start(leader).await;
            cluster.is_complete().await;
        }
        5..10 => {
            soak.counts.step_downs.add();
            let leader = cluster.leader().await;
            let office = cluster.step_down(leader).await;
            cluster.next_after(&office).await;
            soak.counts.failovers.add();
        }
        10..14 => {
            let leader = cluster.leader().await;
            soak.kill(&cluster.node(leader).plugin_processes());
        }
        14..16 => match soak.restores.due(random) {
            None => soak.restores.saved(cluster.save_snapshot().await),
            Some(file) => {
                cluster.restore_snapshot(&file).await;
                soak.restored().await;
            }
        },
        _ => soak.spoil(random),
    };
    soak.run(clients, disturb).await;
}

/// The whole soak, and its counts.
struct Soak {
    mount: Mount,
    over: AtomicBool,
    counts: Counts,
    restores: Restores,
}

impl Soak {
    /// Fifty new rotating roles in this mount, and a dynamic one.
    async fn of(mount: Mount) -> Arc<Self> {
        for index in 0..ROLES {
            mount.role(&role(index), definition(index)).await;
        }
        let leased = json!({"credential_type": "dynamic", "limit": 5, "ttl": 6, "max_ttl": 60});
        mount.role(LEASED, leased).await;
        Arc::new(Self {
            mount,
            over: AtomicBool::new(false),
            counts: Counts::default(),
            restores: Restores::default(),
        })
    }

    /// Reads and leases through the clients while `disturb` runs, until the time is over. Then checks that
    /// everything is in order, and prints what happened.
    async fn run(self: &Arc<Self>, clients: Vec<Client>, mut disturb: impl AsyncFnMut(&mut Rng)) {
        let minutes = env::var("SOAK_MINUTES").map_or(1.0, |text| text.parse().expect("a number"));
        let seed = env::var("SOAK_SEED").map_or_else(
            |_| fastrand::u64(..),
            |text| text.parse().expect("a number"),
        );
        println!("seed {seed}");
        let mut random = Rng::with_seed(seed);
        let mut consumers = tokio::task::JoinSet::new();
        for number in 1..=READERS + LEASERS + IMPATIENT {
            let random = Rng::with_seed(seed ^ number);
            let (soak, clients) = (Arc::clone(self), clients.clone());
            if number <= READERS {
                consumers.spawn(soak.read_on_and_on(clients, random));
            } else if number <= READERS + LEASERS {
                consumers.spawn(soak.lease_on_and_on(clients, random));
            } else {
                consumers.spawn(soak.give_up_on_and_on(clients, random));
            }
        }
        let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
        while Instant::now() < end {
            disturb(&mut random).await;
            tokio::time::sleep(Duration::from_millis(random.u64(100..1_500))).await;
        }
        self.over.store(true, Ordering::Relaxed);
        consumers.join_all().await;
        self.mount.openrouter.recover();

        all_is_well(&self.mount).await;
        leases_are_over(&self.mount).await;
        // Panics if there is a key too many or too few.
        self.mount.knows_every_key().await;
        self.counts.report(&self.mount.openrouter);
        assert_eq!(self.counts.violations(), 0, "see the report");
    }

    fn kill(&self, plugins: &[PluginProcess]) {
        for plugin in plugins {
            self.counts.plugin_kills.add();
            plugin.kill();
        }
    }

    /// Makes the next few requests of a kind fail.
    fn spoil(&self, random: &mut Rng) {
        self.counts.faults.add();
        let rule = faults::any(random);
        self.mount.openrouter.faults().add(rule);
    }
}

/// Waits until every role has recovered from everything.
async fn all_is_well(mount: &Mount) {
    for index in 0..ROLES {
        let path = format!("roles/{}", role(index));
        let status = async || {
            let reply = mount.read(&path).await;
            let well = reply.status() == 200 && reply.text("rotation_status") == "success";
            well.then_some(())
        };
        eventually(&format!("role {index} recovers"), RECOVERY_TIME, status).await;
    }
}

/// Waits until no lease's key is alive. Leases that the server knows end normally. Those that it forgot when
/// it was killed end five minutes later, and those that a restore made it forget expire.
async fn leases_are_over(mount: &Mount) {
    let account = mount.openrouter.account();
    let over = async || {
        let mut leased = account.keys();
        leased.retain(|key| key.name.starts_with(LEASED));
        let now = mount.openrouter.clock().now();
        let expired = |key: &Key| key.expires_at.is_some_and(|at| at <= now);
        leased.iter().all(expired).then_some(leased)
    };
    for expired in eventually("every lease is over", LEASE_TIME, over).await {
        // It cannot spend anything, so it does not count as alive.
        account.delete_key(&expired.hash).expect("it is listed");
    }
}

fn definition(index: u64) -> Value {
    json!({
        "limit": 5,
        "rotation_period": 5 + index % 10,
        "rotation_grace_period": 6,
        "ttl": 4,
        // Long enough that no kill or outage of this soak lets a current key expire.
        "key_max_lifetime": 3_600,
    })
}

fn role(index: u64) -> String {
    format!("app-{index}")
}

const ROLES: u64 = 50;
/// The dynamic role.
const LEASED: &str = "leased";
const READERS: u64 = 4;
const LEASERS: u64 = 2;
const IMPATIENT: u64 = 2;
/// The backoff could grow to an hour, but does not here.
const RECOVERY_TIME: Duration = Duration::from_secs(180);
/// The five minutes, plus time for retries.
const LEASE_TIME: Duration = Duration::from_secs(600);
