//! Whose a key is, and what it does: the one place that works it out, for every feature.
//!
//! A key that the mount has is known by its hash. Of the others the name says what they claim to be: it
//! ends in a mark with which somebody ordered it, or in none.

use std::fmt;

use jiff::Timestamp;

use super::holdings::{Holder, Holdings};
use crate::engine::books::Record;
use crate::engine::names::{ConnectionName, Nonce, RoleName};
use crate::engine::role::rotating::Standing;
use crate::openrouter::{KeyHash, ListedKey, Report};

/// Whose a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A role's, as this key of it; `None` where the role's entry cannot be read.
    Role(RoleName, Option<Standing>),
    /// Under a lease.
    Lease(Box<Record>),
    /// In the making, for this role.
    Pending(RoleName),
    /// Ordered for this role, and what came of that is still unknown.
    Lost(RoleName),
    /// Of this mount by its mark, and nobody has it.
    Stray,
    /// Of another mount by its mark, and not this one's.
    OtherMount,
    /// Nothing says that this engine has ever heard of it.
    Unmanaged,
}

impl Owner {
    /// The values, as users meet them.
    pub const NAMES: &[&str] = &[
        "role",
        "lease",
        "pending",
        "lost",
        "stray",
        "other_mount",
        "unmanaged",
    ];

    /// Its value.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Role(..) => "role",
            Self::Lease(_) => "lease",
            Self::Pending(_) => "pending",
            Self::Lost(_) => "lost",
            Self::Stray => "stray",
            Self::OtherMount => "other_mount",
            Self::Unmanaged => "unmanaged",
        }
    }

    /// The role that it has to do with.
    pub fn role(&self) -> Option<&RoleName> {
        match self {
            Self::Role(name, _) | Self::Pending(name) | Self::Lost(name) => Some(name),
            Self::Lease(record) => Some(&record.key.role),
            Self::Stray | Self::OtherMount | Self::Unmanaged => None,
        }
    }

    /// Which of the role's keys it is.
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Role(_, standing) => standing.map(Standing::version),
            _ => None,
        }
    }

    /// Whether nobody of this mount has it, or is about to.
    pub fn is_unclaimed(&self) -> bool {
        matches!(self, Self::Stray | Self::OtherMount | Self::Unmanaged)
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its role hands it out.
    Current,
    /// It was replaced, and works until its grace period ends.
    Superseded,
    /// It was replaced, and the engine has disabled it; it can be restored until it is deleted.
    Held,
    /// It works for the reader who leased it.
    Leased,
    /// It was switched off.
    Disabled,
    /// Its time is over.
    Expired,
    /// It works, for whoever has it.
    Active,
}

impl State {
    /// The values, as users meet them.
    pub const NAMES: &[&str] = &[
        "current",
        "superseded",
        "held",
        "leased",
        "disabled",
        "expired",
        "active",
    ];

    /// What OpenRouter says comes first: a key that does not work does nothing for its owner.
    pub fn of(owner: &Owner, report: &Report, now: Timestamp) -> Self {
        if report.expires_at.is_some_and(|at| at <= now) {
            return Self::Expired;
        }
        match owner {
            Owner::Role(_, Some(Standing::Held { .. })) if report.disabled => Self::Held,
            _ if report.disabled => Self::Disabled,
            Owner::Role(_, Some(Standing::Current { .. })) => Self::Current,
            Owner::Role(_, Some(Standing::Superseded { .. })) => Self::Superseded,
            Owner::Lease(_) => Self::Leased,
            _ => Self::Active,
        }
    }

    /// Its value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Superseded => "superseded",
            Self::Held => "held",
            Self::Leased => "leased",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Active => "active",
        }
    }
}

impl fmt::Display for Owner {
    /// For a sentence about the key: "it is …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(name, Some(Standing::Current { version })) => {
                write!(f, "the current key of role {name}, version {version}")
            }
            Self::Role(name, Some(Standing::Superseded { version, .. })) => {
                write!(f, "a superseded key of role {name}, version {version}")
            }
            Self::Role(name, Some(Standing::Held { version, .. })) => {
                write!(f, "a held key of role {name}, version {version}")
            }
            Self::Role(name, None) => write!(f, "a key of role {name}, whose entry is unreadable"),
            Self::Lease(record) => write!(f, "under a lease of role {}", record.key.role),
            Self::Pending(name) => write!(f, "being created for role {name}"),
            Self::Lost(name) => write!(f, "an unconfirmed key of role {name}"),
            Self::Stray => f.write_str("a key of this mount that nobody has"),
            Self::OtherMount => f.write_str("a key of another mount of this engine"),
            Self::Unmanaged => f.write_str("not managed by this engine"),
        }
    }
}

impl Holdings {
    /// Whose the key is.
    pub fn owner(&self, hash: Option<&KeyHash>, name: &str) -> Owner {
        self.owner_by_mark(hash, Nonce::of_key_name(name).as_ref())
    }

    /// The same, by the mark in its name.
    pub fn owner_by_mark(&self, hash: Option<&KeyHash>, nonce: Option<&Nonce>) -> Owner {
        if let Some(owner) = hash.and_then(|hash| self.owner_by_hash(hash)) {
            return owner;
        }
        let Some(nonce) = nonce else {
            return Owner::Unmanaged;
        };
        if let Some((role, is_under_way)) = self.ordered.get(nonce) {
            return match is_under_way {
                true => Owner::Pending(role.clone()),
                false => Owner::Lost(role.clone()),
            };
        }
        // A mount without a UUID cannot tell its keys from others'.
        let ours = |origin: crate::engine::names::Origin| {
            !self.mount.is_empty() && origin.is_of_mount(&self.mount)
        };
        match nonce.origin() {
            Some(origin) if ours(origin) => Owner::Stray,
            _ => Owner::OtherMount,
        }
    }

    /// Whose the key is, if that can be told without its name.
    pub fn owner_by_hash(&self, hash: &KeyHash) -> Option<Owner> {
        match self.holder(hash) {
            Some(Holder::Role(name, standing)) => Some(Owner::Role(name.clone(), *standing)),
            Some(Holder::Lease(record)) => Some(Owner::Lease(record.clone())),
            None => self.rejected.get(hash).cloned().map(Owner::Lost),
        }
    }

    /// The role of whose life the key is by its mark, whether the role has it or not.
    pub fn marked_for(&self, key_name: &str) -> Option<&RoleName> {
        let origin = Nonce::of_key_name(key_name)?.origin()?;
        self.marks.get(&origin)
    }
}

/// A key, whose it is, and what it does.
#[derive(Clone, Debug)]
pub struct Known {
    /// Through which connection it is seen.
    pub connection: ConnectionName,
    /// By what OpenRouter knows it.
    pub hash: KeyHash,
    /// The mark in its name.
    pub nonce: Option<Nonce>,
    /// Whose it is.
    pub owner: Owner,
    /// What it does.
    pub state: State,
    /// What OpenRouter says of it.
    pub report: Report,
}

impl Known {
    /// A listed key; `None` where its hash is unreadable.
    pub fn of(
        connection: &ConnectionName,
        key: &ListedKey,
        holdings: &Holdings,
        now: Timestamp,
    ) -> Option<Self> {
        let hash = key.hash.clone()?;
        let owner = holdings.owner(Some(&hash), &key.name);
        let report = key.report();
        Some(Self {
            connection: connection.clone(),
            state: State::of(&owner, &report, now),
            hash,
            nonce: Nonce::of_key_name(&key.name),
            owner,
            report,
        })
    }
}
