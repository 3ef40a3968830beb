//! The owners of all keys, from one pass over storage and the books.
//!
//! An unreadable role is reported and does not affect the others. The connections and hashes that its bytes
//! mention still count wherever that protects something from being deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::engine::books::Record;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Nonce, Origin, RoleName};
use crate::engine::role::Role;
use crate::engine::role::rotating::Standing;
use crate::logical::StorageError;
use crate::openrouter::KeyHash;

/// The holder of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This role, and which of its keys it is; `None` if the role's entry is unreadable.
    Role(RoleName, Option<Standing>),
    /// A lease.
    Lease(Box<Record>),
}

/// Every key that this mount knows, and every role that uses a connection.
#[derive(Debug, Default)]
pub struct Holdings {
    keys: BTreeMap<KeyHash, (Holder, ConnectionName)>,
    users: BTreeMap<ConnectionName, BTreeSet<RoleName>>,
    /// Connections with an order whose outcome is unknown.
    unconfirmed: BTreeSet<ConnectionName>,
    /// The purposes of unconfirmed orders, and whether they are in progress.
    pub(super) ordered: HashMap<Nonce, (RoleName, bool)>,
    /// The purposes of keys that were created and must not be used.
    pub(super) rejected: BTreeMap<KeyHash, RoleName>,
    /// The marks of keys, by origin.
    pub(super) marks: HashMap<Origin, RoleName>,
    /// The mount, by its UUID.
    pub(super) mount: String,
    /// Roles whose entries cannot be read.
    pub unreadable: BTreeSet<RoleName>,
}

impl Holdings {
    /// Reads every role once.
    ///
    /// # Errors
    /// Errors from storage, except for unreadable entries.
    pub async fn of(engine: &Engine) -> Result<Self, Error> {
        let storage = &*engine.storage;
        let books = engine.books().await?;
        let mut holdings = Self {
            mount: engine.mount.clone(),
            ..Self::default()
        };
        // First, so that an order that is confirmed in the meantime is found in its role's entry or under
        // a lease.
        for (intent, is_in_flight) in books.intents.all() {
            holdings.unconfirmed.insert(intent.place.connection);
            if let Some(hash) = intent.rejected {
                holdings.rejected.insert(hash, intent.role.clone());
            }
            let order = (intent.role, is_in_flight);
            holdings.ordered.insert(intent.nonce, order);
        }
        for name in Role::names(storage).await? {
            let Some(value) = storage.get(&name.key()).await? else {
                continue;
            };
            match Role::parse(&name, &value) {
                Ok(role) => {
                    let origin = engine.origin(&name, role.life());
                    holdings.marks.insert(origin, name.clone());
                    holdings.add(name, &role);
                }
                Err(Error::Storage(StorageError::Malformed { .. })) => {
                    holdings.add_unreadable(name, &value);
                }
                Err(reason) => return Err(reason),
            }
        }
        for record in books.leases.all() {
            let (hash, connection) = (record.key.key_hash.clone(), record.key.connection.clone());
            let held = (Holder::Lease(Box::new(record)), connection);
            holdings.keys.insert(hash, held);
        }
        Ok(holdings)
    }

    fn add(&mut self, name: RoleName, role: &Role) {
        for (hash, connection) in role.keys() {
            let standing = role.standing(hash);
            let held = (Holder::Role(name.clone(), standing), connection.clone());
            self.keys.insert(hash.clone(), held);
            self.need(connection, &name);
        }
        self.need(&role.terms().connection, &name);
    }

    fn add_unreadable(&mut self, name: RoleName, value: &[u8]) {
        let (hashes, connections) = mentioned(value);
        for hash in hashes {
            let through = connections.first().cloned().unwrap_or_default();
            let held = (Holder::Role(name.clone(), None), through);
            self.keys.entry(hash).or_insert(held);
        }
        for connection in &connections {
            self.need(connection, &name);
        }
        self.unreadable.insert(name);
    }

    fn need(&mut self, connection: &ConnectionName, name: &RoleName) {
        let users = self.users.entry(connection.clone()).or_default();
        users.insert(name.clone());
    }

    /// The holder of the key; `None` if none is known.
    pub fn holder(&self, hash: &KeyHash) -> Option<&Holder> {
        self.keys.get(hash).map(|(holder, _)| holder)
    }

    /// The connection through which a held key was made.
    pub fn connection_of(&self, hash: &KeyHash) -> Option<&ConnectionName> {
        self.keys.get(hash).map(|(_, connection)| connection)
    }

    /// The keys that were made through a connection.
    pub fn keys_of(&self, connection: &ConnectionName) -> Vec<KeyHash> {
        self.through(connection)
            .map(|(hash, _)| hash.clone())
            .collect()
    }

    /// How many of them are under leases.
    pub fn leased_of(&self, connection: &ConnectionName) -> usize {
        self.through(connection)
            .filter(|(_, holder)| matches!(holder, Holder::Lease(_)))
            .count()
    }

    /// The roles that use a connection, for their present or future keys.
    pub fn users_of(&self, connection: &ConnectionName) -> Vec<&RoleName> {
        self.users.get(connection).into_iter().flatten().collect()
    }

    /// Whether a connection has an order whose outcome is still unknown.
    pub fn is_unconfirmed(&self, connection: &ConnectionName) -> bool {
        self.unconfirmed.contains(connection)
    }

    fn through(&self, connection: &ConnectionName) -> impl Iterator<Item = (&KeyHash, &Holder)> {
        self.keys
            .iter()
            .filter(move |(_, (_, through))| through == connection)
            .map(|(hash, (holder, _))| (hash, holder))
    }
}

/// The key hashes and the connections that an unreadable entry mentions. Empty if the entry is not JSON.
pub fn mentioned(value: &[u8]) -> (BTreeSet<KeyHash>, BTreeSet<ConnectionName>) {
    let (mut hashes, mut connections) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = Vec::from_iter(serde_json::from_slice::<Value>(value));
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(fields) => {
                for (field, value) in fields {
                    match (field.as_str(), &value) {
                        ("hash", Value::String(text)) => hashes.extend(KeyHash::parse(text)),
                        ("connection", Value::String(text)) => {
                            connections.extend(ConnectionName::parse(text));
                        }
                        _ => rest.push(value),
                    }
                }
            }
            Value::Array(values) => rest.extend(values),
            _ => {}
        }
    }
    (hashes, connections)
}
