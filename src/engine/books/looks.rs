//! What the looks for adrift intents have shown, and when the next one is due. Only remembered, not
//! stored: after a restart everything is looked for anew.
//!
//! Looks at one place come one after the other, and each serves everything that is adrift there. A
//! caller that waited reuses the outcome of any look that started after it arrived.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::clock::after;
use crate::engine::error::Error;
use crate::engine::names::{Nonce, Place};
use crate::framework::{Held, Locks};
use crate::openrouter::{Key, KeyHash};

/// What is known of an intent that is adrift.
#[derive(Clone, Debug)]
pub struct Look {
    /// What the looks so far have shown of its key.
    pub finding: Finding,
    /// Why the last look did not succeed; `None` when it did.
    pub failure: Option<Error>,
    /// When the next one is due.
    pub next: Timestamp,
    /// When a store began that puts the key into its role's entry, if one did. Until it is certain
    /// what became of it, the key must not be deleted for not being there.
    pub store_begun: Option<Timestamp>,
    /// Since when the fence has shown that its role's entry does not have the key.
    pub out_of_service_since: Option<Timestamp>,
}

/// What the looks have shown of an intent's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing yet.
    Unknown,
    /// OpenRouter listed no such key; the order may still be on its way.
    Nothing,
    /// There is one, and somebody may be using it: it is left alone until then.
    InUse(Timestamp),
}

impl Default for Look {
    /// Nobody has looked yet, so that is due.
    fn default() -> Self {
        Self {
            finding: Finding::Unknown,
            failure: None,
            next: Timestamp::MIN,
            store_begun: None,
            out_of_service_since: None,
        }
    }
}

/// What is known of all of them.
#[derive(Default)]
pub struct Looks {
    // Plain mutexes: neither is ever held across an await.
    by_nonce: Mutex<HashMap<Nonce, Look>>,
    last: Mutex<HashMap<Place, Ended>>,
    one_at_a_time: Locks,
    tickets: AtomicU64,
}

/// A look at a place that came to its end.
struct Ended {
    ticket: Ticket,
    begun: Timestamp,
    outcome: Result<Arc<Listing>, Error>,
}

/// What a listing has shown of the intents that are adrift at a place.
#[derive(Debug)]
pub struct Listing {
    /// When it began.
    pub begun: Timestamp,
    /// The intents whose keys were looked for.
    pub sought: BTreeSet<Nonce>,
    /// The keys that bear their nonces.
    pub keys: Vec<Key>,
    /// Those of the keys that a role or a lease has.
    pub held: BTreeSet<KeyHash>,
}

impl Listing {
    /// The keys that were ordered with this nonce.
    pub fn keys_of<'a>(&'a self, nonce: &'a Nonce) -> impl Iterator<Item = &'a Key> {
        self.keys.iter().filter(|key| nonce.marks(&key.name))
    }
}

/// Tells what came before what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl Looks {
    /// A later one than all before.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// The sole right to look at a place.
    pub async fn alone(&self, place: &Place) -> Held {
        let workspace = place.workspace_id.as_ref().map_or("", |id| id.as_str());
        let name = format!("{} {workspace}", place.connection);
        self.one_at_a_time.lock(&name).await
    }

    /// What the last listing of a place showed, if it began after `arrived`.
    pub fn since(&self, place: &Place, arrived: Ticket) -> Option<Result<Arc<Listing>, Error>> {
        let last = lock(&self.last);
        let ended = last.get(place).filter(|ended| ended.ticket > arrived)?;
        Some(ended.outcome.clone())
    }

    /// A look at a place has come to its end.
    pub fn ended(
        &self,
        place: &Place,
        (ticket, begun): (Ticket, Timestamp),
        outcome: Result<Arc<Listing>, Error>,
    ) {
        let ended = Ended {
            ticket,
            begun,
            outcome,
        };
        lock(&self.last).insert(place.clone(), ended);
    }

    /// When the keeper may look at a place again: many intents with a schedule each are not to keep
    /// it listing all the time.
    pub fn rested(&self, place: &Place, now: Timestamp) -> Timestamp {
        let last = lock(&self.last);
        last.get(place)
            // Later than now it cannot be, unless the clock was set back.
            .filter(|ended| ended.begun <= now)
            .map_or(Timestamp::MIN, |ended| after(ended.begun, REST))
    }

    /// What is known of an intent.
    pub fn of(&self, nonce: &Nonce) -> Look {
        lock(&self.by_nonce).get(nonce).cloned().unwrap_or_default()
    }

    /// More has become known of an intent.
    pub fn learn(&self, nonce: &Nonce, change: impl FnOnce(&mut Look)) {
        change(lock(&self.by_nonce).entry(nonce.clone()).or_default());
    }

    /// A store begins that puts the intent's key into its role's entry.
    pub fn store_begins(&self, nonce: &Nonce, now: Timestamp) {
        self.learn(nonce, |look| {
            look.store_begun = Some(now);
            look.next = after(now, OUTLIVED);
        });
    }

    /// The intent is struck out.
    pub fn forget(&self, nonce: &Nonce) {
        lock(&self.by_nonce).remove(nonce);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds between the beginnings of two of the keeper's looks at one place.
const REST: u64 = 5;

/// In seconds: after this long it is certain what became of a store whose answer was a failure, or
/// never came. A server lets a node that has lost its office work on for up to 90 seconds (Vault's
/// `max_request_duration`), reading its own old state.
pub const OUTLIVED: u64 = 120;
