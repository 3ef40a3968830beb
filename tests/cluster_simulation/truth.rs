//! What is true according to committed storage, as [`views`](crate::views) show it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Data;

use crate::node::MOUNT;
use crate::raft::{self, Map};
use crate::world::World;

/// What is committed.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// The rotating roles.
    pub(crate) rotating: BTreeMap<String, Arc<Rotating>>,
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
    /// Whether its deletion has begun.
    pub(crate) is_going: bool,
    pub(crate) automated: bool,
    pub(crate) connection: String,
    pub(crate) workspace: Option<String>,
    name: String,
    entry: Vec<u8>,
}

impl Rotating {
    /// What a read of a path shows of this entry; `None` if it is not a rotating role.
    pub(crate) fn of(path: &str, shown: &Data, entry: &[u8]) -> Option<Self> {
        let name = path.strip_prefix("roles/")?;
        if shown["credential_type"] != "rotating" {
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ends = |keys: &str, at: &str| {
            let keys = shown[keys].as_array().unwrap().iter();
            let ends = keys.map(|key| {
                (
                    text(&key["hash"]),
                    key[at].as_str().unwrap().parse().unwrap(),
                )
            });
            ends.collect()
        };
        let superseded = shown["superseded_keys"].as_array().unwrap().iter();
        let used_late = superseded.filter(|key| !key["used_at"].is_null());
        let used_late = used_late.map(|key| text(&key["hash"])).collect();
        let stored: Option<Stored> = serde_json::from_slice(entry).ok();
        Some(Self {
            current: text(&shown["current_key"]["hash"]),
            superseded: ends("superseded_keys", "revoke_at"),
            held: ends("held_keys", "held_until"),
            limit: shown["limit"].as_f64(),
            has_budget: shown.get("budget").is_some_and(|budget| !budget.is_null()),
            used_late,
            is_going: stored.is_some_and(|stored| stored.entry.rotating.deletion.is_some()),
            automated: shown["disable_automated_rotation"] == json!(false),
            connection: text(&shown["connection"]),
            workspace: shown["workspace_id"].as_str().map(str::to_owned),
            name: name.to_owned(),
            entry: entry.to_owned(),
        })
    }

    /// Whether the current key is handed out now.
    pub(crate) fn serves(&self, world: &World) -> bool {
        let (path, key) = (
            format!("static-creds/{}", self.name),
            format!("roles/{}", self.name),
        );
        world.view_now(&path, &key, &self.entry).is_some()
    }

    /// What its status says now.
    pub(crate) fn message(&self, world: &World) -> String {
        let path = format!("roles/{}", self.name);
        let shown = world.view_now(&path, &path, &self.entry);
        let message =
            shown.and_then(|shown| Some(shown["last_rotation_message"].as_str()?.to_owned()));
        message.unwrap_or_default()
    }

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
        self.raft.committed_as(|map| self.truth_of(map))
    }

    /// What is in this storage.
    pub(crate) fn truth_of(&self, map: &Map) -> Truth {
        let names = raft::list(map, &format!("{MOUNT}roles/"));
        let mut truth = Truth {
            roles: names.iter().cloned().collect(),
            ..Truth::default()
        };
        let wal = format!("{MOUNT}wal/");
        for (key, value) in map.range(wal.clone()..) {
            let Some(nonce) = key.strip_prefix(&wal) else {
                break;
            };
            let logged: Option<Logged<'_>> = serde_json::from_slice(value).ok();
            let is_lease = logged.is_some_and(|logged| logged.kind == "lease");
            truth.log.insert(nonce.to_owned(), is_lease);
        }
        for name in names {
            let entry = map.get(&format!("{MOUNT}roles/{name}"));
            let view = entry.and_then(|entry| self.view(&format!("roles/{name}"), entry));
            if let Some(role) = view.and_then(|view| view.rotating.clone()) {
                truth.rotating.insert(name, role);
            }
        }
        truth
    }
}

/// What no read shows of a stored role: whether its deletion has begun.
#[derive(Deserialize)]
struct Stored {
    entry: StoredRole,
}

#[derive(Deserialize)]
struct StoredRole {
    rotating: StoredRotating,
}

#[derive(Deserialize)]
struct StoredRotating {
    deletion: Option<IgnoredAny>,
}

/// An entry of the write-ahead log.
#[derive(Deserialize)]
struct Logged<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}
