//! What this node knows of all roles and their keys, in memory, so that comparing them with what is at
//! OpenRouter costs no storage call for each role.
//!
//! It follows every read and every write under a role's lock. Where a write has failed nobody knows
//! what is stored: the role is read again. Nothing is done because of what is in here; it only tells
//! what to look at under the role's lock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Origin, Place, RoleName};
use crate::engine::role::Role;
use crate::engine::role::rotating::{Guarded, Misfit, RotatingRole, Stage};
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
    // In an order: so that a comparison goes the same way each time.
    roles: BTreeMap<RoleName, Entry>,
    /// Whose keys are marked how.
    origins: HashMap<Origin, RoleName>,
    /// Roles that could not be read yet.
    unread: BTreeSet<RoleName>,
    /// Roles that are being written, or whose write has failed: nobody knows what is stored.
    doubtful: BTreeSet<RoleName>,
    /// Roles that are left alone, since their entries make no sense: nobody knows their marks.
    unreadable: BTreeSet<RoleName>,
}

struct Entry {
    origin: Origin,
    is_rotating: bool,
    places: BTreeSet<Place>,
    keys: Vec<(KeyHash, Expected)>,
    /// Those of them that should be held to a guardrail.
    guarded: Vec<Guarded>,
    /// Whether it has keys that a comparison found.
    has_found: bool,
}

/// How a key of a role is expected to be at OpenRouter.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What it is to its role.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// What a key is to its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is the current key, and was granted these limits; `None` while they are being changed.
    Current {
        /// See above.
        limits: Option<Limits>,
        /// Whether it is known to be gone or disabled.
        unfit: Option<Misfit>,
    },
    /// It works until its time has come; somebody else may have disabled it.
    Superseded {
        /// See above.
        disabled_outside: bool,
    },
    /// The engine has disabled it.
    Held,
    /// It is about to be enabled, or deleted.
    Changing,
}

/// Who has a key that is marked in some way.
pub enum Owner {
    /// This rotating role.
    Rotating(RoleName),
    /// This dynamic role.
    Dynamic(RoleName),
    /// Perhaps a role that could not be read.
    Unknown,
    /// No role that there is.
    Nobody,
}

/// What is expected through one connection.
#[derive(Default)]
pub struct Expectations {
    /// Where roles have keys, or will have them.
    pub places: BTreeSet<Place>,
    /// The keys, and whose they are.
    pub keys: BTreeMap<KeyHash, Vec<(RoleName, Expected)>>,
    /// Every key of every role, through whichever connection.
    pub known: HashSet<KeyHash>,
}

impl Register {
    /// A role is stored like this.
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
            places,
            keys,
            guarded,
            has_found,
        };
        known.roles.insert(name.clone(), entry);
    }

    /// The same, where somebody who had the role's lock may have been faster.
    pub fn enter_if_new(&self, name: &RoleName, origin: Origin, role: &Role) {
        let is_known = self.known().roles.contains_key(name);
        if !is_known {
            self.enter(name, origin, role);
        }
    }

    /// The role does not exist.
    pub fn forget(&self, name: &RoleName) {
        self.known().remove(name);
    }

    /// It is not known what is stored of the role.
    pub fn doubt(&self, name: &RoleName) {
        self.known().doubtful.insert(name.clone());
    }

    /// Reading the role has failed like this.
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

    /// Roles that are to be read again.
    pub fn unread(&self) -> BTreeSet<RoleName> {
        let known = self.known();
        known.unread.union(&known.doubtful).cloned().collect()
    }

    /// Checks that every role could be read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when not.
    pub fn require_all_read(&self) -> Result<(), Error> {
        let known = self.known();
        match known.unread.first() {
            None => Ok(()),
            Some(name) => Err(Error::Conflict(format!(
                "{} roles cannot be read, {name} for one",
                known.unread.len()
            ))),
        }
    }

    /// What is expected through a connection.
    pub fn expectations(&self, connection: &ConnectionName) -> Expectations {
        let known = self.known();
        let mut expectations = Expectations::default();
        for (name, entry) in &known.roles {
            let places = entry.places.iter();
            let here = places.filter(|place| place.connection == *connection);
            expectations.places.extend(here.cloned());
            for (hash, expected) in &entry.keys {
                expectations.known.insert(hash.clone());
                if expected.place.connection == *connection {
                    let keys = expectations.keys.entry(hash.clone()).or_default();
                    keys.push((name.clone(), expected.clone()));
                }
            }
        }
        expectations
    }

    /// Whose keys are marked like this.
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

    /// The keys of rotating roles at a place that should be held to a guardrail, and whose they are.
    pub fn guarded(&self, place: &Place) -> Vec<(KeyHash, GuardrailId, RoleName)> {
        let known = self.known();
        let roles = known.roles.iter().flat_map(|(name, entry)| {
            let here = entry.guarded.iter().filter(|key| key.place == *place);
            here.map(move |key| (key.hash.clone(), key.guardrail_id.clone(), name.clone()))
        });
        roles.collect()
    }

    /// Whether a role has the key.
    pub fn has(&self, hash: &KeyHash) -> bool {
        let known = self.known();
        let mut keys = known.roles.values().flat_map(|entry| &entry.keys);
        keys.any(|(own, _)| own == hash)
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
    let place = |connection: &ConnectionName, workspace_id: &Option<_>| Place {
        connection: connection.clone(),
        workspace_id: workspace_id.clone(),
    };
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
        };
        (key.hash.clone(), expected)
    });
    let current = &role.current;
    let expected = Expected {
        part: Part::Current {
            limits: role.granted(),
            unfit: role.unfit.map(|unfit| unfit.reason),
        },
        name: current.name.clone(),
        place: role.place_of_current(),
    };
    superseded
        .chain([(current.hash.clone(), expected)])
        .collect()
}
