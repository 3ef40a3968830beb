//! The storage that all servers share: one log, linearizable, and what each server sees of it.
//!
//! It behaves as Vault's integrated storage does on a bad day:
//! - A write may be committed although it failed, at once or some seconds later, but always before the next
//!   successful write of the same server, and before the next leader begins.
//! - The server's cache learns only of writes that succeeded. So a leader keeps reading the old value after a
//!   write that was reported as failed.
//! - A server that was deposed and does not know it reads what it knew, and writes nothing.
//! - What a server sees that follows is in [`followers`](crate::standbys::Followers).

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::Timestamp;

use crate::dice::Dice;
use crate::standbys::Followers;

/// Everything that is stored.
pub(crate) type Map = BTreeMap<String, Vec<u8>>;
/// A key, and its new value; `None` deletes it.
pub(crate) type Change = (String, Option<Vec<u8>>);

/// The number of servers.
pub(crate) const SERVERS: usize = 3;

/// The log, and the servers' views of it.
pub(crate) struct Raft(Mutex<State>);

struct State {
    committed: Map,
    leader: Option<usize>,
    views: [View; SERVERS],
    appended: u64,
    followers: Followers,
}

/// What one server sees.
#[derive(Default)]
struct View {
    /// What it knew when it was deposed.
    frozen: Option<Map>,
    cache: BTreeMap<String, Option<Vec<u8>>>,
    /// Appended to its log, and not committed yet.
    tail: Vec<Append>,
}

struct Append {
    id: u64,
    at: Timestamp,
    change: Change,
    /// The write was reported as failed, and will be committed.
    late: bool,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It succeeds.
    Stored,
    /// It fails.
    Lost,
    /// It is committed, but reported as failed.
    Unreported,
    /// The same, but it is committed later.
    Late,
}

impl Raft {
    pub(crate) fn new(followers: Followers) -> Self {
        Self(Mutex::new(State {
            committed: Map::new(),
            leader: None,
            views: Default::default(),
            appended: 0,
            followers,
        }))
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        self.state(|state| state.leader)
    }

    /// A server becomes leader: it sees everything, and its cache is empty.
    pub(crate) fn elect(&self, server: usize) {
        self.state(|state| {
            state.leader = Some(server);
            state.views[server] = View::default();
            state.followers.lead(server);
        });
    }

    /// The leader is deposed. Of its last appended writes, the first of this number are committed.
    pub(crate) fn depose(&self, dice: &Dice) {
        self.state(|state| {
            let Some(server) = state.leader.take() else {
                return;
            };
            let view = &mut state.views[server];
            view.frozen = Some(state.committed.clone());
            let tail = std::mem::take(&mut view.tail);
            state.followers.follow(server);
            let kept = dice.number(0, tail.len() as u64);
            for append in tail.into_iter().take(kept as usize) {
                state.followers.commit(&append.change, append.at);
                apply(&mut state.committed, append.change);
            }
        });
    }

    /// A server reads. `skip_cache` is for an entry that the cache has dropped.
    pub(crate) fn read(&self, server: usize, key: &str, skip_cache: bool) -> Option<Vec<u8>> {
        self.state(|state| {
            let view = &mut state.views[server];
            if skip_cache {
                view.cache.remove(key);
            }
            let underneath = view.frozen.as_ref().unwrap_or(&state.committed);
            let cached = view.cache.entry(key.to_owned());
            cached
                .or_insert_with(|| underneath.get(key).cloned())
                .clone()
        })
    }

    /// The names directly under a prefix, as a server sees them. Lists are not cached.
    pub(crate) fn list(&self, server: usize, prefix: &str) -> Vec<String> {
        self.state(|state| {
            let frozen = state.views[server].frozen.as_ref();
            list(frozen.unwrap_or(&state.committed), prefix)
        })
    }

    /// A server appends a write to its log; `None` if it is not the leader.
    pub(crate) fn append(&self, server: usize, change: Change) -> Option<u64> {
        self.state(|state| {
            if state.leader != Some(server) {
                return None;
            }
            state.appended += 1;
            let (id, at, late) = (state.appended, state.followers.now(), false);
            let append = Append {
                id,
                at,
                change,
                late,
            };
            state.views[server].tail.push(append);
            Some(id)
        })
    }

    /// Completes the write. Returns whether the server is told that it succeeded.
    pub(crate) fn conclude(&self, server: usize, id: u64, fate: Fate) -> bool {
        self.state(|state| {
            let view = &mut state.views[server];
            let Some(at) = view.tail.iter().position(|append| append.id == id) else {
                // The server was deposed in the meantime.
                return false;
            };
            match fate {
                Fate::Late => {
                    view.tail[at].late = true;
                    return false;
                }
                Fate::Lost => {
                    view.tail.remove(at);
                    return false;
                }
                Fate::Stored | Fate::Unreported => {}
            }
            let (key, value) = view.tail[at].change.clone();
            if fate == Fate::Stored {
                view.cache.insert(key, value);
            }
            // A late write that was appended earlier comes first.
            let due = view
                .tail
                .extract_if(..=at, |append| append.late || append.id == id);
            for append in due {
                state.followers.commit(&append.change, append.at);
                apply(&mut state.committed, append.change);
            }
            fate == Fate::Stored
        })
    }

    /// What is stored under a prefix.
    pub(crate) fn below(&self, prefix: &str) -> Vec<Vec<u8>> {
        self.state(|state| {
            let below = state.committed.range(prefix.to_owned()..);
            let below = below.take_while(|(key, _)| key.starts_with(prefix));
            below.map(|(_, value)| value.clone()).collect()
        })
    }

    /// What is stored under a key.
    pub(crate) fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.state(|state| state.committed.get(key).cloned())
    }

    /// Everything that is stored.
    pub(crate) fn committed(&self) -> Map {
        self.committed_as(Map::clone)
    }

    /// What everything that is stored amounts to.
    pub(crate) fn committed_as<T>(&self, what: impl FnOnce(&Map) -> T) -> T {
        self.state(|state| what(&state.committed))
    }

    /// Replaces everything with a snapshot. There is no leader afterwards.
    pub(crate) fn restore(&self, snapshot: Map) {
        self.state(|state| {
            state.followers.restore(&snapshot);
            state.committed = snapshot;
            state.leader = None;
            state.views = Default::default();
        });
    }

    /// What the servers themselves store, in addition to the engine.
    pub(crate) fn note(&self, change: Change) {
        self.state(|state| {
            let now = state.followers.now();
            state.followers.commit(&change, now);
            apply(&mut state.committed, change);
        });
    }

    /// What servers see while they do not lead.
    pub(crate) fn followers<T>(&self, act: impl FnOnce(&mut Followers) -> T) -> T {
        self.state(|state| act(&mut state.followers))
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }
}

/// The names directly under a prefix.
pub(crate) fn list(map: &Map, prefix: &str) -> Vec<String> {
    let below = map.range(prefix.to_owned()..);
    let mut names: Vec<String> = below
        .map_while(|(key, _)| key.strip_prefix(prefix))
        .map(|rest| match rest.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => rest.to_owned(),
        })
        .collect();
    names.dedup();
    names
}

fn apply(map: &mut Map, (key, value): Change) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
