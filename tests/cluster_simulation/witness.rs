//! Who was promised what, which key is whose, and whether that held.
//!
//! # What must hold
//! - **No key in service is deleted by us**: one that is current by what is committed, or superseded
//!   and not due yet. What is in service is judged when the request has its effect; a request that was
//!   on its way while a snapshot was restored is excused.
//! - **Every key lives as promised**, from the moment it is handed out until its `ttl` is over, short
//!   of an emergency, of its deletion by those who may, and of a restored snapshot: see
//!   [`World::witness_restore`] for what it must keep all the same.
//! - **Every living key is somebody's**: storage leads to it, by a role's entry, a lease's record, or an
//!   intent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use vault_plugin_secrets_openrouter::openrouter::HttpRequest;

use crate::openrouter::hash_in;
use crate::people::DYNAMIC;
use crate::raft::Map;
use crate::world::World;

/// All that was seen of one life.
#[derive(Default)]
pub(crate) struct Witness(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    violations: Vec<Violation>,
    keys: BTreeMap<String, Made>,
    promises: BTreeMap<String, Vec<Promise>>,
    /// How many snapshots were restored.
    restores: u64,
    /// Since when each role's older keys may be dead: an emergency, or its deletion.
    emergencies: BTreeMap<String, Timestamp>,
    deletions: BTreeMap<String, Timestamp>,
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

/// A key that the engine had made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) role: String,
    pub(crate) nonce: String,
}

#[derive(Clone, Debug)]
struct Promise {
    given: Timestamp,
    until: Timestamp,
    /// Storage forgot it then: it holds only as long as the role's keys are in use, counted from there.
    forgotten: Option<Timestamp>,
}

/// A request to OpenRouter, as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) server: usize,
    at: Timestamp,
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
        self.seen(|seen| seen.torn = Some(now));
    }

    /// Whether no handler was torn off for so many seconds.
    pub(crate) fn untorn_for(&self, seconds: i64, now: Timestamp) -> bool {
        let long_ago = |torn: Timestamp| now.duration_since(torn).as_secs() > seconds;
        self.seen(|seen| seen.torn.is_none_or(long_ago))
    }

    /// Whether the engine has had no occasion to notice what was done behind its back.
    pub(crate) fn has_unseen(&self) -> bool {
        self.seen(|seen| seen.unseen)
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

    /// The role's older keys may die from now on.
    pub(crate) fn emergency(&self, role: &str, now: Timestamp) {
        self.seen(|seen| seen.emergencies.insert(role.to_owned(), now));
    }

    /// All of the role's keys may die from now on.
    pub(crate) fn deletion_begins(&self, role: &str, now: Timestamp) {
        self.seen(|seen| seen.deletions.insert(role.to_owned(), now));
    }

    /// They may not any more.
    pub(crate) fn deletion_is_off(&self, role: &str) {
        self.seen(|seen| seen.deletions.remove(role));
    }

    /// Since when a role's deletion goes on.
    pub(crate) fn deleted_since(&self, role: &str) -> Option<Timestamp> {
        self.seen(|seen| seen.deletions.get(role).copied())
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
            if seen.violations.len() < MOST_VIOLATIONS {
                seen.violations.push(Violation { what, about });
            }
        });
    }

    /// OpenRouter has made a key for the engine.
    pub(crate) fn witness_creation(&self, hash: &str, name: &str, sent: &Sent) {
        let role = name.split(' ').next().unwrap_or_default().to_owned();
        let nonce = nonce_of(name).unwrap_or_default().to_owned();
        let short = self.story.christen(hash, &role);
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

    /// A key of a role's is there that storage knows nothing of.
    pub(crate) fn witness_stray(&self, hash: &str, role: &str, nonce: &str) {
        self.story.christen(hash, &format!("{role}-stray"));
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

    /// OpenRouter has deleted a key for the engine.
    pub(crate) fn witness_deletion(&self, hash: &str, sent: &Sent) {
        let name = self.story.name(hash);
        self.story
            .tell_of(&[hash], format!("S{}: {name} is deleted", sent.server));
        let now = self.now();
        let Some((made, doomed, excused, left, restored)) = self.witness.seen(|seen| {
            let made = seen.keys.get(hash)?.clone();
            let doomed = seen.deletions.contains_key(&made.role);
            let excused = seen.excused.contains_key(hash);
            let left = seen.left_behind.get(hash).copied();
            Some((made, doomed, excused, left, sent.restores < seen.restores))
        }) else {
            return;
        };
        if left.is_some_and(|since| since < sent.at) {
            self.violated(
                &format!("{name}, which was left behind, is deleted"),
                &[hash],
            );
        }
        if doomed || excused || left.is_some() {
            return;
        }
        let truth = self.truth();
        for (role, entry) in &truth.rotating {
            let due = entry.superseded.iter().find(|(key, _)| key == hash);
            if restored {
            } else if entry.current == hash {
                self.violated(
                    &format!("{name}, which is current in {role}, is deleted"),
                    &[hash],
                );
                return;
            } else if let Some((_, due)) = due.filter(|(_, due)| *due > now) {
                let what = format!("{name}, superseded in {role} until {due}, is deleted");
                self.violated(&what, &[hash]);
                return;
            }
        }
        if let Some(until) = self.broken_promise(hash, &made.role, now) {
            let what = format!("{name} is deleted, although its reader relies on it until {until}");
            self.violated(&what, &[hash]);
        }
    }

    fn broken_promise(&self, hash: &str, role: &str, now: Timestamp) -> Option<Timestamp> {
        self.witness.seen(|seen| {
            let emergency = seen.emergencies.get(role).copied();
            let slack = SignedDuration::from_mins(3);
            let excused = |promise: &&Promise| {
                // Who reads while an emergency is carried out may still get the old key.
                emergency.is_some_and(|since| promise.given <= since + slack)
            };
            let promises = seen.promises.get(hash)?;
            // A renewed lease ends when the last renewal says so.
            let last = promises.len().saturating_sub(1);
            let standing = promises.iter().skip(if role == DYNAMIC { last } else { 0 });
            let binding = standing.filter(|promise| !excused(promise));
            let least = seen.least_use.get(role).copied().unwrap_or_default();
            let least = SignedDuration::from_secs(least.cast_signed());
            let until = binding.map(|promise| match promise.forgotten {
                Some(since) => promise.until.min(since + least),
                None => promise.until,
            });
            until.filter(|until| *until > now).max()
        })
    }

    /// A reader was told that this key works for so many seconds.
    pub(crate) fn witness_promise(&self, hash: &str, ttl: u64, who: &str) {
        let (now, until, name) = (self.now(), self.after(ttl), self.story.name(hash));
        self.story
            .tell_of(&[hash], format!("{who} gets {name}, for {ttl} s"));
        let accounts = &self.openrouter.accounts;
        let key = accounts.iter().find_map(|account| account.key(hash));
        let Some(key) = key else {
            return self.violated(&format!("{name} is handed out, which never was"), &[hash]);
        };
        let excused = self.witness.seen(|seen| {
            let role = seen
                .keys
                .get(hash)
                .map(|made| made.role.clone())
                .unwrap_or_default();
            let recently =
                |since: &Timestamp| now.duration_since(*since) < SignedDuration::from_mins(3);
            seen.excused.contains_key(hash)
                || seen.emergencies.get(&role).is_some_and(recently)
                || seen.deletions.contains_key(&role)
        });
        if excused {
            return;
        }
        if key.deleted_at.is_some() {
            return self.violated(&format!("{name} is handed out, which is dead"), &[hash]);
        }
        if key.expires_at.is_some_and(|expiry| expiry < until) {
            return self.violated(&format!("{name} is handed out for too long"), &[hash]);
        }
        self.witness.seen(|seen| {
            let promises = seen.promises.entry(hash.to_owned()).or_default();
            promises.push(Promise {
                given: now,
                until,
                forgotten: None,
            });
        });
    }

    /// An emergency rotation was answered with this new key: none that is older works any more.
    pub(crate) fn witness_emergency(&self, role: &str, new: &str) {
        let truth = self.truth();
        let superseded = truth.rotating.get(role).map(|role| role.superseded.clone());
        for (hash, _) in superseded.unwrap_or_default() {
            if hash != new && self.living().any(|key| key.hash == hash) {
                let name = self.story.name(&hash);
                self.violated(&format!("{name} has survived an emergency"), &[&hash]);
            }
        }
    }

    /// A key was made for a lease some time ago, with nothing going wrong since. It is not to live if
    /// nobody got it.
    pub(crate) fn witness_unclaimed(&self, hash: &str) {
        let is_claimed = self.witness.seen(|seen| {
            let is_claimed = seen.promises.contains_key(hash) || seen.excused.contains_key(hash);
            is_claimed || seen.strays.contains(hash)
        });
        if !is_claimed && self.living().any(|key| key.hash == hash) {
            let name = self.story.name(hash);
            let what = format!("{name} lives, whose reader gave up two minutes ago");
            self.violated(&what, &[hash]);
        }
    }

    /// Whether every connection that somebody needs is there.
    pub(crate) fn look_for_lost_connections(&self) {
        let (committed, truth) = (self.raft.committed(), self.truth());
        for (role, entry) in &truth.rotating {
            let keys = entry.keys().filter(|hash| {
                let other = &self.openrouter.accounts[1];
                other.key(hash).is_some_and(|key| key.deleted_at.is_none())
            });
            let needed = keys.map(|_| "other").chain([&*entry.connection]);
            for connection in needed.collect::<BTreeSet<_>>() {
                if !committed.contains_key(&format!("mount/config/{connection}")) {
                    let what = format!("{role} needs the connection {connection}, which is gone");
                    self.violated(&what, &[&entry.current]);
                }
            }
        }
    }

    /// A snapshot is about to be restored.
    ///
    /// What was promised before it was taken holds. What was promised since holds as far as anybody can
    /// know of it: a key of which the snapshot knows nothing, or only that it was ordered, stays for as
    /// long as its role's keys are in use, counted from now; a renewal is forgotten.
    pub(crate) fn witness_restore(&self, taken_at: Timestamp, snapshot: &Map) {
        let (now, before, after) = (self.now(), self.truth(), self.truth_of(snapshot.clone()));
        let living: BTreeSet<String> = self.living().map(|key| key.hash).collect();
        self.witness.seen(|seen| {
            seen.restores += 1;
            for (hash, made) in &seen.keys {
                let is_listed = after
                    .rotating
                    .values()
                    .any(|role| role.keys().any(|k| k == hash));
                let logged = after.log.get(&made.nonce);
                if !living.contains(hash) {
                    // It cannot come back.
                    seen.excused
                        .insert(hash.clone(), "it was dead before a restore");
                } else if !is_listed && logged.is_none() {
                    seen.strays.insert(hash.clone());
                }
                let Some(promises) = seen.promises.get_mut(hash) else {
                    continue;
                };
                match logged {
                    // The lease as it was when the snapshot was taken, or as it began.
                    Some(true) => {
                        let known = promises.iter().filter(|p| p.given <= taken_at).count();
                        promises.truncate(known.max(1));
                    }
                    // Nobody will know whose it is, so nobody will delete it.
                    None if !before.rotating.contains_key(&made.role) => {}
                    _ => {
                        let forgotten = promises.iter_mut().filter(|p| p.given > taken_at);
                        forgotten.for_each(|promise| _ = promise.forgotten.get_or_insert(now));
                    }
                }
            }
            // What was left behind since may be somebody's again.
            let left: Vec<String> = std::mem::take(&mut seen.left_behind).into_keys().collect();
            seen.strays.extend(left);
            // Deletions that began since have never begun.
            let gone: Vec<_> = seen.deletions.keys().cloned().collect();
            for role in gone {
                if after.rotating.get(&role).is_some_and(|role| role.serves) {
                    seen.deletions.remove(&role);
                }
            }
        });
    }

    /// The living keys that the engine had made.
    fn living(&self) -> impl Iterator<Item = openrouter_simulator::Key> {
        let now = self.now();
        let accounts = self.openrouter.accounts.iter();
        let keys = accounts.flat_map(|account| account.keys());
        keys.filter(move |key| !key.is_expired(now) && nonce_of(&key.name).is_some())
    }

    /// Whether every living key is somebody's, after a step, and at the end when nothing is on its way
    /// any more.
    pub(crate) fn look_for_orphans(&self, at_the_end: bool) {
        let truth = self.truth();
        for key in self.living() {
            let nonce = nonce_of(&key.name).unwrap_or_default();
            let role = key.name.split(' ').next().unwrap_or_default();
            if truth.leads_to(&key.hash, nonce) {
                continue;
            }
            let (left, stray) = self.witness.seen(|seen| {
                let left = seen.left_behind.contains_key(&key.hash);
                (left, seen.strays.contains(&key.hash))
            });
            let name = self.story.name(&key.hash);
            if left || stray && !(at_the_end && self.should_be_found(&truth, role, &key)) {
                continue;
            }
            let is_twin = self.witness.seen(|seen| {
                let same = seen.keys.values().filter(|made| made.nonce == nonce);
                same.count() > 1
            });
            let why = if is_twin {
                " (its order came twice)"
            } else {
                ""
            };
            let what = format!("{name} lives, and nothing leads to it{why}");
            self.violated(&what, &[&key.hash]);
            // Once is enough.
            self.witness
                .seen(|seen| seen.reported.insert(key.hash.clone()));
        }
    }

    /// Whether the engine can know of a stray: its role is still there, and the same by its mark, since
    /// before the key was made; and it looks where the key is, since it has others there.
    fn should_be_found(
        &self,
        truth: &crate::truth::Truth,
        role: &str,
        key: &openrouter_simulator::Key,
    ) -> bool {
        let Some(entry) = truth.rotating.get(role) else {
            return false;
        };
        let mark = |name: &str| {
            nonce_of(name)
                .and_then(|nonce| nonce.get(..16))
                .map(str::to_owned)
        };
        let marks = self.witness.seen(|seen| {
            let made = entry.keys().filter_map(|hash| seen.keys.get(hash));
            made.filter_map(|made| Some(made.nonce.get(..16)?.to_owned()))
                .collect::<BTreeSet<_>>()
        });
        if mark(&key.name).is_none_or(|mark| !marks.contains(&mark)) {
            // Of another life of the role.
            return false;
        }
        let place = |key: &openrouter_simulator::Key| {
            let mut accounts = self.openrouter.accounts.iter();
            let account = accounts.position(|account| account.key(&key.hash).is_some());
            (account, key.workspace_id.clone())
        };
        let wanted = usize::from(entry.connection == "other");
        let account = &self.openrouter.accounts[wanted];
        let workspace = entry.workspace.clone();
        let workspace = workspace.unwrap_or_else(|| account.default_workspace());
        let accounts = self.openrouter.accounts.iter();
        let known = accounts.flat_map(|account| entry.keys().filter_map(|hash| account.key(hash)));
        let mut places: Vec<_> = known.map(|key| place(&key)).collect();
        places.push((Some(wanted), workspace));
        self.born(role).is_some_and(|born| born <= key.created_at) && places.contains(&place(key))
    }

    /// When the role that is there was first ordered, by what is committed.
    pub(crate) fn born(&self, role: &str) -> Option<Timestamp> {
        let committed = self.raft.committed();
        let value = committed.get(&format!("server/born/{role}"))?;
        String::from_utf8_lossy(value).parse().ok()
    }
}

/// The nonce that a key's name ends in.
pub(crate) fn nonce_of(name: &str) -> Option<&str> {
    name.rsplit_once(" vault-").map(|(_, nonce)| nonce)
}

const MOST_VIOLATIONS: usize = 20;
