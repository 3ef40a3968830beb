//! The engine on one server: its clock, its storage, what the server tells it, and its death.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vault_plugin_secrets_openrouter::engine::clock::Clock;
use vault_plugin_secrets_openrouter::engine::factory;
use vault_plugin_secrets_openrouter::engine::randomness::Randomness;
use vault_plugin_secrets_openrouter::logical::{
    Backend, Entry, FixedSystemView, Mount, NoEvents, ReplicationState, Storage, StorageError,
    SystemView, SystemViewError,
};
use vault_plugin_secrets_openrouter::openrouter::Network;

use crate::openrouter::NodeNetwork;
use crate::raft::Fate;
use crate::world::World;

/// The prefix of the engine's part of storage.
pub(crate) const MOUNT: &str = "mount/";
/// The mount's UUID.
pub(crate) const UUID: &str = "6d1ff9a5-4c2e-4a0b-8a06-5a3c1f0d7e11";

/// An engine that is or was at work.
pub(crate) struct Node {
    pub(crate) server: usize,
    pub(crate) life: Arc<Life>,
    pub(crate) backend: Arc<dyn Backend>,
}

/// What an engine is given by its server.
pub(crate) struct Parts {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) system: Arc<dyn SystemView>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) randomness: Arc<dyn Randomness>,
}

impl Node {
    pub(crate) fn new(world: &Arc<World>, server: usize) -> Self {
        let life = Arc::new(Life::default());
        let parts = Parts {
            storage: Arc::new(NodeStorage {
                world: Arc::clone(world),
                server,
                life: Arc::clone(&life),
            }),
            system: Arc::new(NodeView {
                world: Arc::clone(world),
                life: Arc::clone(&life),
            }),
            network: Arc::new(NodeNetwork::new(world, server, &life)),
            randomness: Arc::clone(&world.dice) as _,
        };
        Self::of(world, server, life, parts)
    }

    /// An engine with these parts.
    pub(crate) fn of(world: &Arc<World>, server: usize, life: Arc<Life>, parts: Parts) -> Self {
        let clock = NodeClock {
            world: Arc::clone(world),
            life: Arc::clone(&life),
        };
        let make = factory(Arc::new(clock), parts.randomness, parts.network);
        let backend = make(Mount {
            storage: parts.storage,
            system: parts.system,
            events: Arc::new(NoEvents),
            backend_uuid: UUID.to_owned(),
        });
        Self {
            server,
            life,
            backend,
        }
    }
}

/// Whether an engine's process is alive. A dead one stops at its next effect, forever, without cleaning up or
/// notifying anyone.
#[derive(Default)]
pub(crate) struct Life(CancellationToken);

impl Life {
    pub(crate) fn end(&self) {
        self.0.cancel();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(crate) async fn ended(&self) {
        self.0.cancelled().await;
    }

    /// Passes as long as the process is alive.
    pub(crate) async fn checkpoint(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}

struct NodeClock {
    world: Arc<World>,
    life: Arc<Life>,
}

#[async_trait]
impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        self.world.now()
    }

    async fn sleep_until(&self, until: Timestamp) {
        let nap = Duration::try_from(until.duration_since(self.now())).unwrap_or_default();
        sleep(nap.min(LONGEST_NAP)).await;
        self.life.checkpoint().await;
    }
}

struct NodeView {
    world: Arc<World>,
    life: Arc<Life>,
}

/// Whether the whole cluster follows another one for a while, and may not write.
#[derive(Default)]
pub(crate) struct Secondary(AtomicBool);

impl Secondary {
    pub(crate) fn is_one(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, is_one: bool) {
        self.0.store(is_one, Ordering::Relaxed);
    }
}

#[async_trait]
impl SystemView for NodeView {
    async fn max_lease_ttl(&self) -> Result<Duration, SystemViewError> {
        self.life.checkpoint().await;
        FixedSystemView::default().max_lease_ttl().await
    }

    async fn replication_state(&self) -> Result<ReplicationState, SystemViewError> {
        self.life.checkpoint().await;
        Ok(match self.world.secondary.is_one() {
            true => ReplicationState::PERFORMANCE_SECONDARY,
            false => ReplicationState::default(),
        })
    }

    async fn local_mount(&self) -> Result<bool, SystemViewError> {
        Ok(false)
    }

    async fn entity_name(&self, _: &str) -> Result<Option<String>, SystemViewError> {
        Ok(None)
    }
}

struct NodeStorage {
    world: Arc<World>,
    server: usize,
    life: Arc<Life>,
}

impl NodeStorage {
    /// The call reaches the server. `Err` if it is lost.
    async fn arrive(&self) -> Result<(), StorageError> {
        self.life.checkpoint().await;
        sleep(Duration::from_millis(self.world.dice.number(0, 3))).await;
        self.life.checkpoint().await;
        if self.world.dice.chance(self.world.weather().lost_reads) {
            return Err(StorageError::Failed("the read timed out".to_owned()));
        }
        Ok(())
    }

    /// The server continues a write even if the engine is gone.
    async fn write(&self, key: &str, value: Option<Vec<u8>>) -> Result<(), StorageError> {
        self.life.checkpoint().await;
        let (world, server) = (Arc::clone(&self.world), self.server);
        let life = Arc::clone(&self.life);
        let verb = if value.is_some() { "put" } else { "delete" };
        let what = format!("{verb} {key}");
        world.reach(server, &format!("before {what}"));
        self.life.checkpoint().await;
        let change = (format!("{MOUNT}{key}"), value);
        let about = key.rsplit('/').next().unwrap_or_default().to_owned();
        let told = what.clone();
        let written = tokio::spawn(async move {
            let outcome = write(&world, (server, life), change, &what).await;
            let came = outcome.as_ref().err().map_or("stored", String::as_str);
            world
                .story
                .tell_of(&[&about], format!("S{server}: {what}: {came}"));
            outcome
        });
        let outcome = written.await.expect("the server does not panic");
        self.world.reach(server, &format!("after {told}"));
        self.life.checkpoint().await;
        outcome.map_err(|reason| match reason.as_str() {
            "read-only" => StorageError::ReadOnly,
            _ => StorageError::Failed(reason),
        })
    }
}

async fn write(
    world: &Arc<World>,
    (server, life): (usize, Arc<Life>),
    change: (String, Option<Vec<u8>>),
    what: &str,
) -> Result<(), String> {
    if world.secondary.is_one() {
        return Err("read-only".to_owned());
    }
    let key = change.0.trim_start_matches(MOUNT).to_owned();
    let Some(id) = world.raft.append(server, change) else {
        return Err("node is not the leader".to_owned());
    };
    sleep(Duration::from_millis(world.dice.number(1, 12))).await;
    world.reach(server, &format!("during {what}"));
    let fate = world.weather().fate_of_a_write(&world.dice);
    let is_stored = world.raft.conclude(server, id, fate);
    world.note_version(&key, is_stored);
    if is_stored {
        return Ok(());
    }
    if fate == Fate::Late {
        let (world, is_intent) = (Arc::clone(world), what.starts_with("put wal/"));
        tokio::spawn(async move {
            sleep(world.dice.pause(100, 8_000)).await;
            world.raft.conclude(server, id, Fate::Unreported);
            world.note_version(&key, false);
            if is_intent && life.is_over() {
                // The next process may have read the log before. Nothing was ordered: the store was never
                // answered.
                world.witness.unseen();
            }
        });
    }
    Err(match fate {
        Fate::Stored => "leadership lost while committing log",
        Fate::Lost => "timed out, not committed",
        Fate::Unreported => "timed out, but committed",
        Fate::Late => "timed out, and committed later",
    }
    .to_owned())
}

#[async_trait]
impl Storage for NodeStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.arrive().await?;
        let forgotten = self.world.dice.chance(0.05);
        let key = format!("{MOUNT}{key}");
        Ok(self.world.raft.read(self.server, &key, forgotten))
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        self.write(&entry.key, Some(entry.value)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.write(key, None).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.arrive().await?;
        Ok(self
            .world
            .raft
            .list(self.server, &format!("{MOUNT}{prefix}")))
    }
}

const LONGEST_NAP: Duration = Duration::from_secs(60 * 60);
