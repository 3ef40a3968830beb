//! Finds the owner of a key, using all connections at once.
//!
//! What storage knows is returned even if OpenRouter cannot be reached. Only the hash leaves the plugin.

use std::collections::BTreeMap;

use futures::future::join_all;

use super::advice::{Advice, advice};
use super::inventory::{LONGEST, too_slow};
use crate::engine::clock::after;
use crate::engine::connection::{Connection, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Holdings, Known, Owner, State};
use crate::engine::names::{CONNECTIONS, ConnectionName};
use crate::openrouter::{self, KeyHash, ListedKey, Report};

/// What is known about a key.
#[derive(Debug)]
pub struct Found {
    /// The connection that sees it, or through which it was made.
    pub connection: Option<ConnectionName>,
    /// Its owner; `None` if neither storage nor OpenRouter knows the key.
    pub owner: Option<Owner>,
    /// Its state, if OpenRouter knows the key.
    pub state: Option<State>,
    /// What OpenRouter says about it.
    pub report: Option<Report>,
    /// The connection whose management key it is.
    pub manages: Option<ConnectionName>,
    /// The connections that could not be asked, with the reasons.
    pub not_asked: BTreeMap<ConnectionName, String>,
    /// What to do about it.
    pub advice: Advice,
}

/// Looks up a key everywhere. `mount_point` is the path of the mount, for the commands.
///
/// # Errors
/// Errors from storage. Failures of OpenRouter are part of the result.
pub async fn lookup(engine: &Engine, hash: &KeyHash, mount_point: &str) -> Result<Found, Error> {
    let names = engine.storage.list(CONNECTIONS).await?;
    let names = names
        .iter()
        .filter_map(|name| ConnectionName::parse(name).ok());
    let deadline = after(engine.now(), LONGEST.as_secs());
    let asked = join_all(names.map(|name| async {
        // One connection that hangs must not delay the other results.
        let answer = tokio::select! {
            answer = ask(engine, &name, hash) => answer,
            () = engine.clock.sleep_until(deadline) => Err(too_slow(LOOKING_UP)),
        };
        (name, answer)
    }));
    let holdings = Holdings::of(engine);
    let (asked, holdings) = tokio::join!(asked, holdings);
    let holdings = holdings?;
    let mut seen = None;
    let mut manages = None;
    let mut not_asked = BTreeMap::new();
    for (name, answer) in asked {
        match answer {
            Ok(Answer::Seen(key)) => seen = seen.or(Some((name, key))),
            Ok(Answer::Manages) => manages = Some(name),
            Ok(Answer::Unknown) => {}
            Err(reason) => {
                not_asked.insert(name, reason.to_string());
            }
        }
    }
    let mut found = Found {
        connection: holdings.connection_of(hash).cloned(),
        owner: holdings.owner_by_hash(hash),
        state: None,
        report: None,
        manages,
        not_asked,
        advice: Advice::default(),
    };
    if let Some((connection, key)) = seen {
        let known = Known::of(&connection, &key, &holdings, engine.now());
        // If several connections can see the key, the commands name the one through which it was made.
        found.connection = found.connection.or(Some(connection));
        if let Some(known) = known {
            found.owner = Some(known.owner);
            found.state = Some(known.state);
            found.report = Some(known.report);
        }
    }
    found.advice = advice(&found, hash, mount_point);
    Ok(found)
}

/// Reads one key of a connection; `None` if OpenRouter does not know it.
///
/// # Errors
/// Errors from OpenRouter or storage.
pub async fn read_key(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
) -> Result<Option<Known>, Error> {
    let holdings = Holdings::of(engine).await?;
    let deadline = after(engine.now(), LONGEST.as_secs());
    let key = tokio::select! {
        key = look_up(engine, connection, hash) => key?,
        () = engine.clock.sleep_until(deadline) => return Err(too_slow(LOOKING_UP)),
    };
    Ok(key.and_then(|key| Known::of(connection, &key, &holdings, engine.now())))
}

/// Asks OpenRouter about a key; `None` if it does not know it.
///
/// # Errors
/// Errors from OpenRouter or storage.
pub(super) async fn look_up(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
) -> Result<Option<ListedKey>, Error> {
    let link = engine.links.open(&*engine.storage, connection).await?;
    // This may be an emergency: the key may have leaked.
    match link.client(Urgency::Emergency).await.look_up(hash).await {
        Ok(key) => Ok(Some(key)),
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => Err(Error::while_doing(LOOKING_UP)(reason)),
    }
}

enum Answer {
    Seen(ListedKey),
    /// It is the connection's own key.
    Manages,
    Unknown,
}

const LOOKING_UP: &str = "the key cannot be looked up";

async fn ask(engine: &Engine, name: &ConnectionName, hash: &KeyHash) -> Result<Answer, Error> {
    let storage = &*engine.storage;
    if let Some(connection) = Connection::load(storage, name).await?
        && KeyHash::of(&connection.management_key) == *hash
    {
        return Ok(Answer::Manages);
    }
    let key = look_up(engine, name, hash).await?;
    Ok(key.map_or(Answer::Unknown, Answer::Seen))
}
