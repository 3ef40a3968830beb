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
    /// One key that its readers share.
    Rotating(Box<RotatingRole>),
    /// A key for every lease.
    Dynamic(Box<DynamicRole>),
}

impl Role {
    /// Reads a role: one storage call.
    ///
    /// # Errors
    /// Storage's own.
    pub async fn load(storage: &dyn Storage, name: &RoleName) -> Result<Option<Self>, Error> {
        Ok(stored::load(storage, &name.key()).await?)
    }

    /// Reads a role's entry that is at hand.
    ///
    /// # Errors
    /// [`StorageError::Malformed`](crate::logical::StorageError::Malformed).
    pub fn parse(name: &RoleName, value: &[u8]) -> Result<Self, Error> {
        Ok(stored::parse(&name.key(), value)?)
    }

    /// Reads a role that must be there: one storage call.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not; storage's own.
    pub async fn require(storage: &dyn Storage, name: &RoleName) -> Result<Self, Error> {
        let role = Self::load(storage, name).await?;
        role.ok_or_else(|| Self::missing(name))
    }

    /// The names of all roles: one storage call.
    ///
    /// # Errors
    /// Storage's own.
    pub async fn names(storage: &dyn Storage) -> Result<Vec<RoleName>, Error> {
        let names = storage.list(ROLES).await?;
        Ok(names
            .iter()
            .filter_map(|name| RoleName::new(name))
            .collect())
    }

    /// What to say of a role that is not there.
    pub fn missing(name: &RoleName) -> Error {
        Error::Missing(format!(
            "there is no role {:?}; write one to the path {:?} of this mount",
            name.to_string(),
            name.key()
        ))
    }

    /// What it asks for each of its keys.
    pub fn terms(&self) -> &Terms {
        match self {
            Self::Rotating(role) => &role.definition.terms,
            Self::Dynamic(role) => &role.terms,
        }
    }

    /// How long a key that is made at `now` lives at most, in seconds; `None` is for ever.
    pub fn lifetime(&self, now: Timestamp) -> Option<u64> {
        match self {
            Self::Rotating(role) => role.definition.rotation.lifetime(now),
            Self::Dynamic(role) => Some(role.lifetime()),
        }
    }

    /// Which life of the role it is.
    pub fn life(&self) -> &Life {
        match self {
            Self::Rotating(role) => &role.life,
            Self::Dynamic(role) => &role.life,
        }
    }

    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Rotating(_) => Kind::Rotating,
            Self::Dynamic(_) => Kind::Dynamic,
        }
    }

    /// The shared key's side of it, for a path that only such roles have.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the role is dynamic, naming `path`.
    pub fn rotating(self, name: &RoleName, path: &str) -> Result<RotatingRole, Error> {
        match self {
            Self::Rotating(role) => Ok(*role),
            Self::Dynamic(_) => Err(Self::has_no_shared_key(name, path)),
        }
    }

    /// What to say of a dynamic role on a path that only rotating ones have.
    pub fn has_no_shared_key(name: &RoleName, path: &str) -> Error {
        Error::Invalid(format!(
            "role {:?} is dynamic: it has no key of its own, so {path} does not go with it; every \
             read of creds/{name} makes a key",
            name.to_string()
        ))
    }

    /// As which of its keys the role has the key of this hash.
    pub fn standing(&self, hash: &KeyHash) -> Option<Standing> {
        match self {
            Self::Rotating(role) => role.standing(hash),
            Self::Dynamic(_) => None,
        }
    }

    /// The hashes of the keys in the role's entry, each with the connection it was made through.
    pub fn keys(&self) -> impl Iterator<Item = (&KeyHash, &ConnectionName)> {
        let rotating = match self {
            Self::Rotating(role) => Some(role.keys()),
            Self::Dynamic(_) => None,
        };
        rotating.into_iter().flatten()
    }
}

impl Stored for Role {
    /// 2: the life of the role; of each key its workspace and the address it was made under.
    /// 3: how far the end of each superseded key has come, and the hold; workspace, guardrail and creator
    /// as they were written; of each key its guardrail; the budget, what was granted of it, and what ended
    /// keys have spent.
    const VERSION: u32 = 3;

    fn upgrade(&mut self, from: u32) {
        // Later formats say of each key where it is, which may be elsewhere than the next one will be.
        if from < 2
            && let Self::Rotating(role) = self
        {
            role.place_keys_by_definition();
        }
    }
}

impl RotatingRole {
    /// Writes it: one storage call.
    ///
    /// # Errors
    /// Storage's own; the write may have happened all the same.
    pub async fn store(&self, storage: &dyn Storage, name: &RoleName) -> Result<(), Error> {
        Ok(stored::store::<Role>(storage, &name.key(), &Entry::Rotating(self)).await?)
    }
}

impl DynamicRole {
    /// Writes it: one storage call.
    ///
    /// # Errors
    /// Storage's own; the write may have happened all the same.
    pub async fn store(&self, storage: &dyn Storage, name: &RoleName) -> Result<(), Error> {
        Ok(stored::store::<Role>(storage, &name.key(), &Entry::Dynamic(self)).await?)
    }
}

/// A [`Role`], to be stored without taking it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Entry<'a> {
    Rotating(&'a RotatingRole),
    Dynamic(&'a DynamicRole),
}
