//! Guardrails and bounds: who changes them, whether each key that is handed out has the guardrail of its
//! role, and whether each key that is created is within the bounds of its connection.
//!
//! - [`people`]: who changes them. [`held`]: the guardrails of keys. [`bounds`]: the bounds of connections.
//!
//! # What must hold
//! - **No key of a guarded role is handed out without its guardrail in effect at OpenRouter**: the guardrail
//!   of a version of the role that was in force, see [`in_force`](crate::in_force).
//! - **No key of a guarded role is assigned to a guardrail that its role no longer has**, by a request that
//!   was sent when another one had long been in force.
//! - **In the end every living key has the guardrail that its role shows.**
//! - **No key is created beyond the bounds of its connection** that were in force when it was ordered.
//!
//! # Exceptions, and why
//! - **What a person has changed in the dashboard**, and what a restored snapshot does not know: until a
//!   comparison that began later has completed.
//! - **An assignment that arrives late, or twice**: the same. A request that was sent cannot be called back.

mod bounds;
mod held;
mod people;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use openrouter_simulator::{Account, Key};

use crate::views::View;
use crate::world::World;

/// What was observed about guardrails in one life.
#[derive(Default)]
pub(crate) struct Guardrails(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Keys that have another guardrail because someone else assigned it, and since when.
    tampered: BTreeMap<String, Timestamp>,
    /// Keys whose guardrail was deleted.
    bereft: BTreeSet<String>,
    counted: Counted,
}

/// How often the promises were tested.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Keys that were handed out with the guardrail of their role.
    pub(crate) guarded: u64,
    /// Keys that were handed out without it, with an exception.
    pub(crate) excused: u64,
    /// Assignments of keys of roles.
    pub(crate) assigned: u64,
    /// Keys that were created under bounds.
    pub(crate) bounded: u64,
}

impl Counted {
    pub(crate) fn add(&mut self, other: Self) {
        self.guarded += other.guarded;
        self.excused += other.excused;
        self.assigned += other.assigned;
        self.bounded += other.bounded;
    }
}

/// What a version of a role says about a key.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// It need not have a guardrail.
    Nothing,
    /// It must have this guardrail.
    To(String),
    /// It was created elsewhere, by another version.
    Elsewhere,
}

impl Wanted {
    fn accepts(&self, held: Option<&String>) -> bool {
        match self {
            Self::Nothing => true,
            Self::To(guardrail) => held == Some(guardrail),
            Self::Elsewhere => false,
        }
    }
}

/// A key, and where it is.
struct Placed<'a> {
    account: &'a Account,
    is_other: bool,
    key: Key,
}

impl Placed<'_> {
    fn held(&self) -> Option<String> {
        self.account.guardrail_of(&self.key.hash)
    }

    fn role(&self) -> &str {
        self.key.name.split(' ').next().unwrap_or_default()
    }
}

impl World {
    /// How often the promises were tested.
    pub(crate) fn counted(&self) -> Counted {
        self.guardrails(|seen| seen.counted)
    }

    fn tamper(&self, hash: &str) {
        let now = self.now();
        self.guardrails(|seen| seen.tampered.insert(hash.to_owned(), now));
        self.witness.unseen();
    }

    fn placed(&self, hash: &str) -> Option<Placed<'_>> {
        let accounts = self.openrouter.accounts.iter().enumerate();
        let mut found = accounts.filter_map(|(number, account)| {
            let key = account.key(hash).filter(|key| key.deleted_at.is_none())?;
            let is_other = number > 0;
            Some(Placed {
                account,
                is_other,
                key,
            })
        });
        found.next()
    }

    /// What a version of a role says about a key.
    fn wanted(&self, role: &str, entry: Option<&[u8]>, placed: &Placed<'_>) -> Wanted {
        let Some(definition) = self.definition(role, entry) else {
            return Wanted::Nothing;
        };
        let definition = &definition.data;
        let Some(guardrail) = definition["guardrail_id"].as_str() else {
            return Wanted::Nothing;
        };
        let workspace = definition["workspace_id"].as_str().map(str::to_owned);
        let workspace = workspace.unwrap_or_else(|| placed.account.default_workspace());
        let is_there = (definition["connection"] == "other") == placed.is_other
            && workspace == placed.key.workspace_id;
        if is_there {
            return Wanted::To(guardrail.to_owned());
        }
        if definition["credential_type"] == "dynamic" {
            return Wanted::Elsewhere;
        }
        // It keeps the guardrail that it was created with.
        let superseded = definition["superseded_keys"].as_array().unwrap().iter();
        let mut keys = superseded.chain([&definition["current_key"]]);
        let key = keys.find(|key| key["hash"] == *placed.key.hash);
        let made_with = key.and_then(|key| key["guardrail_id"].as_str());
        made_with.map_or(Wanted::Nothing, |id| Wanted::To(id.to_owned()))
    }

    fn definition(&self, role: &str, entry: Option<&[u8]>) -> Option<Arc<View>> {
        self.view(&format!("roles/{role}"), entry?)
    }

    fn guardrails<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.guardrails.0.lock().unwrap())
    }
}
