//! What a reader at a standby may get: the key that the server sees, or saw a short while ago.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::followers::{Followers, Version};
use crate::node::MOUNT;
use crate::world::World;

/// How often standbys were put to the test.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Keys that they handed out.
    pub(crate) handed_out: u64,
    /// Those of them for which they did not read storage.
    pub(crate) kept: u64,
    /// Those of them that another key had replaced by what is committed.
    pub(crate) behind: u64,
    /// Those of them that another key had replaced by what their server saw.
    pub(crate) stale: u64,
    /// Those of them whose engine was told of a change during the read.
    pub(crate) raced: u64,
    /// Reads that were forwarded.
    pub(crate) forwarded: u64,
    /// Promises that were shortened since the server was far behind.
    pub(crate) shortened: u64,
    /// Roles that were read at a standby in the end.
    pub(crate) settled: u64,
    /// News of changes that reached a standby on time.
    pub(crate) told: u64,
    /// News that reached one late, or a second time.
    pub(crate) told_late: u64,
    /// News that never reached a standby.
    pub(crate) untold: u64,
}

impl Counted {
    pub(crate) fn add(&mut self, other: Self) {
        self.handed_out += other.handed_out;
        self.kept += other.kept;
        self.behind += other.behind;
        self.stale += other.stale;
        self.raced += other.raced;
        self.forwarded += other.forwarded;
        self.shortened += other.shortened;
        self.settled += other.settled;
        self.told += other.told;
        self.told_late += other.told_late;
        self.untold += other.untold;
    }
}

/// A key that a standby hands out.
pub(super) struct Handout<'a> {
    pub(super) server: usize,
    pub(super) role: &'static str,
    pub(super) hash: &'a str,
    pub(super) ttl: u64,
    /// When it was asked for.
    pub(super) begun: Timestamp,
    /// When the engine was last told by then that the role has changed.
    pub(super) told: Option<Timestamp>,
    /// The engine has not read storage for it.
    pub(super) is_kept: bool,
    /// The engine was told of a change while it was asked.
    pub(super) is_raced: bool,
}

impl Handout<'_> {
    /// What this version hands out, if it is this key.
    fn of<'a>(&self, version: &'a Version) -> Option<&'a Served> {
        let served = version.served();
        served.filter(|served| served.hash == self.hash && served.is_guarded)
    }
}

/// How a handout compares to storage.
enum Standing {
    /// As the server sees it; whether as it is committed.
    Fresh { is_behind: bool },
    /// The server has seen another key since then; as the contract allows.
    Stale,
    /// The contract does not allow it.
    TooOld(Option<Timestamp>),
}

/// What a version of a role hands out.
pub(crate) struct Served {
    hash: String,
    ttl: u64,
    /// Since when it is the current key.
    since: Option<Timestamp>,
    /// Whether it is proved to have the guardrail that it is to have.
    is_guarded: bool,
}

impl World {
    /// A standby hands out a key.
    pub(super) fn judge_standby(&self, handout: &Handout<'_>) {
        let Handout {
            server, role, hash, ..
        } = *handout;
        let key = key_of(role);
        let standing = self
            .raft
            .followers(|followers| standing(followers, &key, handout));
        let (is_behind, is_stale) = match standing {
            Standing::Fresh { is_behind } => (is_behind, false),
            Standing::Stale | Standing::TooOld(_) => (true, true),
        };
        self.standbys.count(|counted| {
            counted.handed_out += 1;
            counted.kept += u64::from(handout.is_kept);
            counted.behind += u64::from(is_behind);
            counted.stale += u64::from(is_stale);
            counted.raced += u64::from(handout.is_raced);
        });
        if let Standing::TooOld(replaced) = standing {
            let name = self.story.name(hash);
            let since = replaced.map_or("never".to_owned(), |at| format!("not since {at}"));
            let told = handout.told.map_or("never".to_owned(), |at| at.to_string());
            let (begun, from) = (
                handout.begun,
                if handout.is_kept { "memory" } else { "storage" },
            );
            let what = format!(
                "S{server} hands out {name} of {role} from {from}, which it sees {since}; asked at \
                 {begun}, told of a change at {told}"
            );
            self.violated(&what, &[hash]);
        }
        self.witness_standby(server, hash, handout.ttl);
    }

    /// By what a promise that a standby gave at this time may be shorter, by the lag of its server: that it was
    /// longer behind than it may be when the key was replaced.
    pub(crate) fn excess_lag(
        &self,
        server: usize,
        role: &str,
        hash: &str,
        (given, ttl): (Timestamp, SignedDuration),
    ) -> SignedDuration {
        let now = self.now();
        self.raft.followers(|followers| {
            let mut next: Option<(&Version, Option<Timestamp>)> = None;
            let key = key_of(role);
            let mut versions = followers.all(server, &key).rev();
            let was_current = versions.any(|(version, seen)| {
                let served = version.served();
                let is_it = served.is_some_and(|served| served.hash == hash);
                if !is_it {
                    next = Some((version, seen));
                }
                is_it
            });
            let Some((version, seen)) = next.filter(|_| was_current) else {
                return SignedDuration::ZERO;
            };
            // The grace period of the old key began before the switch was written.
            let served = version.served();
            let since = served.and_then(|served| served.since);
            let replaced = since.map_or(version.written, |since| since.min(version.written));
            let behind = seen.unwrap_or(now).duration_since(replaced);
            let most = given.duration_since(replaced).max(SignedDuration::ZERO);
            let excess = (behind - ttl / 18).max(SignedDuration::ZERO);
            excess.min(most)
        })
    }

    /// A promise was kept as far as it went.
    pub(crate) fn count_shortened(&self) {
        self.standbys.count(|counted| counted.shortened += 1);
    }

    /// Whether this key was current by what is committed, then or since.
    pub(crate) fn was_current_since(&self, role: &str, hash: &str, since: Timestamp) -> bool {
        self.longest_ttl_since(role, hash, since).is_some()
    }

    /// The longest `ttl` with which this key was current by what is committed, then or since; `None` if it was
    /// not.
    pub(crate) fn longest_ttl_since(
        &self,
        role: &str,
        hash: &str,
        since: Timestamp,
    ) -> Option<u64> {
        self.raft.followers(|followers| {
            let key = key_of(role);
            let versions = followers.all(0, &key).rev().map(|(version, _)| version);
            let mut longest = None;
            for version in versions {
                let served = version.served().filter(|served| served.hash == hash);
                longest = longest.max(served.map(|served| served.ttl));
                if version.written <= since {
                    break;
                }
            }
            longest
        })
    }
}

fn standing(followers: &Followers, key: &str, handout: &Handout<'_>) -> Standing {
    let mut last = None;
    for seen in followers.seen_by(handout.server, key) {
        let served = handout.of(seen.version);
        let Some(replaced) = seen.replaced else {
            if served.is_some() {
                let newest = followers.all(handout.server, key).next_back();
                let is_behind = newest.is_some_and(|(newest, _)| handout.of(newest).is_none());
                return Standing::Fresh { is_behind };
            }
            continue;
        };
        if let Some(served) = served {
            let was_told = handout.told.is_some_and(|told| replaced <= told);
            if handout.begun <= replaced + kept_for(served.ttl) && !was_told {
                return Standing::Stale;
            }
            last = last.max(Some(replaced));
        }
        if replaced + LONGEST < handout.begun && last.is_some() {
            break;
        }
    }
    Standing::TooOld(last)
}

impl Served {
    /// By an entry; `None` if it hands out nothing.
    pub(super) fn by(entry: &[u8]) -> Option<Self> {
        let entry: Value = serde_json::from_slice(entry).ok()?;
        let role = &entry["entry"]["rotating"];
        let is_dead = role["unfit"]["reason"]
            .as_str()
            .is_some_and(|reason| reason != "outdated");
        if !role["deletion"].is_null() || is_dead {
            return None;
        }
        Some(Self {
            hash: role["current"]["hash"].as_str()?.to_owned(),
            ttl: role["definition"]["rotation"]["ttl"].as_u64()?,
            since: role["current"]["since"].as_str()?.parse().ok(),
            is_guarded: is_guarded(role),
        })
    }
}

/// A key that was made in another place than its role is in now keeps its guardrail.
fn is_guarded(role: &Value) -> bool {
    let (terms, current) = (&role["definition"]["terms"], &role["current"]);
    let places = ["connection", "workspace_id"];
    let is_there = places.iter().all(|part| terms[part] == current[part]);
    let (asked, has) = (&terms["guardrail_id"], &current["guardrail_id"]);
    let is_proved = current["guardrail_unproved"] != true && (has == asked || !is_there);
    let needs_none = asked.is_null() || (!is_there && has.is_null());
    needs_none || is_proved
}

/// For how long an engine may use what it has read: an eighteenth of the `ttl`, a minute at most.
fn kept_for(ttl: u64) -> SignedDuration {
    (SignedDuration::from_secs(ttl.cast_signed()) / 18).min(LONGEST)
}

fn key_of(role: &str) -> String {
    format!("{MOUNT}roles/{role}")
}

const LONGEST: SignedDuration = SignedDuration::from_secs(60);
