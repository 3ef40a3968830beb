//! How the engine's entries are stored: JSON with a version, so that an older engine refuses what
//! a newer one wrote instead of losing part of it.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};

use crate::logical::{Entry, Storage, StorageError};

/// Reads the entry under `key`: one storage call.
///
/// # Errors
/// Storage's own, and [`StorageError::Malformed`] when the entry is not a `T`, or was written by a
/// newer version.
pub async fn load<T: DeserializeOwned>(
    storage: &dyn Storage,
    key: &str,
) -> Result<Option<T>, StorageError> {
    let Some(value) = storage.get(key).await? else {
        return Ok(None);
    };
    let newer = |version| StorageError::Malformed {
        key: key.to_owned(),
        reason: format!("it was written by a newer version of this engine, in format {version}"),
    };
    match Entry::parse::<Versioned<T>>(key, &value) {
        Ok(stored) if stored.version <= VERSION => Ok(Some(stored.entry)),
        Ok(stored) => Err(newer(stored.version)),
        // Where a newer format is not even understood, its version says more than that.
        Err(reason) => match Entry::parse::<Envelope>(key, &value) {
            Ok(envelope) if envelope.version > VERSION => Err(newer(envelope.version)),
            _ => Err(reason),
        },
    }
}

/// Whether there is an entry under `key`, be it one that makes sense or not: one storage call. For the
/// server's question before a write: to an error it gives no answer but "internal error", and the
/// write itself says what is wrong.
///
/// # Errors
/// Storage's own.
pub async fn exists(storage: &dyn Storage, key: &str) -> Result<bool, StorageError> {
    Ok(storage.get(key).await?.is_some())
}

/// Writes the entry under `key`: one storage call, atomic.
///
/// # Errors
/// Storage's own. Unless it is [`StorageError::ReadOnly`], the entry may have been written.
pub async fn store<T: Serialize>(
    storage: &dyn Storage,
    key: &str,
    entry: &T,
) -> Result<(), StorageError> {
    let versioned = Versioned {
        version: VERSION,
        entry,
    };
    storage.put(Entry::json(key, &versioned)?).await
}

/// For `#[serde(serialize_with)]`: a secret goes into storage as it is. The server encrypts it.
pub fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[derive(Deserialize)]
struct Envelope {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    entry: T,
}

/// The format of every entry that this build writes.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logical::MemoryStorage;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
    }

    #[tokio::test]
    async fn an_entry_comes_back_as_it_was_stored() {
        let storage = MemoryStorage::default();
        let thing = Thing {
            name: "a".to_owned(),
        };
        store(&storage, "things/a", &thing).await.unwrap();
        assert_eq!(load(&storage, "things/a").await.unwrap(), Some(thing));
        assert_eq!(load::<Thing>(&storage, "things/b").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_a_newer_version_wrote_is_refused() {
        let storage = MemoryStorage::default();
        for entry in [r#"{"name": "a"}"#, r#"{"title": "a"}"#] {
            let entry = Entry {
                key: "things/a".to_owned(),
                value: format!(r#"{{"version": 2, "entry": {entry}}}"#).into_bytes(),
            };
            storage.put(entry).await.unwrap();
            let refusal = load::<Thing>(&storage, "things/a").await.unwrap_err();
            assert!(refusal.to_string().contains("newer version"), "{refusal}");
        }
    }
}
