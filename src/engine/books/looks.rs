//! What the looks for adrift intents have shown, and when the next one is due. Only remembered, not
//! stored: after a restart everything is looked for anew.
//!
//! Looks at one place come one after the other, and each serves everything that is adrift there; who
//! waited for one that began after they came shares what it came to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::clock::after;
use crate::engine::error::Error;
use crate::engine::names::{Nonce, Place};
use crate::framework::{Held, Locks};

/// What is known of an intent that is adrift.
#[derive(Clone, Debug)]
pub struct Look {
    /// Its key is not in its role's entry, and will not be: no task has it any more.
    pub ownerless: bool,
    /// A look has succeeded, and found no key.
    pub found_nothing: bool,
    /// Why the last look did not succeed; `None` when it did.
    pub failure: Option<Error>,
    /// When the next one is due.
    pub next: Timestamp,
}

impl Default for Look {
    /// Nobody has looked yet, so that is due.
    fn default() -> Self {
        Self {
            ownerless: false,
            found_nothing: false,
            failure: None,
            next: Timestamp::MIN,
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
    outcome: Result<(), Error>,
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

    /// What the last look at a place came to, if it began after `arrived`.
    pub fn since(&self, place: &Place, arrived: Ticket) -> Option<Result<(), Error>> {
        let last = lock(&self.last);
        let ended = last.get(place).filter(|ended| ended.ticket > arrived)?;
        Some(ended.outcome.clone())
    }

    /// A look at a place has come to its end.
    pub fn ended(
        &self,
        place: &Place,
        (ticket, begun): (Ticket, Timestamp),
        outcome: Result<(), Error>,
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
