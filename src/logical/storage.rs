//! The mount's storage, as an engine sees it.

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use super::error::READ_ONLY;

/// A mount's own part of the server's encrypted storage.
///
/// Keys are relative to the mount and have no leading slash. There is no compare-and-swap and no
/// transaction: each call is atomic by itself, and nothing else is.
#[async_trait]
pub trait Storage: Send + Sync {
    /// The entry under `key`, or `None` when there is none.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// Replaces the entry. Once this has returned `Ok` the entry survives the loss of the node;
    /// if it returns an error or never returns, either the old or the new entry is there.
    async fn put(&self, entry: Entry) -> Result<(), StorageError>;

    /// Removes the entry; no error when there is none. What holds for [`put`](Self::put) when the
    /// call fails holds here too.
    async fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// The names directly under `prefix`, which is empty or ends in `/`. A name that ends in `/`
    /// stands for everything below it.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError>;
}

/// One entry to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub key: String,
    /// What; the server encrypts it.
    pub value: Vec<u8>,
}

impl Entry {
    /// `value` as JSON under `key`.
    ///
    /// # Errors
    /// [`StorageError::Malformed`] when the value has no JSON form.
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

    /// Reads what [`json`](Self::json) stored.
    ///
    /// # Errors
    /// [`StorageError::Malformed`] when the bytes are not such a value.
    pub fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StorageError> {
        let malformed = |reason| StorageError::Malformed {
            key: key.to_owned(),
            reason,
        };
        // Once for the whole, or JSON would look at each of its many texts by itself.
        let text = str::from_utf8(value).map_err(|reason| malformed(reason.to_string()))?;
        serde_json::from_str(text).map_err(|reason| {
            // The reason names a field or a position, never the text around it.
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

/// Why storage did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// This node may not write: a standby, or a replica.
    #[error("{READ_ONLY}")]
    ReadOnly,
    /// An entry that cannot be read as what it should be.
    #[error("the stored entry {key:?} cannot be read ({reason})")]
    Malformed {
        /// Which entry.
        key: String,
        /// What is wrong with it, without its text.
        reason: String,
    },
    /// The server refused, or cannot be reached.
    #[error("storage: {0}")]
    Failed(String),
}

impl StorageError {
    /// Reads the host's text: on the wire every storage error is only that.
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
