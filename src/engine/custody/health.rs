//! The health of the mount, from memory: one storage call for each connection, none for a role, no request.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::engine::books::{Copies, MOST_NAMED, Noted, Summary};
use crate::engine::connection::{Connection, Heartbeats, Proof};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{CONNECTIONS, ConnectionName, RoleName};
use crate::logical::StorageError;

/// How the mount is doing.
pub struct MountHealth {
    /// The roles.
    pub roles: Summary,
    /// The connections.
    pub connections: BTreeMap<ConnectionName, ConnectionHealth>,
    /// Living keys that are not in a role's entry.
    pub keys: OtherKeys,
    /// What is known of other copies of this storage that are at work.
    pub copies: Option<Copies>,
    /// What the comparisons with OpenRouter have found last, oldest first, up to [`MOST_NAMED`].
    pub findings: Vec<(RoleName, Noted)>,
    /// How many findings there are.
    pub findings_count: usize,
    /// Since when no key is handed out, since the mount is torn down.
    pub torn_down_since: Option<Timestamp>,
}

impl MountHealth {
    /// Since when everything that is managed was compared at least once with what is at OpenRouter; `None`
    /// if there is a connection of which that is not so.
    pub fn compared(&self) -> Option<Timestamp> {
        let compared = self.connections.values().map(|health| health.compared);
        compared.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

/// How a connection is doing.
pub struct ConnectionHealth {
    /// What OpenRouter said of its management key.
    pub proof: Option<Proof>,
    /// When it worked last, and when it did not.
    pub heartbeats: Heartbeats,
    /// Why its entry cannot be read.
    pub unreadable: Option<String>,
    /// When all that is managed through it was last compared with what is at OpenRouter.
    pub compared: Option<Timestamp>,
    /// How many keys with this mount's mark that nobody has were seen through it then.
    pub strays: usize,
}

/// How many keys are under leases, or not confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherKeys {
    /// Under leases.
    pub leased: usize,
    /// Being created.
    pub pending: usize,
    /// Ordered, and what came of that is unknown.
    pub lost: usize,
}

/// Looks at the mount.
///
/// # Errors
/// Storage's own, but for connections that cannot be read.
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
    let (findings, findings_count) = engine.board.newest(MOST_NAMED);
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

/// Of a node that has not begun its work nothing is known.
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
