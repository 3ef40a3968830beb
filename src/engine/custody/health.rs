//! The health of the mount, mostly from memory: one storage call for each connection, none for roles, and no
//! request to OpenRouter.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::engine::books::{Copies, MAX_NAMED, Noted, Summary};
use crate::engine::connection::{Connection, Heartbeats, Proof};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{CONNECTIONS, ConnectionName, RoleName};
use crate::logical::StorageError;

/// The health of the mount.
pub struct MountHealth {
    /// The roles.
    pub roles: Summary,
    /// The connections.
    pub connections: BTreeMap<ConnectionName, ConnectionHealth>,
    /// Counts of the keys that are not in a role's entry.
    pub keys: OtherKeys,
    /// What is known about active copies of this storage.
    pub copies: Option<Copies>,
    /// The last findings of the comparisons with OpenRouter, oldest first, at most [`MAX_NAMED`].
    pub findings: Vec<(RoleName, Noted)>,
    /// How many findings there are.
    pub findings_count: usize,
    /// When the mount was torn down. No key has been handed out since.
    pub torn_down_since: Option<Timestamp>,
}

impl MountHealth {
    /// When the keys of every connection had been compared with OpenRouter at least once; `None` if those of
    /// one have not been.
    pub fn compared(&self) -> Option<Timestamp> {
        let compared = self.connections.values().map(|health| health.compared);
        compared.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

/// The health of a connection.
pub struct ConnectionHealth {
    /// OpenRouter's report about its management key.
    pub proof: Option<Proof>,
    /// When it last succeeded and failed.
    pub heartbeats: Heartbeats,
    /// The reason why its entry cannot be read.
    pub unreadable: Option<String>,
    /// When its keys were last compared with OpenRouter.
    pub compared: Option<Timestamp>,
    /// How many stray keys of this mount were found then.
    pub strays: usize,
}

/// Counts of leased and unconfirmed keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherKeys {
    /// Under leases.
    pub leased: usize,
    /// Being created.
    pub pending: usize,
    /// Ordered, with an unknown outcome.
    pub lost: usize,
}

/// Determines the health of the mount.
///
/// # Errors
/// Errors from storage, except for unreadable connections.
pub async fn health(engine: &Engine) -> Result<MountHealth, Error> {
    let storage = &*engine.storage;
    let mut connections = BTreeMap::new();
    for name in storage.list(CONNECTIONS).await? {
        let Ok(name) = ConnectionName::parse(&name) else {
            continue;
        };
        let (proof, unreadable) = match Connection::load(storage, &name).await {
            Ok(Some(connection)) => (connection.proof, None),
            Ok(None) => continue,
            Err(reason @ Error::Storage(StorageError::Malformed { .. })) => {
                (None, Some(reason.to_string()))
            }
            Err(reason) => return Err(reason),
        };
        let heartbeats = engine.links.heartbeats(&name);
        let health = ConnectionHealth {
            proof,
            heartbeats,
            unreadable,
            compared: engine.board.last_compared(&name),
            strays: engine.board.strays(&name),
        };
        connections.insert(name, health);
    }
    let (findings, findings_count) = engine.board.newest(MAX_NAMED);
    Ok(MountHealth {
        roles: engine.roster.summary(engine.now()),
        connections,
        keys: other_keys(engine),
        copies: engine.board.copies(),
        findings,
        findings_count,
        torn_down_since: engine.runs().torn_down_since(),
    })
}

/// The counts are zero on a node that has not started its work.
fn other_keys(engine: &Engine) -> OtherKeys {
    let Some(books) = engine.books_if_open() else {
        return OtherKeys::default();
    };
    let orders = books.intents.all();
    let pending = orders.iter().filter(|(_, is_under_way)| *is_under_way);
    let pending = pending.count();
    OtherKeys {
        leased: books.leases.count(),
        pending,
        lost: orders.len() - pending,
    }
}

/// When the management key of a connection expires, if that is known.
pub fn expiry(health: &ConnectionHealth) -> Option<Timestamp> {
    health.proof.as_ref()?.expires_at
}
