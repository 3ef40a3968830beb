//! The owner and the state of a key, determined in one place for every feature.
//!
//! A key of the mount is identified by its hash. For any other key, the name says what it claims to be: it
//! ends with the mark of its order, or has none.

use std::fmt;

use jiff::Timestamp;

use super::holdings::{Holder, Holdings};
use crate::engine::books::Record;
use crate::engine::names::{ConnectionName, Nonce, RoleName};
use crate::engine::role::rotating::Standing;
use crate::openrouter::{KeyHash, ListedKey, Report};

/// The owner of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A role, and which of its keys it is; `None` if the role's entry is unreadable.
    Role(RoleName, Option<Standing>),
    /// A lease.
    Lease(Box<Record>),
    /// It is being created for this role.
    Pending(RoleName),
    /// It was ordered for this role, and the outcome is unknown.
    Lost(RoleName),
    /// It has this mount's mark, and belongs to nobody.
    Stray,
    /// It has another mount's mark.
    OtherMount,
    /// It has no mark, and is unknown to this mount.
    Unmanaged,
}

impl Owner {
    /// The values, as users see them.
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

    /// The role concerned.
    pub fn role(&self) -> Option<&RoleName> {
        match self {
            Self::Role(name, _) | Self::Pending(name) | Self::Lost(name) => Some(name),
            Self::Lease(record) => Some(&record.key.role),
            Self::Stray | Self::OtherMount | Self::Unmanaged => None,
        }
    }

    /// The version of the role's key.
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Role(_, standing) => standing.map(Standing::version),
            _ => None,
        }
    }

    /// Whether it belongs to nobody in this mount, and is not being created for a role.
    pub fn is_unclaimed(&self) -> bool {
        matches!(self, Self::Stray | Self::OtherMount | Self::Unmanaged)
    }
}

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its role hands it out.
    Current,
    /// It was replaced, and works until its grace period ends.
    Superseded,
    /// It was replaced, and the engine has disabled it. It can be restored until it is deleted.
    Held,
    /// It works for the reader who leased it.
    Leased,
    /// It was disabled.
    Disabled,
    /// It has expired.
    Expired,
    /// It works for everyone who has it.
    Active,
}

impl State {
    /// The values, as users see them.
    pub const NAMES: &[&str] = &[
        "current",
        "superseded",
        "held",
        "leased",
        "disabled",
        "expired",
        "active",
    ];

    /// OpenRouter's answer takes precedence: a key that does not work is of no use to its owner.
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
            Self::Stray => f.write_str("a stray key of this mount"),
            Self::OtherMount => f.write_str("a key of another mount of this engine"),
            Self::Unmanaged => f.write_str("not managed by this engine"),
        }
    }
}

impl Holdings {
    /// The owner of the key.
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
        // A mount without a UUID cannot distinguish its keys from those of others.
        let ours = |origin: crate::engine::names::Origin| {
            !self.mount.is_empty() && origin.is_of_mount(&self.mount)
        };
        match nonce.origin() {
            Some(origin) if ours(origin) => Owner::Stray,
            _ => Owner::OtherMount,
        }
    }

    /// The owner of the key, if that is known without its name.
    pub fn owner_by_hash(&self, hash: &KeyHash) -> Option<Owner> {
        match self.holder(hash) {
            Some(Holder::Role(name, standing)) => Some(Owner::Role(name.clone(), *standing)),
            Some(Holder::Lease(record)) => Some(Owner::Lease(record.clone())),
            None => self.rejected.get(hash).cloned().map(Owner::Lost),
        }
    }

    /// The role in the key's mark, whether or not the key belongs to it.
    pub fn marked_for(&self, key_name: &str) -> Option<&RoleName> {
        let origin = Nonce::of_key_name(key_name)?.origin()?;
        self.marks.get(&origin)
    }
}

/// A key with its owner and its state.
#[derive(Clone, Debug)]
pub struct Known {
    /// The connection that sees it.
    pub connection: ConnectionName,
    /// Its hash.
    pub hash: KeyHash,
    /// The mark in its name.
    pub nonce: Option<Nonce>,
    /// Its owner.
    pub owner: Owner,
    /// Its state.
    pub state: State,
    /// What OpenRouter says about it.
    pub report: Report,
}

impl Known {
    /// A listed key; `None` if its hash is unreadable.
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
