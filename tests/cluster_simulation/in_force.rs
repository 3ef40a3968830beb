//! Which versions of roles and connections were in force when, in the order of their commits.
//!
//! The leader acts on the last version whose writer was told that it is stored. If the writer was told that
//! the write failed, that version or an earlier one may be in force until the entry is written again or
//! another leader begins. A deposed leader acts on what it knew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use jiff::{SignedDuration, Timestamp};

use crate::budgets::Terms;
use crate::node::MOUNT;
use crate::world::World;

/// The versions of each entry, oldest first.
#[derive(Default)]
pub(crate) struct InForce(Mutex<BTreeMap<String, Vec<Version>>>);

struct Version {
    at: Timestamp,
    /// Its writer was told that it is stored, or another leader has read it.
    told: bool,
    entry: Entry,
    /// Read when it is first asked for, since most versions are never asked.
    terms: OnceLock<Option<Terms>>,
}

impl Version {
    /// What it says about the budget of this role.
    fn terms(&self, role: &str) -> &Option<Terms> {
        self.terms
            .get_or_init(|| Terms::of(role, self.entry.as_deref()))
    }
}

/// A stored entry; `None` if there is none.
pub(crate) type Entry = Option<Arc<[u8]>>;

impl World {
    /// An entry may have changed.
    pub(crate) fn note_version(&self, key: &str, told: bool) {
        if !KINDS.iter().any(|kind| key.starts_with(kind)) {
            return;
        }
        let at = self.now();
        let mut known = self.in_force.0.lock().unwrap();
        let versions = known.entry(key.to_owned()).or_default();
        self.raft.committed_as(|map| {
            let entry = map.get(&format!("{MOUNT}{key}"));
            match versions.last_mut() {
                Some(last) if last.entry.as_deref() == entry.map(Vec::as_slice) => {
                    if told && !last.told {
                        (last.at, last.told) = (at, true);
                    }
                }
                _ => versions.push(Version {
                    at,
                    told,
                    entry: entry.map(|entry| entry.as_slice().into()),
                    terms: OnceLock::new(),
                }),
            }
        });
    }

    /// Another leader reads what is committed.
    pub(crate) fn note_every_version(&self) {
        let keys: Vec<String> = self.in_force.0.lock().unwrap().keys().cloned().collect();
        for key in keys {
            self.note_version(&key, true);
        }
    }

    /// The versions that a server may have acted on at this time, or up to this many seconds before; the
    /// newest first.
    pub(crate) fn in_force(&self, key: &str, at: Timestamp, before: i64) -> Vec<Entry> {
        self.note_version(key, false);
        let since = at - SignedDuration::from_secs(before);
        let known = self.in_force.0.lock().unwrap();
        let mut entries = Vec::new();
        for version in known.get(key).into_iter().flatten().rev() {
            entries.push(version.entry.clone());
            if version.told && version.at < since {
                break;
            }
        }
        entries
    }

    /// What the versions of a role that a server may have acted on between these times say about its budget;
    /// the newest first, each with when it was first seen.
    pub(crate) fn budgets_in_force(
        &self,
        role: &str,
        since: Timestamp,
        until: Timestamp,
    ) -> Vec<(Timestamp, Option<Terms>)> {
        let key = format!("{ROLES}{role}");
        self.note_version(&key, false);
        let known = self.in_force.0.lock().unwrap();
        let versions = known.get(&key).into_iter().flatten().rev();
        let mut found: Vec<(Timestamp, Option<Terms>)> = Vec::new();
        for version in versions.filter(|version| version.at <= until) {
            match found.last_mut() {
                Some((at, terms)) if *terms == *version.terms(role) => *at = version.at,
                _ => found.push((version.at, version.terms(role).clone())),
            }
            if version.told && version.at < since {
                break;
            }
        }
        found
    }
}

/// The entries whose versions are kept.
const KINDS: [&str; 2] = [ROLES, "config/"];
const ROLES: &str = "roles/";
