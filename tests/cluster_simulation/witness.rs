//! Who was promised what, which key is whose, and whether that held.
//!
//! # What must hold
//! - **No key in service is deleted by us**: one that is current by what is committed, or superseded
//!   and not due yet. What is in service is judged when the request has its effect; a request that was
//!   on its way while a snapshot was restored is excused.
//! - **Every key lives as promised**, from the moment it is handed out until its `ttl` is over, short
//!   of an emergency, of its deletion by those who may, and of a restored snapshot: see
//!   [`World::witness_restore`] for what it must keep all the same.
//!   A key that is disabled for its hold is judged as one that is deleted, but for a request that comes
//!   late, after the key was restored.
//! - **Every living key is somebody's**: storage leads to it, by a role's entry, a lease's record, or an
//!   intent. A key that a role was to adopt is its application's all the same.
//! - **No key that a role was to adopt is ended** unless a role has adopted it.
//!
//! # What is excused, and why
//! - **An emergency rotation**: the contract's own exception. It may have its effect from its order on,
//!   and, unanswered, for as long as the server gives a request and lets a deposed node go on: 90
//!   seconds each. An order that is refused without effect excuses nothing.
//! - **The deletion of a role**: an operator's order to revoke its keys. One whose store has failed may
//!   go on or not, but it is settled which within two minutes and a few tries: a role that is still
//!   handed out five minutes later is not being deleted, and its promises count again. Nobody settles
//!   it if the engine ends before it has tried: the server's cache may go on showing its next process a
//!   role whose deletion is committed, until another server leads. One that a restored snapshot has
//!   under way goes on, even if it was given up since.
//! - **A key deleted in the dashboard, and a lease that its holder or the server ends**: somebody else's
//!   will.
//! - **Renewals that a restored snapshot has forgotten**: the server forgets them as well, and has the
//!   lease revoked at the time that it has stored itself.
//! - **Keys of which storage knows nothing**: an order that arrived twice, or was on its way during a
//!   restore. The contract has them found by the next comparison, when the work begins; so in the end
//!   there is one. Those of another life of the role, or of a role that is not there, are left alone.
//! - **Runs**: what an emergency of a whole connection, a tidy or a teardown may do to keys, see [`runs`].
//! - **A key that `forget-role` left behind**: its operator's. If the answer is lost, only the engine's
//!   log names it.

mod orphans;
mod promises;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use vault_plugin_secrets_openrouter::openrouter::HttpRequest;

use crate::openrouter::hash_in;
use crate::world::World;

/// All that was seen of one life.
#[derive(Default)]
pub(crate) struct Witness(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    violations: Vec<Violation>,
    keys: BTreeMap<String, Made>,
    promises: BTreeMap<String, Vec<Promise>>,
    /// How many there were.
    promised: u64,
    /// How many snapshots were restored.
    restores: u64,
    /// Since when each role's older keys may be dead: an emergency, or its deletion.
    emergencies: BTreeMap<String, Timestamp>,
    deletions: BTreeMap<String, Timestamp>,
    /// Those whose engine may have ended before it settled whether they were stored.
    unsettled: BTreeSet<String>,
    /// Keys that may be gone, or deleted, by somebody else's will: whose.
    excused: BTreeMap<String, &'static str>,
    /// Keys that were left behind, and since when.
    left_behind: BTreeMap<String, Timestamp>,
    /// Keys about which there is a violation already.
    reported: BTreeSet<String>,
    /// Living keys of which the restored storage knows nothing.
    strays: BTreeSet<String>,
    /// The shortest time that a key of each role was ever to be in use for, in seconds.
    least_use: BTreeMap<String, u64>,
    /// Something has changed behind the engine's back since its work began.
    unseen: bool,
    /// When a handler was last torn off, or an engine ended or began.
    torn: Option<Timestamp>,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    /// Which keys it is about, by short names and nonces, and whose they are.
    pub(crate) about: Vec<String>,
}

/// A key that the engine had made, or that a role was to adopt.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) role: String,
    /// Empty for a key made by hand.
    pub(crate) nonce: String,
}

#[derive(Clone, Debug)]
struct Promise {
    given: Timestamp,
    /// How many were given before.
    order: u64,
    until: Timestamp,
    /// Storage forgot it then: it holds only as long as the role's keys are in use, counted from there.
    forgotten: Option<Timestamp>,
}

/// A request to OpenRouter, as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) server: usize,
    pub(crate) at: Timestamp,
    /// The hash, or the nonce, of the key that it is about; if there is one.
    pub(crate) about: Vec<String>,
    restores: u64,
}

impl Witness {
    /// A request is sent.
    pub(crate) fn sent(&self, server: usize, request: &HttpRequest, at: Timestamp) -> Sent {
        let name = request.json.as_deref().and_then(|json| {
            let body: serde_json::Value = serde_json::from_slice(json).ok()?;
            Some(nonce_of(body["name"].as_str()?)?.to_owned())
        });
        let hash = hash_in(request).map(str::to_owned);
        self.seen(|seen| Sent {
            server,
            at,
            about: hash.or(name).into_iter().collect(),
            restores: seen.restores,
        })
    }

    /// The engine on some server begins its work.
    pub(crate) fn work_began(&self, now: Timestamp) {
        self.seen(|seen| seen.unseen = false);
        self.tear(now);
    }

    /// A handler is torn off in the middle of what it does.
    pub(crate) fn tear(&self, now: Timestamp) {
        self.seen(|seen| {
            seen.torn = Some(now);
            let young = |(role, since): (&String, &Timestamp)| {
                (now.duration_since(*since) < SETTLED).then(|| role.clone())
            };
            let young: Vec<String> = seen.deletions.iter().filter_map(young).collect();
            seen.unsettled.extend(young);
        });
    }

    /// Whether no handler was torn off for so many seconds.
    pub(crate) fn not_torn_down_for(&self, seconds: i64, now: Timestamp) -> bool {
        let long_ago = |torn: Timestamp| now.duration_since(torn).as_secs() > seconds;
        self.seen(|seen| seen.torn.is_none_or(long_ago))
    }

    /// Whether the engine has had no occasion to notice what was done behind its back.
    pub(crate) fn has_unseen(&self) -> bool {
        self.seen(|seen| seen.unseen)
    }

    /// How many promises were given so far.
    pub(crate) fn promises(&self) -> u64 {
        self.seen(|seen| seen.promised)
    }

    /// Something was done behind the engine's back.
    pub(crate) fn unseen(&self) {
        self.seen(|seen| seen.unseen = true);
    }

    /// A role's keys may be in use for so long.
    pub(crate) fn in_use_for(&self, role: &str, seconds: u64) {
        self.seen(|seen| {
            let least = seen.least_use.entry(role.to_owned()).or_insert(seconds);
            *least = seconds.min(*least);
        });
    }

    /// Since when the role's older keys may die, by the order of an operator; returns what was known of
    /// that before.
    pub(crate) fn emergency(&self, role: &str, since: Option<Timestamp>) -> Option<Timestamp> {
        self.seen(|seen| match since {
            Some(since) => seen.emergencies.insert(role.to_owned(), since),
            None => seen.emergencies.remove(role),
        })
    }

    /// Since when all of the role's keys may die, by the order of an operator; returns what was known of
    /// that before.
    pub(crate) fn deletion(&self, role: &str, since: Option<Timestamp>) -> Option<Timestamp> {
        self.seen(|seen| match since {
            Some(since) => seen.deletions.insert(role.to_owned(), since),
            None => {
                seen.unsettled.remove(role);
                seen.deletions.remove(role)
            }
        })
    }

    /// Since when a role's deletion goes on, and whether two minutes later it was settled if it was stored.
    pub(crate) fn deleted_since(&self, role: &str) -> Option<(Timestamp, bool)> {
        self.seen(|seen| {
            let since = seen.deletions.get(role)?;
            Some((*since, !seen.unsettled.contains(role)))
        })
    }

    /// The key may be gone from now on, by this person's will.
    pub(crate) fn excuse(&self, hash: &str, whose: &'static str) {
        self.seen(|seen| {
            seen.excused.insert(hash.to_owned(), whose);
            seen.promises.remove(hash);
        });
    }

    /// The key is nobody's by the will of an operator, and must be left alone.
    pub(crate) fn leave_behind(&self, hash: &str, now: Timestamp) {
        self.seen(|seen| {
            seen.left_behind.insert(hash.to_owned(), now);
            seen.promises.remove(hash);
        });
    }

    /// The key may be nobody's by the will of an operator, and nobody knows.
    pub(crate) fn lose(&self, hash: &str) {
        self.seen(|seen| seen.strays.insert(hash.to_owned()));
    }

    /// Whose key it is, and its nonce: empty for a key made by hand.
    pub(crate) fn whose(&self, hash: &str) -> Option<(String, String)> {
        self.seen(|seen| {
            let made = seen.keys.get(hash)?;
            Some((made.role.clone(), made.nonce.clone()))
        })
    }

    /// Whether a snapshot was restored since the request was sent.
    pub(crate) fn was_restored_since(&self, sent: &Sent) -> bool {
        self.seen(|seen| sent.restores < seen.restores)
    }

    /// All violations so far.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.seen(|seen| seen.violations.clone())
    }

    fn seen<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }
}

impl World {
    /// Something is wrong, with these keys.
    pub(crate) fn violated(&self, what: &str, hashes: &[&str]) {
        // What follows from a violation is none of its own.
        let is_known = self.witness.seen(|seen| {
            let new = hashes
                .iter()
                .filter(|hash| seen.reported.insert((**hash).to_owned()));
            new.count() == 0 && !hashes.is_empty()
        });
        if is_known {
            return;
        }
        let about = self.witness.seen(|seen| {
            let made = |hash: &&str| seen.keys.get(*hash).cloned();
            let made = hashes.iter().filter_map(made);
            made.flat_map(|made| [made.nonce, made.role])
                .collect::<Vec<_>>()
        });
        let names = hashes.iter().map(|hash| self.story.name(hash));
        let about: Vec<String> = about.into_iter().chain(names).collect();
        self.story.tell(format!("!!! {what}"));
        let what = what.to_owned();
        self.witness.seen(|seen| {
            if seen.violations.len() < MAX_VIOLATIONS {
                seen.violations.push(Violation { what, about });
            }
        });
    }

    /// OpenRouter has made a key for the engine.
    pub(crate) fn witness_creation(&self, hash: &str, name: &str, sent: &Sent) {
        let role = name.split(' ').next().unwrap_or_default().to_owned();
        let nonce = nonce_of(name).unwrap_or_default().to_owned();
        let short = self.story.name_key(hash, &role);
        let told = format!("S{}: {short} is made", sent.server);
        self.story.tell_of(&[hash, &nonce], told);
        self.witness.seen(|seen| {
            let is_twin = seen.keys.values().any(|made| made.nonce == nonce);
            seen.keys.insert(hash.to_owned(), Made { role, nonce });
            if is_twin || sent.restores < seen.restores {
                // The order came twice, or storage was restored while it was on its way: the engine can
                // only find the key when it compares.
                seen.strays.insert(hash.to_owned());
                seen.unseen = true;
            }
        });
    }

    /// Somebody has made a key that a role is to adopt.
    pub(crate) fn witness_by_hand(&self, hash: &str, role: &str) {
        let name = self.story.name_key(hash, &format!("{role}-by-hand"));
        self.story
            .tell_of(&[hash, role], format!("{name} is made by hand"));
        let made = Made {
            role: role.to_owned(),
            nonce: String::new(),
        };
        self.witness
            .seen(|seen| seen.keys.insert(hash.to_owned(), made));
    }

    /// A key of a role's is there that storage knows nothing of.
    pub(crate) fn witness_stray(&self, hash: &str, role: &str, nonce: &str) {
        self.story.name_key(hash, &format!("{role}-stray"));
        let made = Made {
            role: role.to_owned(),
            nonce: nonce.to_owned(),
        };
        self.witness.seen(|seen| {
            seen.keys.insert(hash.to_owned(), made);
            seen.strays.insert(hash.to_owned());
            seen.unseen = true;
        });
    }
}

/// The nonce that a key's name ends in.
pub(crate) fn nonce_of(name: &str) -> Option<&str> {
    name.rsplit_once(" vault-").map(|(_, nonce)| nonce)
}

const MAX_VIOLATIONS: usize = 20;

/// So long after it failed to be stored it is settled whether a deletion goes on.
const SETTLED: SignedDuration = SignedDuration::from_secs(120);
