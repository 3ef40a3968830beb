//! The promise, for any role in any sequence of events.

use proptest::prelude::*;

use super::*;
use crate::engine::cache::Cacheable;
use crate::engine::clock::after;
use crate::engine::role::rotating::sample::{DAY, at, key, policies, role};
use crate::engine::role::rotating::{Failure, Grace, RotatingRole, Stage, Step, next_step};
use crate::openrouter::KeyHash;

/// An event in the life of a role.
#[derive(Clone, Debug)]
enum Event {
    /// A reader gets the key.
    Read,
    /// Another node reads the entry. It is not notified of anything that happens to the role afterwards.
    Cache,
    /// A reader gets the key from that node.
    ReadCached,
    /// This many seconds pass, during which nobody tends the role.
    Pass(u64),
    /// The role is tended: due steps are performed, or OpenRouter fails.
    Tend { succeeds: bool },
    /// A person rotates, with a grace period that exceeds the minimum by this much.
    Rotate { more: u64 },
    /// A person changes the `ttl`.
    Change { ttl: u64 },
}

fn events() -> impl Strategy<Value = Event> {
    let seconds = || prop_oneof![0..60_u64, 0..2 * DAY, 0..90 * DAY];
    prop_oneof![
        3 => Just(Event::Read),
        2 => Just(Event::Cache),
        3 => Just(Event::ReadCached),
        3 => seconds().prop_map(Event::Pass),
        4 => prop::bool::weighted(0.8).prop_map(|succeeds| Event::Tend { succeeds }),
        1 => seconds().prop_map(|more| Event::Rotate { more }),
        1 => (1..2 * DAY).prop_map(|ttl| Event::Change { ttl }),
    ]
}

/// A role with its readers.
struct Life {
    role: RotatingRole,
    now: Timestamp,
    /// What the other node has read, and when.
    cached: Option<(SharedKey, Timestamp)>,
    /// Until when each reader was promised a working key.
    promises: Vec<(KeyHash, Timestamp)>,
    /// When keys stopped working.
    deaths: Vec<(KeyHash, Timestamp)>,
}

impl Life {
    fn happen(&mut self, event: Event) {
        match event {
            Event::Read => self.read(&SharedKey::of(self.role.clone())),
            Event::Cache => self.cached = Some((SharedKey::of(self.role.clone()), self.now)),
            Event::ReadCached => self.read_cached(),
            Event::Pass(seconds) => self.now = after(self.now, seconds),
            Event::Tend { succeeds } => while self.step(succeeds) && succeeds {},
            Event::Rotate { more } => {
                let least = self.role.definition.rotation.shortest_grace();
                self.rotate(least.saturating_add(more));
            }
            Event::Change { ttl } => self.change(ttl),
        }
    }

    fn read(&mut self, key: &SharedKey) {
        // If there is no key to hand out, there is no promise.
        if let Ok(handout) = Handout::of(key, self.now) {
            let until = after(self.now, handout.ttl);
            assert!(handout.ttl >= 1);
            self.promises.push((key.hash.clone(), until));
        }
    }

    fn read_cached(&mut self) {
        let Some((key, read)) = self.cached.take() else {
            return;
        };
        let age = Duration::from_secs(seconds_until(read, self.now));
        if age < key.lifetime().min(Duration::from_secs(60)) {
            self.read(&key);
            self.cached = Some((key, read));
        }
    }

    /// Returns whether there was something to do.
    fn step(&mut self, succeeds: bool) -> bool {
        let failed = Some(Failure {
            attempts: 1,
            at: self.now,
            message: String::new(),
            retry_at: after(self.now, 60),
        });
        match next_step(&self.role, self.now) {
            Step::Revoke(hash) if succeeds => {
                self.role.superseded.retain(|key| key.hash != hash);
                self.deaths.push((hash, self.now));
            }
            Step::Hold(hash) if succeeds => {
                let until = after(self.now, self.role.definition.rotation.hold);
                let mut keys = self.role.superseded.iter_mut();
                let key = keys.find(|key| key.hash == hash).unwrap();
                key.stage = Stage::Held {
                    since: self.now,
                    until,
                };
                self.deaths.push((hash, self.now));
            }
            Step::Revoke(hash) | Step::Hold(hash) => {
                let mut keys = self.role.superseded.iter_mut();
                keys.find(|key| key.hash == hash).unwrap().failure = failed;
            }
            Step::Rotate { .. } if succeeds => self.rotate(self.role.definition.rotation.grace),
            Step::Rotate { .. } => self.role.rotation_failure = failed,
            Step::Wait(_) => return false,
            step => panic!("{step:?}"),
        }
        true
    }

    fn rotate(&mut self, grace: u64) {
        if let Some(expires_at) = self.role.current.expires_at {
            self.deaths
                .push((self.role.current.hash.clone(), expires_at));
        }
        let next = self.role.current.version + 1;
        let new = key(next, &self.role.definition.rotation, self.now);
        self.role = self.role.clone().switched_to(new, Grace::Seconds(grace));
    }

    fn change(&mut self, ttl: u64) {
        let mut definition = self.role.definition.clone();
        definition.rotation.ttl = ttl;
        if definition.check(self.now).is_ok() {
            let role = self.role.clone();
            self.role = role.redefined(definition, self.now);
        }
    }

    fn broken(&self) -> Option<&(KeyHash, Timestamp)> {
        let last = &self.role.current;
        let expiry = last.expires_at.map(|at| (last.hash.clone(), at));
        self.promises.iter().find(|(hash, until)| {
            let mut deaths = self.deaths.iter().chain(&expiry);
            deaths.any(|(dead, at)| dead == hash && at < until)
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_key_that_is_handed_out_works_for_as_long_as_its_reader_was_told(
        policy in policies(), life in prop::collection::vec(events(), 1..80),
    ) {
        let mut it = Life {
            role: role(policy, at(0)),
            now: at(0),
            cached: None,
            promises: Vec::new(),
            deaths: Vec::new(),
        };
        for event in life {
            it.happen(event);
            prop_assert_eq!(it.broken(), None);
        }
    }
}
