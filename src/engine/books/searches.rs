//! The results of searches for intents that are adrift, and when the next search is due. In memory only:
//! after a restart all searches start again.
//!
//! Searches at one place run one after the other, and each covers all intents that are adrift there. A caller
//! that waited reuses the outcome of any search that started after it arrived.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::clock::after;
use crate::engine::error::Error;
use crate::engine::names::{Nonce, Place};
use crate::framework::{Held, Locks};
use crate::openrouter::{Key, KeyHash};

/// What is known about an intent that is adrift.
#[derive(Clone, Debug)]
pub struct Search {
    /// What the searches have shown about its key.
    pub finding: Finding,
    /// Why the last search failed; `None` if it succeeded.
    pub failure: Option<Error>,
    /// When the next search is due.
    pub next: Timestamp,
    /// When a write began that stores the key in its role's entry, if there was one. Until the outcome of
    /// that write is certain, the key must not be deleted because it is missing from the entry.
    pub store_begun: Option<Timestamp>,
    /// Since when the fence has shown that the role's entry does not contain the key.
    pub out_of_service_since: Option<Timestamp>,
}

/// What the searches have shown about an intent's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing yet.
    Unknown,
    /// OpenRouter listed no such key; the order may still be in flight.
    Nothing,
    /// The key exists and may be in use. It is left alone until this time.
    InUse(Timestamp),
}

impl Default for Search {
    /// Nothing has been searched for, so a search is due.
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

/// The search results of all intents.
#[derive(Default)]
pub struct Searches {
    // Plain mutexes: neither is ever held across an await.
    by_nonce: Mutex<HashMap<Nonce, Search>>,
    last: Mutex<HashMap<Place, Ended>>,
    one_at_a_time: Locks,
    tickets: AtomicU64,
}

/// A completed search at a place.
struct Ended {
    ticket: Ticket,
    begun: Timestamp,
    outcome: Result<Arc<Listing>, Error>,
}

/// What a listing has shown about the intents that are adrift at a place.
#[derive(Debug)]
pub struct Listing {
    /// When the listing began.
    pub begun: Timestamp,
    /// The intents whose keys were searched for.
    pub sought: BTreeSet<Nonce>,
    /// The keys with their nonces.
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

/// Orders events: a later event has a higher ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl Searches {
    /// The next ticket.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// Locks a place for a search.
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

    /// Records a completed search at a place.
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

    /// When the keeper may search a place again. Many intents with their own schedules must not cause
    /// constant listings.
    pub fn rested(&self, place: &Place, now: Timestamp) -> Timestamp {
        let last = lock(&self.last);
        last.get(place)
            // It is later than now only if the clock was set back.
            .filter(|ended| ended.begun <= now)
            .map_or(Timestamp::MIN, |ended| after(ended.begun, REST))
    }

    /// What is known about an intent.
    pub fn of(&self, nonce: &Nonce) -> Search {
        lock(&self.by_nonce).get(nonce).cloned().unwrap_or_default()
    }

    /// Updates what is known about an intent.
    pub fn learn(&self, nonce: &Nonce, change: impl FnOnce(&mut Search)) {
        change(lock(&self.by_nonce).entry(nonce.clone()).or_default());
    }

    /// Records that a write begins that stores the intent's key in its role's entry.
    pub fn store_begins(&self, nonce: &Nonce, now: Timestamp) {
        self.learn(nonce, |search| {
            search.store_begun = Some(now);
            search.next = after(now, OUTLIVED);
        });
    }

    /// Forgets an intent that is deleted.
    pub fn forget(&self, nonce: &Nonce) {
        lock(&self.by_nonce).remove(nonce);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Minimum time between the starts of two of the keeper's searches at one place, in seconds.
const REST: u64 = 5;

/// In seconds. After this time, the outcome of a write whose answer was a failure, or never came, is certain.
/// A server lets a deposed node work for up to 90 seconds (Vault's `max_request_duration`), and that node
/// reads its own old state.
pub const OUTLIVED: u64 = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::names::ConnectionName;

    fn at(second: u64) -> Timestamp {
        after(Timestamp::UNIX_EPOCH, second)
    }

    fn place() -> Place {
        Place {
            connection: ConnectionName::default(),
            workspace_id: None,
        }
    }

    fn listing(second: u64) -> Listing {
        Listing {
            begun: at(second),
            sought: BTreeSet::new(),
            keys: Vec::new(),
            held: BTreeSet::new(),
        }
    }

    #[test]
    fn only_a_search_that_began_later_answers_a_caller() {
        let searches = Searches::default();
        let [early, begun, late] = [(); 3].map(|()| searches.ticket());
        let ended = Ok(Arc::new(listing(10)));
        searches.ended(&place(), (begun, at(10)), ended);
        let answers = |arrived| searches.since(&place(), arrived).is_some();
        assert!(answers(early));
        assert!(!answers(begun) && !answers(late));
    }

    #[test]
    fn a_place_rests_after_a_search_unless_the_clock_was_set_back() {
        let searches = Searches::default();
        assert_eq!(searches.rested(&place(), at(10)), Timestamp::MIN);
        let begun = (searches.ticket(), at(10));
        searches.ended(&place(), begun, Ok(Arc::new(listing(10))));
        assert_eq!(searches.rested(&place(), at(10)), at(10 + REST));
        assert_eq!(searches.rested(&place(), at(9)), Timestamp::MIN);
    }

    #[test]
    fn what_is_known_of_an_intent_is_forgotten_with_it() {
        let searches = Searches::default();
        let nonce = Nonce::of_key_name(&format!("app vault-{:032x}", 1)).unwrap();
        searches.store_begins(&nonce, at(10));
        assert_eq!(searches.of(&nonce).store_begun, Some(at(10)));
        searches.forget(&nonce);
        let search = searches.of(&nonce);
        assert_eq!((search.store_begun, search.next), (None, Timestamp::MIN));
    }
}
