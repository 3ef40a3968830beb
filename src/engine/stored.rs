//! How the engine's entries are stored: JSON with a version, so that an older engine rejects what a newer one
//! wrote instead of losing part of it.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};

use crate::logical::{Entry, Storage, StorageError};

/// A kind of entry.
pub trait Stored: DeserializeOwned {
    /// The format that this build writes. Raised when an older build would lose a field.
    const VERSION: u32;

    /// Fills in what an older format did not contain.
    fn upgrade(&mut self, _from: u32) {}
}

/// Reads the entry under `key`: one storage call.
///
/// # Errors
/// Errors from storage, and [`StorageError::Malformed`] if the entry is not a `T`, or was written by a newer
/// version.
pub async fn load<T: Stored>(storage: &dyn Storage, key: &str) -> Result<Option<T>, StorageError> {
    let value = storage.get(key).await?;
    value.map(|value| parse(key, &value)).transpose()
}

/// Parses an entry that was already read.
///
/// # Errors
/// [`StorageError::Malformed`], as for [`load`].
pub fn parse<T: Stored>(key: &str, value: &[u8]) -> Result<T, StorageError> {
    let newer = |version| StorageError::Malformed {
        key: key.to_owned(),
        reason: format!("it was written by a newer version of this engine, in format {version}"),
    };
    match Entry::parse::<Versioned<T>>(key, value) {
        Ok(mut stored) if stored.version <= T::VERSION => {
            if stored.version < T::VERSION {
                stored.entry.upgrade(stored.version);
            }
            Ok(stored.entry)
        }
        Ok(stored) => Err(newer(stored.version)),
        // If a newer format cannot be parsed at all, its version explains more than the parse error.
        Err(reason) => match Entry::parse::<Envelope>(key, value) {
            Ok(envelope) if envelope.version > T::VERSION => Err(newer(envelope.version)),
            _ => Err(reason),
        },
    }
}

/// Whether there is an entry under `key`, valid or not: one storage call. For the server's existence check
/// before a write, which reports any error only as "internal error"; the write itself reports what is wrong.
///
/// # Errors
/// Errors from storage.
pub async fn exists(storage: &dyn Storage, key: &str) -> Result<bool, StorageError> {
    Ok(storage.get(key).await?.is_some())
}

/// Writes the entry of a kind `T` under `key`: one storage call, atomic.
///
/// # Errors
/// Errors from storage. Unless it is [`StorageError::ReadOnly`], the entry may have been written.
pub async fn store<T: Stored>(
    storage: &dyn Storage,
    key: &str,
    entry: &impl Serialize,
) -> Result<(), StorageError> {
    let versioned = Versioned {
        version: T::VERSION,
        entry,
    };
    storage.put(Entry::json(key, &versioned)?).await
}

/// For `#[serde(serialize_with)]`: a secret is stored in plain text, since the server encrypts its storage.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logical::MemoryStorage;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
        #[serde(default)]
        size: u32,
    }

    impl Stored for Thing {
        const VERSION: u32 = 2;

        fn upgrade(&mut self, from: u32) {
            self.size = 10 + from;
        }
    }

    fn entry(version: u32, entry: &str) -> Entry {
        Entry {
            key: "things/a".to_owned(),
            value: format!(r#"{{"version": {version}, "entry": {entry}}}"#).into_bytes(),
        }
    }

    #[tokio::test]
    async fn an_entry_comes_back_as_it_was_stored() {
        let storage = MemoryStorage::default();
        let thing = Thing {
            name: "a".to_owned(),
            size: 3,
        };
        let stored = store::<Thing>(&storage, "things/a", &thing);
        stored.await.unwrap();
        assert_eq!(load(&storage, "things/a").await.unwrap(), Some(thing));
        assert_eq!(load::<Thing>(&storage, "things/b").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_a_newer_version_wrote_is_refused() {
        let storage = MemoryStorage::default();
        for newer in [r#"{"name": "a"}"#, r#"{"title": "a"}"#] {
            storage.put(entry(3, newer)).await.unwrap();
            let refusal = load::<Thing>(&storage, "things/a").await.unwrap_err();
            assert!(refusal.to_string().contains("newer version"), "{refusal}");
        }
    }

    #[tokio::test]
    async fn what_an_older_version_wrote_is_completed() {
        let storage = MemoryStorage::default();
        storage.put(entry(1, r#"{"name": "a"}"#)).await.unwrap();
        let thing = load::<Thing>(&storage, "things/a").await.unwrap();
        assert_eq!(thing.map(|thing| thing.size), Some(11));
    }
}
