//! Who was promised what, who owns which key, and whether that held.
//!
//! # What must hold
//! - **The engine deletes no key in service**: one that is current according to what is committed, or
//!   superseded and not due yet. This is judged when the request takes effect. A request that was on its way
//!   while a snapshot was restored is an exception.
//! - **Every key lives as promised**, from the moment when it is handed out until its `ttl` is over, except
//!   for an emergency, its deletion by those who may delete it, and a restored snapshot: see
//!   [`World::witness_restore`] for what must still hold then. A key that is disabled for its hold is judged
//!   as one that is deleted, except by a request that arrives late, after the key was restored.
//! - **Every living key has an owner**: storage leads to it, by a role's entry, a lease's record, or an
//!   intent. A key that a role was to adopt belongs to its application in any case.
//! - **No key that a role was to adopt is ended** unless a role has adopted it.
//!
//! # Exceptions, and why
//! - **An emergency rotation**: the contract's own exception. It may take effect from its order on. Without
//!   an answer it may take effect for as long as the server gives a request and lets a deposed node continue:
//!   90 seconds each. An order that is refused without effect is no exception.
//! - **The deletion of a role**: an operator's order to revoke its keys. If its store has failed, the
//!   deletion may continue or not, but that is settled within two minutes and a few tries. A role that is
//!   still handed out five minutes later is not being deleted, and its promises count again. Nothing settles
//!   it if the engine ends before it has tried: the server's cache may keep showing its next process a role
//!   whose deletion is committed, until another server leads. A deletion that a restored snapshot has in
//!   progress continues, even if it was given up since.
//! - **A key deleted in the dashboard, and a lease that its holder or the server revokes**: someone else's
//!   decision.
//! - **Renewals that a restored snapshot has forgotten**: the server forgets them as well, and revokes the
//!   lease at the time that it has stored itself.
//! - **Keys that storage does not know**: an order that arrived twice, or was on its way during a restore.
//!   The contract requires the next comparison to find them, when the work begins; so each life ends with
//!   one. Those of another life of the role, or of a role that does not exist, are left alone.
//! - **Runs**: what an emergency of a whole connection, a tidy or a teardown may do to keys, see [`runs`].
//! - **Keys out of a teardown's sight**: keys that storage does not know, in an account whose connection is
//!   gone. A restored snapshot can lack the connection together with every key that was made through it. Only
//!   the connection has a management key, so nothing can list those keys until someone writes it again.
//! - **What standbys hand out**: see [`standbys`](crate::standbys).
//! - **A key that `forget-role` left behind**: it belongs to the operator. If the answer is lost, only the
//!   engine's log names it.

mod orphans;
mod promises;
mod runs;
mod standbys;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use vault_plugin_secrets_openrouter::openrouter::HttpRequest;

use crate::openrouter::hash_in;
use crate::world::World;

/// Everything that was observed in one life.
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
    /// Keys that may be gone, or deleted, by someone else's decision: whose.
    excused: BTreeMap<String, &'static str>,
    /// Keys that were left behind, and since when.
    left_behind: BTreeMap<String, Timestamp>,
    /// Keys with a violation that was already reported.
    reported: BTreeSet<String>,
    /// Living keys that the restored storage does not know.
    strays: BTreeSet<String>,
    /// Keys that a run was ending when a snapshot was restored, and how many had been restored before.
    ending_before: BTreeMap<String, u64>,
    /// The shortest time for which a key of each role was ever to be in use, in seconds.
    least_use: BTreeMap<String, u64>,
    /// Something was changed outside the engine since its work began.
    unseen: bool,
    /// When a handler was last aborted, or an engine ended or began.
    torn: Option<Timestamp>,
    standbys: standbys::Seen,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    /// The keys that it is about, by short names and nonces, and their owners.
    pub(crate) about: Vec<String>,
}

/// A key that the engine created, or that a role was to adopt.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) role: String,
    /// Empty for a key made by hand.
    pub(crate) nonce: String,
}

#[derive(Clone, Debug)]
struct Promise {
    given: Timestamp,
    /// How many promises were made before.
    order: u64,
    until: Timestamp,
    /// Storage forgot it at this time. It then holds only as long as the role's keys are in use, counted from
    /// there.
    forgotten: Option<Timestamp>,
    /// The server that gave it, if it was a standby.
    standby: Option<usize>,
}

/// A request to OpenRouter, when it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) server: usize,
    pub(crate) at: Timestamp,
    /// The hash, or the nonce, of the key that it is about, if there is one.
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

    /// The engine on a server begins its work.
    pub(crate) fn work_began(&self, now: Timestamp) {
        self.seen(|seen| seen.unseen = false);
        self.tear(now);
    }

    /// A handler is aborted in the middle of its work.
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

    /// Whether no handler was aborted for this many seconds.
    pub(crate) fn not_torn_down_for(&self, seconds: i64, now: Timestamp) -> bool {
        let long_ago = |torn: Timestamp| now.duration_since(torn).as_secs() > seconds;
        self.seen(|seen| seen.torn.is_none_or(long_ago))
    }

    /// Whether the engine had no occasion to notice what was changed outside it.
    pub(crate) fn has_unseen(&self) -> bool {
        self.seen(|seen| seen.unseen)
    }

    /// How many promises were made so far.
    pub(crate) fn promises(&self) -> u64 {
        self.seen(|seen| seen.promised)
    }

    /// Something was changed outside the engine.
    pub(crate) fn unseen(&self) {
        self.seen(|seen| seen.unseen = true);
    }

    /// A role's keys may be in use for this long.
    pub(crate) fn in_use_for(&self, role: &str, seconds: u64) {
        self.seen(|seen| {
            let least = seen.least_use.entry(role.to_owned()).or_insert(seconds);
            *least = seconds.min(*least);
        });
    }

    /// Since when the role's older keys may be dead, by the order of an operator. Returns what was known
    /// about that before.
    pub(crate) fn emergency(&self, role: &str, since: Option<Timestamp>) -> Option<Timestamp> {
        self.seen(|seen| match since {
            Some(since) => seen.emergencies.insert(role.to_owned(), since),
            None => seen.emergencies.remove(role),
        })
    }

    /// Since when all of the role's keys may be dead, by the order of an operator. Returns what was known
    /// about that before.
    pub(crate) fn deletion(&self, role: &str, since: Option<Timestamp>) -> Option<Timestamp> {
        self.seen(|seen| match since {
            Some(since) => seen.deletions.insert(role.to_owned(), since),
            None => {
                seen.unsettled.remove(role);
                seen.deletions.remove(role)
            }
        })
    }

    /// Since when a role's deletion is in progress, and whether it was settled two minutes later if it was
    /// stored.
    pub(crate) fn deleted_since(&self, role: &str) -> Option<(Timestamp, bool)> {
        self.seen(|seen| {
            let since = seen.deletions.get(role)?;
            Some((*since, !seen.unsettled.contains(role)))
        })
    }

    /// The key may be gone from now on, by this person's decision.
    pub(crate) fn excuse(&self, hash: &str, whose: &'static str) {
        self.seen(|seen| {
            seen.excused.insert(hash.to_owned(), whose);
            seen.promises.remove(hash);
        });
    }

    /// The key has no owner by the decision of an operator, and must be left alone.
    pub(crate) fn leave_behind(&self, hash: &str, now: Timestamp) {
        self.seen(|seen| {
            seen.left_behind.insert(hash.to_owned(), now);
            seen.promises.remove(hash);
        });
    }

    /// The key may have no owner by the decision of an operator; the outcome is unknown.
    pub(crate) fn lose(&self, hash: &str) {
        self.seen(|seen| seen.strays.insert(hash.to_owned()));
    }

    /// The key's owner, and its nonce, which is empty for a key made by hand.
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
    /// Reports a violation with these keys.
    pub(crate) fn violated(&self, what: &str, hashes: &[&str]) {
        // A consequence of an earlier violation is not reported separately.
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

    /// OpenRouter has created a key for the engine.
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
                // The order arrived twice, or storage was restored while it was on its way: the engine can
                // find the key only by a comparison.
                seen.strays.insert(hash.to_owned());
                seen.unseen = true;
            }
        });
    }

    /// Someone has created a key that a role is to adopt.
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

    /// There is a key of a role that storage does not know.
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

/// How long after its store failed it is settled whether a deletion continues.
const SETTLED: SignedDuration = SignedDuration::from_secs(120);
