//! Whose key is this? The one answer, from one pass over what storage and the books have.
//!
//! An unreadable role costs only itself: it is named, and what can be told of it from its bytes alone
//! (which connections it mentions, which hashes) still counts where it keeps something alive.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::Role;
use crate::logical::StorageError;
use crate::openrouter::KeyHash;

/// Who has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The entry of this role.
    Role(RoleName),
    /// A lease of this role.
    Lease(RoleName),
}

/// Every key that this mount knows, and every role that needs a connection.
#[derive(Debug, Default)]
pub struct Holdings {
    keys: BTreeMap<KeyHash, (Holder, ConnectionName)>,
    users: BTreeMap<ConnectionName, BTreeSet<RoleName>>,
    /// Connections through which a key was ordered whose outcome is unknown.
    unconfirmed: BTreeSet<ConnectionName>,
    /// Roles whose entries cannot be read.
    pub unreadable: BTreeSet<RoleName>,
}

impl Holdings {
    /// Reads every role once.
    ///
    /// # Errors
    /// Storage's own, but for unreadable entries.
    pub async fn of(engine: &Engine) -> Result<Self, Error> {
        let storage = &*engine.storage;
        let books = engine.books().await?;
        let mut holdings = Self::default();
        for name in Role::names(storage).await? {
            let Some(value) = storage.get(&name.key()).await? else {
                continue;
            };
            match Role::parse(&name, &value) {
                Ok(role) => holdings.add(name, &role),
                Err(Error::Storage(StorageError::Malformed { .. })) => {
                    holdings.add_unreadable(name, &value);
                }
                Err(reason) => return Err(reason),
            }
        }
        for record in books.leases.all() {
            let key = record.key;
            let held = (Holder::Lease(key.role), key.connection);
            holdings.keys.insert(key.key_hash, held);
        }
        let ordered = books.intents.connections().into_iter();
        holdings.unconfirmed = ordered.collect();
        Ok(holdings)
    }

    fn add(&mut self, name: RoleName, role: &Role) {
        for (hash, connection) in role.keys() {
            let held = (Holder::Role(name.clone()), connection.clone());
            self.keys.insert(hash.clone(), held);
            self.need(connection, &name);
        }
        self.need(&role.terms().connection, &name);
    }

    fn add_unreadable(&mut self, name: RoleName, value: &[u8]) {
        let (hashes, connections) = mentioned(value);
        for hash in hashes {
            let through = connections.first().cloned().unwrap_or_default();
            let held = (Holder::Role(name.clone()), through);
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

    /// Who has the key; `None` is nobody that is known.
    pub fn holder(&self, hash: &KeyHash) -> Option<&Holder> {
        self.keys.get(hash).map(|(holder, _)| holder)
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

    /// The roles that need a connection, for keys in their entries or for those to come.
    pub fn users_of(&self, connection: &ConnectionName) -> Vec<&RoleName> {
        self.users.get(connection).into_iter().flatten().collect()
    }

    /// Whether a key was ordered through a connection whose outcome is still unknown.
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

/// The key hashes and the connections that an entry mentions which cannot be read as what it should
/// be; nothing, if it is not even JSON.
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
