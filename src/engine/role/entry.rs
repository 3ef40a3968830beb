//! A role as it is stored, of either kind.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Life, ROLES, RoleName};
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::{RotatingRole, Standing};
use crate::engine::role::{Kind, Terms};
use crate::engine::stored::{self, Stored};
use crate::logical::Storage;
use crate::openrouter::KeyHash;

/// A role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// One key that all readers share.
    Rotating(Box<RotatingRole>),
    /// One key per lease.
    Dynamic(Box<DynamicRole>),
}

impl Role {
    /// Reads a role: one storage call.
    ///
    /// # Errors
    /// Errors from storage.
    pub async fn load(storage: &dyn Storage, name: &RoleName) -> Result<Option<Self>, Error> {
        Ok(stored::load(storage, &name.key()).await?)
    }

    /// Parses a role's entry that was already read.
    ///
    /// # Errors
    /// [`StorageError::Malformed`](crate::logical::StorageError::Malformed).
    pub fn parse(name: &RoleName, value: &[u8]) -> Result<Self, Error> {
        Ok(stored::parse(&name.key(), value)?)
    }

    /// Reads a role that must exist: one storage call.
    ///
    /// # Errors
    /// [`Error::Missing`] if it does not exist; errors from storage.
    pub async fn require(storage: &dyn Storage, name: &RoleName) -> Result<Self, Error> {
        let role = Self::load(storage, name).await?;
        role.ok_or_else(|| Self::missing(name))
    }

    /// The names of all roles: one storage call.
    ///
    /// # Errors
    /// Errors from storage.
    pub async fn names(storage: &dyn Storage) -> Result<Vec<RoleName>, Error> {
        let names = storage.list(ROLES).await?;
        Ok(names
            .iter()
            .filter_map(|name| RoleName::new(name))
            .collect())
    }

    /// The error for a role that does not exist.
    pub fn missing(name: &RoleName) -> Error {
        Error::Missing(format!(
            "there is no role {:?}; write one to the path {:?} of this mount",
            name.to_string(),
            name.key()
        ))
    }

    /// The terms of its keys.
    pub fn terms(&self) -> &Terms {
        match self {
            Self::Rotating(role) => &role.definition.terms,
            Self::Dynamic(role) => &role.terms,
        }
    }

    /// The maximum lifetime of a key that is made at `now`, in seconds; `None` is unlimited.
    pub fn lifetime(&self, now: Timestamp) -> Option<u64> {
        match self {
            Self::Rotating(role) => role.definition.rotation.lifetime(now),
            Self::Dynamic(role) => Some(role.lifetime()),
        }
    }

    /// The life of the role.
    pub fn life(&self) -> &Life {
        match self {
            Self::Rotating(role) => &role.life,
            Self::Dynamic(role) => &role.life,
        }
    }

    /// The kind of role.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Rotating(_) => Kind::Rotating,
            Self::Dynamic(_) => Kind::Dynamic,
        }
    }

    /// The role as a rotating role, for a path that only supports those.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming `path`, if the role is dynamic.
    pub fn rotating(self, name: &RoleName, path: &str) -> Result<RotatingRole, Error> {
        match self {
            Self::Rotating(role) => Ok(*role),
            Self::Dynamic(_) => Err(Self::has_no_shared_key(name, path)),
        }
    }

    /// The error for a dynamic role on a path that only supports rotating roles.
    pub fn has_no_shared_key(name: &RoleName, path: &str) -> Error {
        Error::Invalid(format!(
            "role {:?} is dynamic and has no shared key, so it does not support {path}; every read \
             of creds/{name} makes a key",
            name.to_string()
        ))
    }

    /// What the key with this hash is to the role; `None` if it is not one of its keys.
    pub fn standing(&self, hash: &KeyHash) -> Option<Standing> {
        match self {
            Self::Rotating(role) => role.standing(hash),
            Self::Dynamic(_) => None,
        }
    }

    /// The hashes of the keys in the role's entry, each with the connection through which it was made.
    pub fn keys(&self) -> impl Iterator<Item = (&KeyHash, &ConnectionName)> {
        let rotating = match self {
            Self::Rotating(role) => Some(role.keys()),
            Self::Dynamic(_) => None,
        };
        rotating.into_iter().flatten()
    }
}

impl Stored for Role {
    /// Version 2 adds the role's life, and the workspace and address of each key. Version 3 adds the stage of
    /// each superseded key and the hold; workspace, guardrail and creator as they were written; each key's
    /// guardrail; the budget with its grants and its alerts, and the spending of ended keys, also without a
    /// budget.
    const VERSION: u32 = 3;

    fn upgrade(&mut self, from: u32) {
        // Later formats store the place of each key, which may differ from that of the next key.
        if from < 2
            && let Self::Rotating(role) = self
        {
            role.place_keys_by_definition();
        }
    }
}

impl RotatingRole {
    /// Stores the role: one storage call.
    ///
    /// # Errors
    /// Errors from storage. The write may still have taken effect.
    pub async fn store(&self, storage: &dyn Storage, name: &RoleName) -> Result<(), Error> {
        Ok(stored::store::<Role>(storage, &name.key(), &Entry::Rotating(self)).await?)
    }
}

impl DynamicRole {
    /// Stores the role: one storage call.
    ///
    /// # Errors
    /// Errors from storage. The write may still have taken effect.
    pub async fn store(&self, storage: &dyn Storage, name: &RoleName) -> Result<(), Error> {
        Ok(stored::store::<Role>(storage, &name.key(), &Entry::Dynamic(self)).await?)
    }
}

/// A borrowed [`Role`], for storing.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Entry<'a> {
    Rotating(&'a RotatingRole),
    Dynamic(&'a DynamicRole),
}
