//! What is true according to committed storage: an engine that only reads, on storage that never changes. It
//! answers what any server would answer if it were asked, whatever form the entries have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::engine::clock::Clock;
use vault_plugin_secrets_openrouter::engine::factory;
use vault_plugin_secrets_openrouter::logical::{
    Backend, Data, Entry, FixedSystemView, Mount, NoEvents, Operation, ReplicationState, Request,
    Storage, StorageError,
};
use vault_plugin_secrets_openrouter::openrouter::{Http, Invalid, Network, Settings};

use crate::node::{MOUNT, UUID};
use crate::raft::{self, Map};
use crate::world::World;

/// What is committed.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// The rotating roles.
    pub(crate) rotating: BTreeMap<String, Rotating>,
    /// Every role.
    pub(crate) roles: BTreeSet<String>,
    /// The nonces in the write-ahead log, and whether they are those of leases.
    pub(crate) log: BTreeMap<String, bool>,
}

/// A rotating role.
#[derive(Debug)]
pub(crate) struct Rotating {
    pub(crate) current: String,
    /// Hashes, and when each is to be revoked.
    pub(crate) superseded: Vec<(String, Timestamp)>,
    /// Hashes of the keys that are disabled, and when each is to be deleted.
    pub(crate) held: Vec<(String, Timestamp)>,
    /// What the current key may spend according to the definition, if the role has no budget.
    pub(crate) limit: Option<f64>,
    pub(crate) has_budget: bool,
    /// Superseded keys that were used late, so that a person has to decide about them.
    pub(crate) used_late: Vec<String>,
    /// Whether the current key is handed out.
    pub(crate) serves: bool,
    /// Whether its deletion has begun.
    pub(crate) is_going: bool,
    pub(crate) automated: bool,
    pub(crate) connection: String,
    pub(crate) workspace: Option<String>,
    /// What its status says.
    pub(crate) message: String,
}

impl Rotating {
    /// The keys that are to be revoked at their times.
    pub(crate) fn ending(&self) -> impl Iterator<Item = &(String, Timestamp)> {
        let superseded = self.superseded.iter();
        superseded.filter(|(hash, _)| !self.used_late.contains(hash))
    }

    /// When an older key is to be revoked or deleted.
    pub(crate) fn end_of(&self, hash: &str) -> Option<Timestamp> {
        let mut ends = self.superseded.iter().chain(&self.held);
        ends.find(|(key, _)| key == hash).map(|(_, end)| *end)
    }

    /// All its keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let superseded = self.superseded.iter().chain(&self.held);
        let superseded = superseded.map(|(hash, _)| hash);
        superseded.chain([&self.current]).map(String::as_str)
    }
}

impl Truth {
    /// Whether storage leads to this key.
    pub(crate) fn leads_to(&self, hash: &str, nonce: &str) -> bool {
        let mut roles = self.rotating.values();
        self.log.contains_key(nonce) || roles.any(|role| role.keys().any(|key| key == hash))
    }
}

impl World {
    /// What is committed now.
    pub(crate) fn truth(&self) -> Truth {
        self.truth_of(self.raft.committed())
    }

    /// What is in this storage.
    pub(crate) fn truth_of(&self, map: Map) -> Truth {
        let names = raft::list(&map, &format!("{MOUNT}roles/"));
        let mut truth = Truth {
            roles: names.iter().cloned().collect(),
            ..Truth::default()
        };
        let wal = format!("{MOUNT}wal/");
        for (key, value) in map.range(wal.clone()..) {
            let Some(nonce) = key.strip_prefix(&wal) else {
                break;
            };
            let entry: Value = serde_json::from_slice(value).unwrap_or_default();
            truth.log.insert(nonce.to_owned(), entry["type"] == "lease");
        }
        let observer = self.observer(map.clone());
        for name in names {
            let role = read(&*observer, &format!("roles/{name}"));
            if let Some(role) = role.filter(|role| role["credential_type"] == "rotating") {
                let serves = read(&*observer, &format!("static-creds/{name}")).is_some();
                let is_going = map
                    .get(&format!("{MOUNT}roles/{name}"))
                    .and_then(|value| serde_json::from_slice::<Value>(value).ok())
                    .is_some_and(|value| !value["entry"]["rotating"]["deletion"].is_null());
                let role = rotating(&role, serves, is_going);
                truth.rotating.insert(name, role);
            }
        }
        truth
    }

    /// An engine that only reads this storage.
    pub(crate) fn observer(&self, map: Map) -> Arc<dyn Backend> {
        let clock = Arc::new(Standing(self.now()));
        let make = factory(clock, Arc::clone(&self.dice) as _, Arc::new(NoNetwork));
        make(Mount {
            storage: Arc::new(Frozen(map)),
            system: Arc::new(FixedSystemView {
                replication_state: ReplicationState::PERFORMANCE_STANDBY,
                ..FixedSystemView::default()
            }),
            events: Arc::new(NoEvents),
            backend_uuid: UUID.to_owned(),
        })
    }
}

/// The engine's answer to a read.
pub(crate) fn read(observer: &dyn Backend, path: &str) -> Option<Data> {
    let answer = observer.handle_request(Request::new(Operation::Read, path));
    let answer = answer.now_or_never().expect("storage does not wait");
    answer.ok().flatten().map(|answer| answer.unfolded().data)
}

fn rotating(role: &Data, serves: bool, is_going: bool) -> Rotating {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ends = |keys: &str, at: &str| {
        let keys = role[keys].as_array().unwrap().iter();
        let ends = keys.map(|key| {
            (
                text(&key["hash"]),
                key[at].as_str().unwrap().parse().unwrap(),
            )
        });
        ends.collect()
    };
    let superseded = role["superseded_keys"].as_array().unwrap().iter();
    let used_late = superseded.filter(|key| !key["used_at"].is_null());
    let used_late = used_late.map(|key| text(&key["hash"])).collect();
    Rotating {
        current: text(&role["current_key"]["hash"]),
        superseded: ends("superseded_keys", "revoke_at"),
        held: ends("held_keys", "held_until"),
        limit: role["limit"].as_f64(),
        has_budget: role.get("budget").is_some_and(|budget| !budget.is_null()),
        used_late,
        serves,
        is_going,
        automated: role["disable_automated_rotation"] == json!(false),
        connection: text(&role["connection"]),
        workspace: role["workspace_id"].as_str().map(str::to_owned),
        message: text(&role["last_rotation_message"]),
    }
}

/// Storage that never changes.
struct Frozen(Map);

#[async_trait]
impl Storage for Frozen {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.get(&format!("{MOUNT}{key}")).cloned())
    }

    async fn put(&self, _: Entry) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }

    async fn delete(&self, _: &str) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        Ok(raft::list(&self.0, &format!("{MOUNT}{prefix}")))
    }
}

/// Time that does not pass.
struct Standing(Timestamp);

#[async_trait]
impl Clock for Standing {
    fn now(&self) -> Timestamp {
        self.0
    }

    async fn sleep_until(&self, _: Timestamp) {
        std::future::pending().await
    }
}

/// An engine that only reads asks no one.
struct NoNetwork;

impl Network for NoNetwork {
    fn connect(&self, _: &Settings) -> Result<Box<dyn Http>, Invalid> {
        Err(Invalid::HttpClient("an observer has no network".to_owned()))
    }
}
