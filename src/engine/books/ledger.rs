//! What storage knew when the work began, kept until all of it has been compared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::engine::error::Error;
use crate::engine::names::{Life, Origin, Place, RoleName};
use crate::engine::role::Role;
use crate::engine::role::rotating::RotatingRole;
use crate::logical::StorageError;
use crate::openrouter::{GuardrailId, KeyHash};

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
    /// The keys that should be held to a guardrail, by where they are.
    guarded: BTreeMap<Place, BTreeMap<KeyHash, (GuardrailId, RoleName)>>,
    /// Whose keys are marked how.
    roles: HashMap<Origin, RoleName>,
    /// Whether a role is left alone since its entry is unreadable: nobody knows its mark.
    has_unreadable: bool,
}

/// Who has a key that is marked in some way.
pub enum Owner<'a> {
    /// This role.
    Role(&'a RoleName),
    /// Perhaps a role that could not be read.
    Unknown,
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
            guarded: BTreeMap::new(),
            roles: HashMap::new(),
            has_unreadable: false,
        }
    }

    /// Enters what came of reading a role, whose keys are marked by what `origin` makes of its life. A
    /// dynamic one has no keys of its own, and an unreadable one is left alone with whatever keys it
    /// has. Any other error is for another try.
    pub fn enter(
        &mut self,
        name: &RoleName,
        read: &Result<Option<Role>, Error>,
        origin: impl Fn(&RoleName, &Life) -> Origin,
    ) {
        self.unread.remove(name);
        match read {
            Ok(Some(role)) => {
                self.roles.insert(origin(name, role.life()), name.clone());
                match role {
                    Role::Rotating(role) => self.enter_keys(name, role),
                    Role::Dynamic(role) if role.terms.guardrail_id.is_some() => {
                        self.left.insert(role.terms.place());
                    }
                    Role::Dynamic(_) => {}
                }
            }
            Ok(None) => {}
            Err(Error::Storage(StorageError::Malformed { .. })) => self.has_unreadable = true,
            Err(_) => {
                self.unread.insert(name.clone());
            }
        }
    }

    fn enter_keys(&mut self, name: &RoleName, role: &RotatingRole) {
        let hashes = role.keys().map(|(hash, _)| hash.clone());
        self.known.extend(hashes);
        self.left.extend(role.places());
        for key in role.guarded_keys() {
            let guarded = self.guarded.entry(key.place).or_default();
            guarded.insert(key.hash, (key.guardrail_id, name.clone()));
        }
        let current = self.current.entry(role.place_of_current()).or_default();
        current.push((role.current.hash.clone(), name.clone()));
    }

    /// Checks that every role could be read by now.
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
    pub fn current_keys(&self, place: &Place) -> BTreeMap<&KeyHash, Vec<&RoleName>> {
        let mut roles = BTreeMap::<_, Vec<_>>::new();
        for (hash, name) in self.current.get(place).into_iter().flatten() {
            roles.entry(hash).or_default().push(name);
        }
        roles
    }

    /// The keys of rotating roles at a place that should be held to a guardrail, and whose they are.
    pub fn guarded(
        &self,
        place: &Place,
    ) -> impl Iterator<Item = (&KeyHash, &(GuardrailId, RoleName))> {
        self.guarded.get(place).into_iter().flatten()
    }

    /// Whether the key was in a role's entry.
    pub fn has(&self, hash: &KeyHash) -> bool {
        self.known.contains(hash)
    }

    /// Whose keys are marked like this.
    pub fn owner(&self, origin: &Origin) -> Owner<'_> {
        match self.roles.get(origin) {
            Some(name) => Owner::Role(name),
            None if self.has_unreadable || !self.unread.is_empty() => Owner::Unknown,
            None => Owner::Nobody,
        }
    }
}
