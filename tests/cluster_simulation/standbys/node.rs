//! The engine as a standby runs it: it reads what its server sees, it may not write, and it has nothing to
//! say to OpenRouter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::{
    Entry, FixedSystemView, ReplicationState, Storage, StorageError, SystemView, SystemViewError,
};
use vault_plugin_secrets_openrouter::openrouter::{
    Failure, Http, HttpAnswer, HttpRequest, Invalid, Network, Settings,
};

use super::followers::is_replicated;
use crate::node::{Life, MOUNT, Node, Parts};
use crate::world::World;

/// An engine on a standby.
pub(crate) struct Standby {
    pub(crate) node: Arc<Node>,
    /// How often it has read storage.
    asked: Arc<AtomicU64>,
    /// When it was last told of a change of each entry.
    told: Mutex<BTreeMap<String, Timestamp>>,
}

impl Standby {
    pub(super) fn new(world: &Arc<World>, server: usize) -> Self {
        let life = Arc::new(Life::default());
        let asked = Arc::<AtomicU64>::default();
        let place = Place {
            world: Arc::clone(world),
            server,
            life: Arc::clone(&life),
        };
        let parts = Parts {
            storage: Arc::new(StandbyStorage {
                place: place.clone(),
                asked: Arc::clone(&asked),
            }),
            system: Arc::new(StandbyView(place.clone())),
            network: Arc::new(NoRequests(place)),
            randomness: Arc::clone(&world.standbys.dice) as _,
        };
        Self {
            node: Arc::new(Node::of(world, server, life, parts)),
            asked,
            told: Mutex::default(),
        }
    }

    /// It was told that this entry has changed.
    pub(super) fn was_told(&self, key: &str, now: Timestamp) {
        self.told.lock().unwrap().insert(key.to_owned(), now);
    }

    /// When it was last told so.
    pub(super) fn told_at(&self, key: &str) -> Option<Timestamp> {
        self.told.lock().unwrap().get(key).copied()
    }

    /// How often it has read storage so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Where an engine runs.
#[derive(Clone)]
struct Place {
    world: Arc<World>,
    server: usize,
    life: Arc<Life>,
}

impl Place {
    /// The engine does what none on a standby does. It may, if its server has led a moment ago.
    fn does(&self, what: &str) {
        let (world, server) = (&self.world, self.server);
        if !world.has_led_lately(server, world.now()) {
            world.violated(&format!("S{server}, a standby, {what}"), &[]);
        }
    }
}

struct StandbyStorage {
    place: Place,
    asked: Arc<AtomicU64>,
}

#[async_trait]
impl Storage for StandbyStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let Place {
            world,
            server,
            life,
        } = &self.place;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let dice = &world.standbys.dice;
        life.checkpoint().await;
        sleep(Duration::from_millis(dice.number(0, 3))).await;
        life.checkpoint().await;
        let key = format!("{MOUNT}{key}");
        if !is_replicated(&key) {
            self.place.does(&format!("reads {key}"));
        }
        if dice.chance(world.weather().lost_reads) {
            return Err(StorageError::Failed("the read timed out".to_owned()));
        }
        let entry = world
            .raft
            .followers(|followers| followers.read(*server, &key));
        // It may change while the answer is on its way, of which the engine is told.
        let longest = dice.weighted(&[(7, 3), (1, 1_000)]);
        sleep(Duration::from_millis(dice.number(0, longest))).await;
        life.checkpoint().await;
        Ok(entry)
    }

    async fn put(&self, _: Entry) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }

    async fn delete(&self, _: &str) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.place.does(&format!("lists {prefix}"));
        Err(StorageError::Failed("the server is no leader".to_owned()))
    }
}

/// What its server says of itself: that it is a standby, until it leads.
struct StandbyView(Place);

#[async_trait]
impl SystemView for StandbyView {
    async fn max_lease_ttl(&self) -> Result<Duration, SystemViewError> {
        self.0.life.checkpoint().await;
        FixedSystemView::default().max_lease_ttl().await
    }

    async fn replication_state(&self) -> Result<ReplicationState, SystemViewError> {
        let Place {
            world,
            server,
            life,
        } = &self.0;
        life.checkpoint().await;
        let of_cluster = match world.secondary.is_one() {
            true => ReplicationState::PERFORMANCE_SECONDARY,
            false => ReplicationState::default(),
        };
        let leads = world.raft.leader() == Some(*server);
        Ok(match leads {
            true => of_cluster,
            false => ReplicationState(of_cluster.0 | ReplicationState::PERFORMANCE_STANDBY.0),
        })
    }

    async fn local_mount(&self) -> Result<bool, SystemViewError> {
        Ok(false)
    }

    async fn entity_name(&self, _: &str) -> Result<Option<String>, SystemViewError> {
        Ok(None)
    }
}

/// Nothing external happens on a node that may not write.
struct NoRequests(Place);

impl Network for NoRequests {
    fn connect(&self, _: &Settings) -> Result<Box<dyn Http>, Invalid> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

#[async_trait]
impl Http for NoRequests {
    async fn send(&self, request: HttpRequest, _: usize) -> Result<HttpAnswer, Failure> {
        let (method, url) = (request.method, request.url);
        self.0.does(&format!("sends {method} {url}"));
        Err(Failure::NotSent("a standby has no network".to_owned()))
    }
}
