//! Keys that nothing leads to, and connections that are gone although they are needed.

use std::collections::BTreeSet;

use jiff::Timestamp;
use openrouter_simulator::Key;

use super::nonce_of;
use crate::truth::Truth;
use crate::world::World;

impl World {
    /// Checks that every needed connection exists.
    pub(crate) fn look_for_lost_connections(&self) {
        let truth = self.truth();
        for (role, entry) in &truth.rotating {
            let keys = entry.keys().filter(|hash| {
                let other = &self.openrouter.accounts[1];
                other.key(hash).is_some_and(|key| key.deleted_at.is_none())
            });
            let needed = keys.map(|_| "other").chain([&*entry.connection]);
            for connection in needed.collect::<BTreeSet<_>>() {
                if self
                    .raft
                    .stored(&format!("mount/config/{connection}"))
                    .is_none()
                {
                    let what = format!("{role} needs the connection {connection}, which is gone");
                    self.violated(&what, &[&entry.current]);
                }
            }
        }
    }

    /// The living keys that the engine created, or that a role was to adopt.
    pub(super) fn living(&self) -> impl Iterator<Item = Key> {
        let now = self.now();
        let accounts = self.openrouter.accounts.iter();
        let keys = accounts.flat_map(|account| account.keys());
        let by_hand: BTreeSet<String> = self.witness.seen(|seen| {
            let keys = seen.keys.iter();
            let by_hand = keys.filter(|(_, made)| made.nonce.is_empty());
            by_hand.map(|(hash, _)| hash.clone()).collect()
        });
        keys.filter(move |key| {
            let is_known = nonce_of(&key.name).is_some() || by_hand.contains(&key.hash);
            is_known && !key.is_expired(now)
        })
    }

    /// Checks that every living key has an owner, after a step, and at the end when nothing is on its way.
    pub(crate) fn look_for_orphans(&self, at_the_end: bool) {
        let truth = self.truth();
        for key in self.living() {
            // A key made by hand belongs to its application.
            let Some(nonce) = nonce_of(&key.name) else {
                continue;
            };
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

    /// Whether the engine can know about a stray key: its role still exists, and is the same by its mark,
    /// since before the key was created; and the engine searches where the key is, because the role has
    /// others there.
    fn should_be_found(&self, truth: &Truth, role: &str, key: &Key) -> bool {
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
        let place = |key: &Key| {
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

    /// When the existing role was first ordered, according to what is committed.
    pub(crate) fn born(&self, role: &str) -> Option<Timestamp> {
        let value = self.raft.stored(&format!("server/born/{role}"))?;
        String::from_utf8_lossy(&value).parse().ok()
    }
}
