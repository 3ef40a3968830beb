//! What each server sees of storage while it does not lead: everything that is committed, in its order,
//! some time later.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::Clock;
use tokio::sync::Notify;

use super::contract::Served;
use crate::node::MOUNT;
use crate::raft::{Change, Map, SERVERS};

/// The servers' views, and what they are views of.
pub(crate) struct Followers {
    clock: Clock,
    /// The versions of each entry that a standby may read, oldest first.
    versions: BTreeMap<String, Vec<Version>>,
    log: Vec<Committed>,
    servers: [Follower; SERVERS],
}

/// A version of an entry.
pub(crate) struct Version {
    /// Which place of the log it is from.
    place: usize,
    /// When its writer wrote it. It may have been committed a while later.
    pub(crate) written: Timestamp,
    /// `None` where the entry was deleted.
    value: Option<Vec<u8>>,
    served: OnceLock<Option<Served>>,
}

/// What was committed at once.
struct Committed {
    at: Timestamp,
    /// The entry; none for a restored snapshot, of which no engine is told.
    key: Option<String>,
}

#[derive(Default)]
struct Follower {
    leads: bool,
    lag: SignedDuration,
    /// Since when it is behind by that: it saw nothing that it sees because of that before.
    lags_since: Option<Timestamp>,
    /// Until when it led.
    led_until: Option<Timestamp>,
    /// When each place of the log came to be seen.
    seen: Vec<Timestamp>,
    /// Of so many places the engine was told what changed, or was to be told.
    told: usize,
    changed: Arc<Notify>,
}

/// How a server sees a version.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) version: &'a Version,
    /// Since when it sees another one; `None` if this is the newest.
    pub(crate) replaced: Option<Timestamp>,
}

impl Version {
    fn new(place: usize, written: Timestamp, value: Option<Vec<u8>>) -> Self {
        Self {
            place,
            written,
            value,
            served: OnceLock::new(),
        }
    }

    /// What it hands out, if anything.
    pub(crate) fn served(&self) -> Option<&Served> {
        let served = || self.value.as_deref().and_then(Served::by);
        self.served.get_or_init(served).as_ref()
    }
}

impl Followers {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            versions: BTreeMap::new(),
            log: Vec::new(),
            servers: Default::default(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Something is committed that was written then.
    pub(crate) fn commit(&mut self, (key, value): &Change, written: Timestamp) {
        if !is_replicated(key) {
            return;
        }
        let version = Version::new(self.log.len(), written, value.clone());
        self.versions.entry(key.clone()).or_default().push(version);
        self.push(Some(key.clone()));
    }

    /// A snapshot takes the place of everything; nobody leads.
    pub(crate) fn restore(&mut self, snapshot: &Map) {
        let (place, written) = (self.log.len(), self.now());
        for (key, versions) in &mut self.versions {
            let value = snapshot.get(key).cloned();
            if versions.last().is_some_and(|last| last.value != value) {
                versions.push(Version::new(place, written, value));
            }
        }
        for server in 0..SERVERS {
            self.follow(server);
        }
        self.push(None);
    }

    fn push(&mut self, key: Option<String>) {
        let at = self.now();
        self.log.push(Committed { at, key });
        for follower in &self.servers {
            // One that has others before it will come to it.
            if !follower.leads && follower.told + 1 == self.log.len() {
                follower.changed.notify_one();
            }
        }
    }

    /// A server leads: it sees everything.
    pub(crate) fn lead(&mut self, server: usize) {
        let (now, length) = (self.now(), self.log.len());
        let follower = &mut self.servers[server];
        follower.seen.resize(length, now);
        follower.leads = true;
    }

    /// A server leads no more, if it did.
    pub(crate) fn follow(&mut self, server: usize) {
        let now = self.now();
        let follower = &mut self.servers[server];
        if std::mem::take(&mut follower.leads) {
            follower.led_until = Some(now);
            let since = follower.seen.len();
            let meanwhile = self.log.iter().skip(since).map(|committed| committed.at);
            follower.seen.extend(meanwhile);
            follower.told = follower.seen.len();
        }
    }

    /// Whether a server has led at any time since then.
    pub(crate) fn led_since(&self, server: usize, since: Timestamp) -> bool {
        let follower = &self.servers[server];
        follower.leads || follower.led_until.is_some_and(|until| until >= since)
    }

    /// So far behind is a server from now on.
    pub(crate) fn delay(&mut self, server: usize, lag: SignedDuration) {
        self.catch_up(server);
        let now = self.now();
        let follower = &mut self.servers[server];
        follower.lag = lag;
        follower.lags_since = Some(now);
        follower.changed.notify_one();
    }

    /// Woken when there may be something to tell a server's engine earlier than [`next`](Self::next) says.
    pub(crate) fn changed(&self, server: usize) -> Arc<Notify> {
        Arc::clone(&self.servers[server].changed)
    }

    /// When a server sees the next change; `None` if none is on its way.
    pub(crate) fn next(&self, server: usize) -> Option<Timestamp> {
        let follower = &self.servers[server];
        if follower.leads {
            return None;
        }
        if follower.told < follower.seen.len() {
            return Some(self.now());
        }
        let next = self.log.get(follower.seen.len())?;
        Some(next.at + follower.lag)
    }

    /// The entries of whose change a server's engine is to be told now.
    pub(crate) fn untold(&mut self, server: usize) -> Vec<String> {
        self.catch_up(server);
        let follower = &mut self.servers[server];
        if follower.leads {
            return Vec::new();
        }
        let news = &self.log[follower.told..follower.seen.len()];
        follower.told = follower.seen.len();
        news.iter()
            .filter_map(|committed| committed.key.clone())
            .collect()
    }

    /// A server's engine reads an entry.
    pub(crate) fn read(&mut self, server: usize, key: &str) -> Option<Vec<u8>> {
        self.catch_up(server);
        let newest = self.seen_by(server, key).next()?;
        newest.version.value.clone()
    }

    /// The versions of an entry that a server has seen, the newest first.
    pub(crate) fn seen_by(&self, server: usize, key: &str) -> impl Iterator<Item = Seen<'_>> {
        let follower = &self.servers[server];
        let length = match follower.leads {
            true => self.log.len(),
            false => follower.seen.len(),
        };
        let versions = self.versions.get(key).map_or(&[][..], Vec::as_slice);
        let known = versions.partition_point(|version| version.place < length);
        let mut replaced = None;
        versions[..known].iter().rev().map(move |version| {
            let seen = follower.seen.get(version.place).copied();
            let since = seen.unwrap_or(self.log[version.place].at);
            let replaced = replaced.replace(since);
            Seen { version, replaced }
        })
    }

    /// All versions of an entry, oldest first, and since when a server sees each; `None` if it does not yet.
    pub(crate) fn all(
        &self,
        server: usize,
        key: &str,
    ) -> impl DoubleEndedIterator<Item = (&Version, Option<Timestamp>)> {
        let follower = &self.servers[server];
        let versions = self.versions.get(key).into_iter().flatten();
        versions.map(move |version| {
            let seen = follower.seen.get(version.place).copied();
            let at_once = follower.leads.then(|| self.log[version.place].at);
            (version, seen.or(at_once))
        })
    }

    fn catch_up(&mut self, server: usize) {
        let now = self.now();
        let follower = &mut self.servers[server];
        if follower.leads {
            return;
        }
        while let Some(next) = self.log.get(follower.seen.len()) {
            let before = follower.seen.last().copied();
            let earliest = before.max(follower.lags_since).unwrap_or(Timestamp::MIN);
            let due = (next.at + follower.lag).max(earliest);
            if due > now {
                break;
            }
            follower.seen.push(due);
        }
    }
}

/// Whether a standby may read it: roles and connections, and nothing else.
pub(crate) fn is_replicated(key: &str) -> bool {
    key.strip_prefix(MOUNT)
        .is_some_and(|key| key.starts_with("roles/") || key.starts_with("config/"))
}
