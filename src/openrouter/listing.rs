//! Going through all keys of a workspace, over all pages of a listing.
//!
//! The engine comes here after a create whose outcome is unclear, and when it begins its work. To
//! overlook a key would leave it spendable for ever, so whatever casts doubt on completeness is an
//! error, not an end.

use std::collections::HashSet;

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, NO_BODY};
use super::error::Error;
use super::identifiers::{KeyHash, WorkspaceId};
use super::keys::Key;
use super::lenient::null_as_default;

/// A key in a listing, read no further than to tell it from others: most are somebody else's, and must
/// not hide ours by something odd about them.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedKey {
    /// The name that people see.
    pub name: String,
    /// What identifies it; `None` if that is missing or unreadable.
    pub hash: Option<KeyHash>,
    whole: Value,
}

impl Client {
    /// All keys of a workspace (`None`: the default one) whose name's last word is one of `nonces`,
    /// such as `vault-5k2j9x`; disabled and expired ones included. However many are looked for, each
    /// page is asked for once.
    ///
    /// # Errors
    /// Those of [`each_key`](Self::each_key), and [`Error::Unclear`] if a key that is looked for cannot
    /// be read.
    pub async fn find_by_nonces(
        &self,
        nonces: &HashSet<String>,
        workspace: Option<&WorkspaceId>,
    ) -> Result<Vec<Key>, Error> {
        let mut found = Found::default();
        let visit = |key| found.look_at(key, nonces);
        self.each_key(workspace, visit).await?;
        Ok(found.keys)
    }

    /// Visits every key of a workspace (`None`: the default one), disabled and expired ones included
    /// (`GET /keys`): one request for each hundred, of which one answer is in memory at a time. A key
    /// may be visited twice where another is created meanwhile; one that is created or deleted
    /// meanwhile may be visited or not.
    ///
    /// # Errors
    /// Those of any page and any visit, and [`Error::Unclear`] if the pages do not come to an end.
    pub async fn each_key(
        &self,
        workspace: Option<&WorkspaceId>,
        mut visit: impl FnMut(ListedKey) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut listing = Listing::default();
        loop {
            let page = self.page(listing.received, workspace).await?;
            if let Progress::Ended = listing.take(page, &mut visit)? {
                return Ok(());
            }
        }
    }

    async fn page(
        &self,
        offset: usize,
        workspace: Option<&WorkspaceId>,
    ) -> Result<Vec<Value>, Error> {
        let mut path = format!("/keys?include_disabled=true&include_expired=true&offset={offset}");
        if let Some(workspace) = workspace {
            path.push_str("&workspace_id=");
            path.push_str(workspace.as_str());
        }
        let credential = self.transport.management_key();
        let answer = self
            .transport
            .send(Method::GET, &path, credential, NO_BODY)
            .await?;
        answer.keys()
    }
}

impl ListedKey {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`Error::Unclear`] if it is not a key at all.
    pub(super) fn of(whole: Value) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Beginning {
            #[serde(default, deserialize_with = "null_as_default")]
            name: String,
            #[serde(default)]
            hash: Value,
        }
        let Ok(Beginning { name, hash }) = Beginning::deserialize(&whole) else {
            return Err(Error::unclear("the key listing has something without name"));
        };
        Ok(Self {
            name,
            hash: serde_json::from_value(hash).ok(),
            whole,
        })
    }

    /// The whole key.
    ///
    /// # Errors
    /// [`Error::Unclear`] if it cannot be read.
    pub fn read(self) -> Result<Key, Error> {
        let mut key: Key = serde_json::from_value(self.whole)
            .map_err(|_| Error::unclear("a key that is looked for is not readable"))?;
        // Labels are stored and shown; nobody here knows the secret, but what its hash is.
        if KeyHash::of(&key.label.as_str().into()) == key.hash {
            key.label.clear();
        }
        Ok(key)
    }
}

/// What the pages so far have brought.
#[derive(Default)]
struct Listing {
    /// The hashes of the page before.
    last_page: HashSet<KeyHash>,
    pages: usize,
    /// How many keys the pages held, repeated ones included: where the next page starts.
    received: usize,
}

#[derive(Debug, PartialEq)]
enum Progress {
    MoreToCome,
    Ended,
}

impl Listing {
    fn take(
        &mut self,
        page: Vec<Value>,
        visit: &mut impl FnMut(ListedKey) -> Result<(), Error>,
    ) -> Result<Progress, Error> {
        let length = page.len();
        let mut hashes = HashSet::new();
        for key in page {
            let key = ListedKey::of(key)?;
            hashes.extend(key.hash.clone());
            visit(key)?;
        }
        let repeated = hashes.is_subset(&self.last_page);
        self.last_page = hashes;
        self.pages += 1;
        self.received += length;
        if length < FULL_PAGE {
            Ok(Progress::Ended)
        } else if repeated {
            Err(Error::unclear(
                "a page of the key listing only repeats the one before",
            ))
        } else if self.pages == MAX_PAGES {
            let reason = format!("the key listing has not ended after {MAX_PAGES} pages");
            Err(Error::unclear(reason))
        } else {
            Ok(Progress::MoreToCome)
        }
    }
}

/// The keys that were looked for.
#[derive(Default)]
struct Found {
    keys: Vec<Key>,
    hashes: HashSet<KeyHash>,
}

impl Found {
    fn look_at(&mut self, key: ListedKey, nonces: &HashSet<String>) -> Result<(), Error> {
        if ends_with_one_of(&key.name, nonces) {
            let key = key.read()?;
            // A key created meanwhile shifts the others to the next page, where they reappear.
            if self.hashes.insert(key.hash.clone()) {
                self.keys.push(key);
            }
        }
        Ok(())
    }
}

/// What is found will be deleted, so neither an empty nonce nor the end of a longer word counts.
fn ends_with_one_of(name: &str, words: &HashSet<String>) -> bool {
    let last = name.rsplit(' ').next().unwrap_or_default();
    !last.is_empty() && words.contains(last)
}

/// OpenRouter's page size; it cannot be chosen.
const FULL_PAGE: usize = 100;

const MAX_PAGES: usize = 2_000;

#[cfg(test)]
mod tests;
