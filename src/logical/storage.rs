//! The mount's storage, as an engine sees it.

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use super::error::READ_ONLY;

/// A mount's part of the server's encrypted storage.
///
/// Keys are relative to the mount and have no leading slash. There is no compare-and-swap and there are
/// no transactions: only single calls are atomic.
#[async_trait]
pub trait Storage: Send + Sync {
    /// The entry under `key`, or `None` if it does not exist.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// Replaces the entry. After `Ok`, the entry survives the loss of the node. After an error, or if
    /// the call never returns, storage holds either the old or the new entry.
    async fn put(&self, entry: Entry) -> Result<(), StorageError>;

    /// Removes the entry; not an error if it does not exist. A failed call has the same uncertainty as
    /// [`put`](Self::put).
    async fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// The names directly under `prefix`, which is empty or ends in `/`. A name that ends in `/` stands
    /// for everything below it.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError>;
}

/// One entry to store.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its content; the server encrypts it.
    pub value: Vec<u8>,
}

impl Entry {
    /// An entry under `key` with `value` as JSON.
    ///
    /// # Errors
    /// [`StorageError::Malformed`] if the value cannot be converted to JSON.
    pub fn json(key: impl Into<String>, value: &impl Serialize) -> Result<Self, StorageError> {
        let key = key.into();
        match serde_json::to_vec(value) {
            Ok(value) => Ok(Self { key, value }),
            Err(reason) => Err(StorageError::Malformed {
                key,
                reason: reason.to_string(),
            }),
        }
    }

    /// Parses what [`json`](Self::json) stored.
    ///
    /// # Errors
    /// [`StorageError::Malformed`] if the bytes are not such a value.
    pub fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StorageError> {
        let malformed = |reason| StorageError::Malformed {
            key: key.to_owned(),
            reason,
        };
        // Checks the whole text once; otherwise JSON would check each string separately.
        let text = str::from_utf8(value).map_err(|reason| malformed(reason.to_string()))?;
        serde_json::from_str(text).map_err(|reason| {
            // The reason gives the kind of error and a position, never the text around it.
            malformed(format!(
                "{:?} at column {}",
                reason.classify(),
                reason.column()
            ))
        })
    }
}

impl std::fmt::Debug for Entry {
    /// Shows no value: it may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Why a storage call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// This node may not write: a standby, or a replica.
    #[error("{READ_ONLY}")]
    ReadOnly,
    /// A stored entry that cannot be parsed.
    #[error("the stored entry {key:?} cannot be read ({reason})")]
    Malformed {
        /// Its key.
        key: String,
        /// The reason, without the entry's content.
        reason: String,
    },
    /// The server returned an error, or cannot be reached.
    #[error("storage: {0}")]
    Failed(String),
}

impl StorageError {
    /// Converts the host's text: storage errors arrive only as text.
    pub(crate) fn from_text(text: &str) -> Self {
        if text.contains(READ_ONLY) {
            Self::ReadOnly
        } else {
            Self::Failed(text.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_entry_that_makes_no_sense_is_refused_by_its_place_and_never_shown() {
        let table: [(&[u8], &str); 3] = [
            (br#"{"api_key": "sk-or-secret""#, "Eof at column 26"),
            (br#"{"api_key": sk-or-secret}"#, "Syntax at column 13"),
            (b"{\"api_key\": \"sk-or-secret\xff\"}", "from index 25"),
        ];
        for (value, place) in table {
            let refusal = Entry::parse::<Value>("roles/app", value).unwrap_err();
            let text = refusal.to_string();
            assert!(text.contains("\"roles/app\""), "{text}");
            assert!(text.contains(place), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
