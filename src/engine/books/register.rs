//! What this node knows about all roles and their keys, in memory, so that comparing them with OpenRouter
//! makes no storage call per role.
//!
//! It is updated by every read and write under a role's lock. After a failed write the stored content is
//! unknown, and the role is read again. Nothing is changed based on the register alone: it only tells what to
//! check under the role's lock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Origin, Place, RoleName};
use crate::engine::role::Role;
use crate::engine::role::budget::{Counting, Watch};
use crate::engine::role::rotating::{Guarded, MismatchReason, RotatingRole, Stage};
use crate::logical::StorageError;
use crate::openrouter::{GuardrailId, KeyHash, Limits};

/// The roles of a mount.
#[derive(Default)]
pub struct Register {
    // A plain mutex: it is never held across an await.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    // Ordered, so that each comparison has the same order.
    roles: BTreeMap<RoleName, Entry>,
    /// The roles by the origin in their keys' names.
    origins: HashMap<Origin, RoleName>,
    /// Roles that could not be read yet.
    unread: BTreeSet<RoleName>,
    /// Roles that are being written, or whose write has failed, so that their stored content is unknown.
    doubtful: BTreeSet<RoleName>,
    /// Roles whose entries are malformed. The origins of their keys are unknown.
    unreadable: BTreeSet<RoleName>,
}

/// What is known of a role. Slices without spare capacity: there is an entry for each idle role.
struct Entry {
    origin: Origin,
    is_rotating: bool,
    places: Box<[Place]>,
    keys: Box<[(KeyHash, Expected)]>,
    /// The living keys that should have a guardrail.
    guarded: Box<[Guarded]>,
    /// Whether it has keys that a comparison found.
    has_found: bool,
    /// Set if it has a budget.
    // Boxed, since most roles have no budget.
    watched: Option<Box<Watched>>,
}

/// A role whose spending is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What is watched.
    pub watch: Watch,
    /// How its spending is counted.
    pub counting: Counting,
    /// The keys of a rotating role that count against its budget. `None` for a dynamic role: these are its
    /// leases.
    pub keys: Option<Vec<KeyHash>>,
}

/// The expected state of a role's key at OpenRouter.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The key's part in its role.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// Its place.
    pub place: Place,
    /// Whether its role makes keys in the account's default workspace. Roles do not store the UUID of that
    /// workspace.
    pub is_of_default: bool,
    /// Whether its spending is counted, so that readings of it are kept.
    pub is_counted: bool,
}

/// The part of a key in its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The current key, with its granted limits; `None` while they are being changed.
    Current {
        /// See above.
        limits: Option<Limits>,
        /// Why it differs from storage, if it is known to.
        mismatch: Option<MismatchReason>,
    },
    /// A key that works until its grace period ends. It may have been disabled outside the engine.
    Superseded {
        /// See above.
        disabled_outside: bool,
    },
    /// A key that the engine has disabled.
    Held,
    /// A key that is about to be enabled or deleted.
    Changing,
}

/// The owner of a key, by the mark in its name.
pub enum Owner {
    /// This rotating role.
    Rotating(RoleName),
    /// This dynamic role.
    Dynamic(RoleName),
    /// Possibly a role that could not be read.
    Unknown,
    /// No existing role.
    Nobody,
}

/// The expected state of one connection.
#[derive(Default)]
pub struct Expectations {
    /// The places where roles have keys, or will have them.
    pub places: BTreeSet<Place>,
    /// The keys and their roles.
    pub keys: BTreeMap<KeyHash, Vec<(RoleName, Expected)>>,
    /// The keys of all roles, through any connection.
    pub known: HashSet<KeyHash>,
}

impl Register {
    /// Records the stored content of a role.
    pub fn enter(&self, name: &RoleName, origin: Origin, role: &Role) {
        let mut known = self.known();
        known.remove(name);
        known.origins.insert(origin, name.clone());
        let (places, keys, guarded, has_found) = match role {
            Role::Rotating(role) => (
                role.places(),
                expected(role),
                role.guarded_keys(),
                role.superseded.iter().any(|key| key.found),
            ),
            Role::Dynamic(role) => ([role.terms.place()].into(), Vec::new(), Vec::new(), false),
        };
        let entry = Entry {
            origin,
            is_rotating: matches!(role, Role::Rotating(_)),
            places: places.into_iter().collect(),
            keys: keys.into(),
            guarded: guarded.into(),
            has_found,
            watched: Watched::of(role).map(Box::new),
        };
        known.roles.insert(name.clone(), entry);
    }

    /// The same, unless a task with the role's lock has already recorded it.
    pub fn enter_if_new(&self, name: &RoleName, origin: Origin, role: &Role) {
        let is_known = self.known().roles.contains_key(name);
        if !is_known {
            self.enter(name, origin, role);
        }
    }

    /// Forgets a role that does not exist.
    pub fn forget(&self, name: &RoleName) {
        self.known().remove(name);
    }

    /// Records that the stored content of the role is unknown.
    pub fn doubt(&self, name: &RoleName) {
        self.known().doubtful.insert(name.clone());
    }

    /// Records that reading the role has failed.
    pub fn could_not_read(&self, name: &RoleName, reason: &Error) {
        let mut known = self.known();
        if matches!(reason, Error::Storage(StorageError::Malformed { .. })) {
            known.remove(name);
            known.unreadable.insert(name.clone());
        } else {
            known.unread.insert(name.clone());
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.known() = Known::default();
    }

    /// Roles that must be read again.
    pub fn unread(&self) -> BTreeSet<RoleName> {
        let known = self.known();
        known.unread.union(&known.doubtful).cloned().collect()
    }

    /// Checks that every role could be read.
    ///
    /// # Errors
    /// [`Error::Conflict`] otherwise.
    pub fn require_all_read(&self) -> Result<(), Error> {
        let known = self.known();
        match known.unread.first() {
            None => Ok(()),
            Some(name) => Err(Error::Conflict(format!(
                "{} roles cannot be read, for example {name}",
                known.unread.len()
            ))),
        }
    }

    /// The expected state of a connection.
    pub fn expectations(&self, connection: &ConnectionName) -> Expectations {
        let known = self.known();
        let mut expectations = Expectations::default();
        for (name, entry) in &known.roles {
            let places = entry.places.iter();
            let here = places.filter(|place| place.connection == *connection);
            expectations.places.extend(here.cloned());
            for (hash, expected) in entry.keys.iter() {
                expectations.known.insert(hash.clone());
                if expected.place.connection == *connection {
                    let keys = expectations.keys.entry(hash.clone()).or_default();
                    keys.push((name.clone(), expected.clone()));
                }
            }
        }
        expectations
    }

    /// The owner of keys with this mark.
    pub fn owner(&self, origin: &Origin) -> Owner {
        let known = self.known();
        let Some(name) = known.origins.get(origin) else {
            let all_known = known.unread.is_empty() && known.unreadable.is_empty();
            return if all_known {
                Owner::Nobody
            } else {
                Owner::Unknown
            };
        };
        match known.roles.get(name) {
            Some(entry) if entry.is_rotating => Owner::Rotating(name.clone()),
            Some(_) => Owner::Dynamic(name.clone()),
            None => Owner::Unknown,
        }
    }

    /// The keys of rotating roles at a place that should have a guardrail, with the guardrail and the role.
    pub fn guarded(&self, place: &Place) -> Vec<(KeyHash, GuardrailId, RoleName)> {
        let known = self.known();
        let roles = known.roles.iter().flat_map(|(name, entry)| {
            let here = entry.guarded.iter().filter(|key| key.place == *place);
            here.map(move |key| (key.hash.clone(), key.guardrail_id.clone(), name.clone()))
        });
        roles.collect()
    }

    /// Whether this is known to be a dynamic role.
    pub fn is_dynamic(&self, name: &RoleName) -> bool {
        let known = self.known();
        let role = known.roles.get(name);
        role.is_some_and(|entry| !entry.is_rotating)
    }

    /// Whether a dynamic role makes keys in the account's default workspace.
    pub fn is_of_default(&self, name: &RoleName) -> bool {
        let known = self.known();
        let role = known.roles.get(name).filter(|entry| !entry.is_rotating);
        role.is_some_and(|entry| entry.places.iter().any(Place::is_default))
    }

    /// Whether a role has the key.
    pub fn has(&self, hash: &KeyHash) -> bool {
        let known = self.known();
        let mut keys = known.roles.values().flat_map(|entry| entry.keys.iter());
        keys.any(|(own, _)| own == hash)
    }

    /// Whether this rotating role has the key.
    pub fn is_key_of(&self, name: &RoleName, hash: &KeyHash) -> bool {
        let known = self.known();
        let role = known.roles.get(name);
        role.is_some_and(|entry| entry.keys.iter().any(|(own, _)| own == hash))
    }

    /// The roles that have a budget.
    pub fn watched(&self) -> Vec<(RoleName, Watched)> {
        let known = self.known();
        let roles = known.roles.iter();
        roles
            .filter_map(|(name, entry)| Some((name.clone(), *entry.watched.clone()?)))
            .collect()
    }

    /// Roles with keys that a comparison found.
    pub fn with_found(&self) -> Vec<RoleName> {
        let known = self.known();
        let roles = known.roles.iter();
        roles
            .filter(|(_, entry)| entry.has_found)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn of(role: &Role) -> Option<Self> {
        let (watch, keys) = match role {
            Role::Rotating(role) => {
                let watch = role.watch()?;
                (watch, Some(role.keys_in_budget().cloned().collect()))
            }
            Role::Dynamic(role) => (role.watch()?, None),
        };
        Some(Self {
            watch,
            counting: role.terms().counting(),
            keys,
        })
    }
}

impl Known {
    fn remove(&mut self, name: &RoleName) {
        if let Some(entry) = self.roles.remove(name) {
            self.origins.remove(&entry.origin);
        }
        self.unread.remove(name);
        self.doubtful.remove(name);
        self.unreadable.remove(name);
    }
}

fn expected(role: &RotatingRole) -> Vec<(KeyHash, Expected)> {
    let is_counted = role.definition.terms.counts_ended_keys();
    let place = |connection: &ConnectionName, workspace_id: &Option<_>| Place {
        connection: connection.clone(),
        workspace_id: workspace_id.clone(),
    };
    let is_of_default = role.definition.terms.place().is_default();
    let superseded = role.superseded.iter().map(|key| {
        let part = match key.stage {
            Stage::Grace => Part::Superseded {
                disabled_outside: key.disabled_outside.is_some(),
            },
            Stage::Held { .. } => Part::Held,
            Stage::Restoring | Stage::Ordered => Part::Changing,
        };
        let expected = Expected {
            part,
            name: key.name.clone(),
            place: place(&key.connection, &key.workspace_id),
            is_of_default,
            is_counted,
        };
        (key.hash.clone(), expected)
    });
    let current = &role.current;
    let expected = Expected {
        part: Part::Current {
            limits: role.granted(),
            mismatch: role.mismatch.map(|mismatch| mismatch.reason),
        },
        name: current.name.clone(),
        place: role.place_of_current(),
        is_of_default,
        is_counted,
    };
    superseded
        .chain([(current.hash.clone(), expected)])
        .collect()
}

#[cfg(test)]
mod tests;
