//! What storage knew when the work began, kept until all of it has been compared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::engine::error::Error;
use crate::engine::names::{Origin, Place, RoleName};
use crate::engine::role::Role;
use crate::logical::StorageError;
use crate::openrouter::KeyHash;

/// The keys of rotating roles, whose they are, and what is still to be compared.
pub struct Ledger {
    /// When it was begun.
    pub begun: Timestamp,
    /// Roles that could not be read yet.
    pub unread: BTreeSet<RoleName>,
    /// Where nothing was compared yet.
    pub left: BTreeSet<Place>,
    /// Where each role's current key is expected.
    current: BTreeMap<Place, Vec<(KeyHash, RoleName)>>,
    known: HashSet<KeyHash>,
    /// Whose keys are marked how; `None` is a role whose entry makes no sense.
    roles: HashMap<Origin, Option<RoleName>>,
}

/// Who has a key that is marked in some way.
pub enum Owner<'a> {
    /// This role.
    Role(&'a RoleName),
    /// A role that is left alone, with whatever keys it has.
    Illegible,
    /// Perhaps one that could not be read yet.
    Unread,
    /// No role that there is.
    Nobody,
}

impl Ledger {
    /// A ledger without entries.
    pub fn begun(now: Timestamp) -> Self {
        Self {
            begun: now,
            unread: BTreeSet::new(),
            left: BTreeSet::new(),
            current: BTreeMap::new(),
            known: HashSet::new(),
            roles: HashMap::new(),
        }
    }

    /// Enters what came of reading a role. A dynamic one has no keys of its own, and one whose entry
    /// makes no sense is left alone with whatever keys it has. Any other error is for another try.
    pub fn enter(&mut self, name: &RoleName, origin: Origin, read: &Result<Option<Role>, Error>) {
        let legible = match read {
            Ok(_) => Some(name.clone()),
            Err(Error::Storage(StorageError::Malformed { .. })) => None,
            Err(_) => {
                self.unread.insert(name.clone());
                return;
            }
        };
        self.unread.remove(name);
        if !matches!(read, Ok(None)) {
            self.roles.insert(origin, legible);
        }
        let Ok(Some(Role::Rotating(role))) = read else {
            return;
        };
        let hashes = role.keys().map(|(hash, _)| hash.clone());
        self.known.extend(hashes);
        let place = Place {
            connection: role.current.connection.clone(),
            workspace_id: role.definition.terms.workspace_id.clone(),
        };
        self.left.insert(place.clone());
        let current = self.current.entry(place).or_default();
        current.push((role.current.hash.clone(), name.clone()));
    }

    /// That every role could be read by now.
    ///
    /// # Errors
    /// [`Error::Conflict`] when not.
    pub fn require_all_read(&self) -> Result<(), Error> {
        match self.unread.first() {
            None => Ok(()),
            Some(name) => Err(Error::Conflict(format!(
                "{} roles cannot be read, {name} for one",
                self.unread.len()
            ))),
        }
    }

    /// Whether there is nothing left to compare.
    pub fn is_done(&self) -> bool {
        self.unread.is_empty() && self.left.is_empty()
    }

    /// The roles whose current keys are expected at a place, by hash.
    pub fn current_keys(&self, place: &Place) -> HashMap<&KeyHash, Vec<&RoleName>> {
        let mut roles = HashMap::<_, Vec<_>>::new();
        for (hash, name) in self.current.get(place).into_iter().flatten() {
            roles.entry(hash).or_default().push(name);
        }
        roles
    }

    /// Whether the key was in a role's entry.
    pub fn has(&self, hash: &KeyHash) -> bool {
        self.known.contains(hash)
    }

    /// Whose keys are marked like this.
    pub fn owner(&self, origin: &Origin) -> Owner<'_> {
        match self.roles.get(origin) {
            Some(Some(name)) => Owner::Role(name),
            Some(None) => Owner::Illegible,
            None if !self.unread.is_empty() => Owner::Unread,
            None => Owner::Nobody,
        }
    }
}
