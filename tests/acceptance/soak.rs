//! The soak: fifty roles that rotate every few seconds, an OpenRouter that goes wrong at random, and
//! processes killed at random, for as long as `SOAK_MINUTES` says; on one server with Raft storage, or
//! on a cluster of three whose leaders come and go. Run by `scripts/soak`; `SOAK_SEED` repeats a run's
//! choices, though not its timing.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use openrouter_simulator::{Fault, KeyChanges};
use serde_json::{Value, json};

use crate::harness::{Client, Cluster, Mount, PluginProcess, RaftVault, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as it is told: scripts/soak"]
async fn fifty_roles_survive_faults_and_kills() {
    let mut vault = RaftVault::new().await;
    let soak = Soak::of(Mount::on(vault.client()).await).await;
    let clients = vec![vault.client()];
    let disturb = async |random: &mut Rng| match random.u32(0..100) {
        0..2 => {
            count(&soak.server_kills);
            vault.kill();
            vault.start().await;
        }
        2..10 => soak.kill(&vault.plugin_processes()),
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
            count(&soak.server_kills);
            let leader = cluster.leader().await;
            cluster.kill(leader);
            cluster.successor_of(leader).await;
            count(&soak.failovers);
            cluster.start(leader).await;
            cluster.is_complete().await;
        }
        5..10 => {
            count(&soak.step_downs);
            let leader = cluster.leader().await;
            cluster.step_down(leader).await;
            cluster.successor_of(leader).await;
            count(&soak.failovers);
        }
        10..14 => {
            let leader = cluster.leader().await;
            soak.kill(&cluster.node(leader).plugin_processes());
        }
        _ => soak.spoil(random),
    };
    soak.run(clients, disturb).await;
}

/// Everything that happens, and what was counted of it.
struct Soak {
    mount: Mount,
    over: AtomicBool,
    faults: AtomicU64,
    plugin_kills: AtomicU64,
    server_kills: AtomicU64,
    step_downs: AtomicU64,
    failovers: AtomicU64,
    keys_handed_out: AtomicU64,
    unanswered: AtomicU64,
    early_deaths: AtomicU64,
    without_a_key: AtomicU64,
}

impl Soak {
    /// Fifty new roles in this mount.
    async fn of(mount: Mount) -> Arc<Self> {
        for index in 0..ROLES {
            mount.role(&role(index), definition(index)).await;
        }
        Arc::new(Self {
            mount,
            over: AtomicBool::new(false),
            faults: AtomicU64::new(0),
            plugin_kills: AtomicU64::new(0),
            server_kills: AtomicU64::new(0),
            step_downs: AtomicU64::new(0),
            failovers: AtomicU64::new(0),
            keys_handed_out: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            early_deaths: AtomicU64::new(0),
            without_a_key: AtomicU64::new(0),
        })
    }

    /// Has somebody read through the clients and somebody disturb, until the time is over; then
    /// requires that all is well, and says what happened.
    async fn run(self: &Arc<Self>, clients: Vec<Client>, mut disturb: impl AsyncFnMut(&mut Rng)) {
        let minutes = env::var("SOAK_MINUTES").map_or(1.0, |text| text.parse().expect("a number"));
        let seed = env::var("SOAK_SEED").map_or_else(
            |_| fastrand::u64(..),
            |text| text.parse().expect("a number"),
        );
        println!("seed {seed}");
        let mut random = Rng::with_seed(seed);
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let random = Rng::with_seed(seed ^ (reader + 1));
                tokio::spawn(Arc::clone(self).read_on_and_on(clients.clone(), random))
            })
            .collect();
        let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
        while Instant::now() < end {
            disturb(&mut random).await;
            tokio::time::sleep(Duration::from_millis(random.u64(100..1_500))).await;
        }
        self.over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("a reader runs to its end");
        }
        self.mount.openrouter.recover();

        let rotations = all_is_well(&self.mount).await;
        // Panics if there is one key too many, or too few.
        self.mount.knows_every_key().await;
        self.report(rotations);
        assert_eq!(self.violations(), 0, "see the report");
    }

    fn kill(&self, plugins: &[PluginProcess]) {
        for plugin in plugins {
            count(&self.plugin_kills);
            plugin.kill();
        }
    }

    /// Lets the next few requests of some kind go wrong.
    fn spoil(&self, random: &mut Rng) {
        count(&self.faults);
        let (method, path) = *random
            .choice(&[
                ("POST", "/keys"),
                ("POST", "/keys"),
                ("DELETE", "/keys/*"),
                ("GET", "/keys"),
                ("GET", "/key"),
            ])
            .expect("there are some");
        let rule = fault(random).on(method, path).times(random.u32(1..4));
        self.mount.openrouter.faults().add(rule);
    }

    /// Reads the keys of roles at random, and sees for each whether it lives as long as promised.
    async fn read_on_and_on(self: Arc<Self>, clients: Vec<Client>, mut random: Rng) {
        let mut promises = tokio::task::JoinSet::new();
        while !self.over.load(Ordering::Relaxed) {
            let path = self
                .mount
                .at(&format!("creds/{}", role(random.u64(0..ROLES))));
            let client = random.choice(&clients).expect("there is one");
            let asked = Instant::now();
            match client.try_read(&path).await {
                Some(reply) if reply.status() == 200 => {
                    count(&self.keys_handed_out);
                    let ttl = reply.integer("ttl").unsigned_abs();
                    let until = asked + Duration::from_secs(ttl);
                    promises.spawn(Arc::clone(&self).hold_to(reply.text("key_hash"), until));
                }
                // The engine's own refusal, where the server or the plugin was there to answer.
                Some(reply) if reply.status() == 400 => {
                    println!("{reply}");
                    count(&self.without_a_key);
                }
                _ => count(&self.unanswered),
            }
            tokio::time::sleep(Duration::from_millis(random.u64(10..200))).await;
        }
        promises.join_all().await;
    }

    /// A key was promised to live until then.
    async fn hold_to(self: Arc<Self>, hash: String, until: Instant) {
        tokio::time::sleep_until((until - LOOK_BEFORE).into()).await;
        let key = self.mount.openrouter.account().key(&hash);
        let alive = key.is_some_and(|key| !key.disabled);
        // Looked at too late, it proves nothing.
        if !alive && Instant::now() < until {
            println!("{hash} died early");
            count(&self.early_deaths);
        }
    }

    fn violations(&self) -> u64 {
        seen(&self.early_deaths) + seen(&self.without_a_key)
    }

    fn report(&self, rotations: u64) {
        let requests: BTreeMap<_, _> = self.mount.openrouter.requests().counts();
        println!("rotations                {rotations}");
        println!("faults                   {}", seen(&self.faults));
        println!("plugin kills             {}", seen(&self.plugin_kills));
        println!("server kills             {}", seen(&self.server_kills));
        println!("step-downs               {}", seen(&self.step_downs));
        println!("failovers                {}", seen(&self.failovers));
        println!("keys handed out          {}", seen(&self.keys_handed_out));
        println!("reads without an answer  {}", seen(&self.unanswered));
        println!("keys that died early     {}", seen(&self.early_deaths));
        println!("reads without a key      {}", seen(&self.without_a_key));
        let living = self.mount.openrouter.hashes().len();
        println!("keys at OpenRouter       {living}, all of them known");
        println!("violations               {}", self.violations());
        println!("requests to OpenRouter   {requests:?}");
    }
}

fn fault(random: &mut Rng) -> Fault {
    match random.u32(0..11) {
        0 => Fault::LostReply,
        1 => Fault::ResetBeforeEffect,
        2 => Fault::status(500),
        3 => Fault::status(503).after_the_effect(),
        4 => Fault::rate_limited(1),
        5 => Fault::TruncatedBody,
        6 => Fault::NonsenseJson,
        7 => Fault::Html {
            status: 502,
            after_effect: random.bool(),
        },
        8 => Fault::Slow {
            milliseconds: random.u64(100..3_000),
            after_effect: random.bool(),
        },
        9 => Fault::CreatedKeyDoesNotAuthenticate { uses: None },
        _ => Fault::CreatedOtherwise(KeyChanges {
            limit: Some(Some(1_000.0)),
            ..KeyChanges::default()
        }),
    }
}

/// Waits until every role has recovered from everything; returns how often all of them rotated.
async fn all_is_well(mount: &Mount) -> u64 {
    let mut rotations = 0;
    for index in 0..ROLES {
        let path = format!("roles/{}", role(index));
        let status = async || {
            let reply = mount.read(&path).await;
            let well = reply.status() == 200 && reply.text("rotation_status") == "success";
            well.then(|| reply.field("current_key")["version"].as_u64())?
        };
        let what = format!("role {index} recovers");
        rotations += eventually(&what, RECOVERY_TIME, status).await - 1;
    }
    rotations
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

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn seen(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

const ROLES: u64 = 50;
const READERS: u64 = 4;
/// How long before its promised end a key is looked at.
const LOOK_BEFORE: Duration = Duration::from_millis(100);
/// A backoff of an hour at most would be longer; here it never comes to that.
const RECOVERY_TIME: Duration = Duration::from_secs(180);
