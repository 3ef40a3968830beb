//! Visits all keys of a workspace, over all pages of a listing.
//!
//! The engine uses this after a create with an unclear outcome, and when it starts. A missed key would
//! stay spendable forever, so any doubt about completeness is an error, not the end of the listing: see
//! `pages`.

mod pages;

use std::collections::HashSet;

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, NO_BODY, key_path};
use super::error::Error;
use super::identifiers::{KeyHash, WorkspaceId};
use super::keys::Key;
use super::lenient::null_as_default;
use super::quote::redact_keys;
use super::report::Report;
use pages::{Pages, Progress};

/// A key in a listing, parsed only as far as needed to recognise it. Most belong to others, and an
/// oddity in one must not hide ours.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedKey {
    /// The displayed name.
    pub name: String,
    /// Its identifier; `None` if that is missing or unreadable.
    pub hash: Option<KeyHash>,
    /// Where it was in the list of its workspace when it was read.
    pub position: usize,
    whole: Value,
}

/// A walk through the keys of a workspace, which can be interrupted and continued later.
pub struct Walk {
    workspace: Option<WorkspaceId>,
    pages: Pages,
}

impl Walk {
    /// Starts at the beginning; `None` is the default workspace.
    pub fn through(workspace: Option<WorkspaceId>) -> Self {
        let pages = Pages::new();
        Self { workspace, pages }
    }

    /// Starts after a key that was at this position. If it is no longer there, keys before it are visited
    /// again, so that none is missed.
    pub fn after(workspace: Option<WorkspaceId>, hash: &KeyHash, position: usize) -> Self {
        let pages = Pages::after(hash, position);
        Self { workspace, pages }
    }
}

impl Client {
    /// All keys of a workspace (`None`: the default one) whose name ends in one of `nonces` as a whole
    /// word, such as `vault-5k2j9x`. Includes disabled and expired keys. One listing finds any number
    /// of keys.
    ///
    /// # Errors
    /// Those of [`each_key`](Self::each_key), and [`Error::Unclear`] if a matching key cannot be
    /// parsed.
    pub async fn find_by_nonces(
        &self,
        nonces: &HashSet<String>,
        workspace: Option<&WorkspaceId>,
    ) -> Result<Vec<Key>, Error> {
        let mut found = Vec::new();
        let visit = |key| {
            found.extend(matching(key, nonces)?);
            Ok(())
        };
        self.each_key(workspace, visit).await?;
        Ok(found)
    }

    /// Visits every key of a workspace (`None`: the default one) once, including disabled and expired
    /// ones (`GET /keys`). Makes one request per 99 keys, and a few more if keys are deleted during the
    /// listing. Only one answer is in memory at a time. A key that is created or deleted during the
    /// listing is visited once or not at all; a key without a readable hash may be visited again.
    ///
    /// # Errors
    /// Those of any page and any visit, and [`Error::Unclear`] if the listing cannot be shown to be
    /// complete, because gaps between its pages do not close, or it does not end.
    pub async fn each_key(
        &self,
        workspace: Option<&WorkspaceId>,
        mut visit: impl FnMut(ListedKey) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut walk = Walk::through(workspace.cloned());
        while self.next_page(&mut walk, &mut visit).await? {}
        Ok(())
    }

    /// Makes one request of a walk and visits its keys. Returns whether there are more.
    ///
    /// # Errors
    /// Those of [`each_key`](Self::each_key). The walk can be continued.
    pub async fn next_page(
        &self,
        walk: &mut Walk,
        visit: &mut impl FnMut(ListedKey) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let page = self.page(walk.pages.offset(), walk.workspace.as_ref());
        let progress = walk.pages.take(page.await?, visit)?;
        Ok(progress == Progress::MoreToCome)
    }

    /// What OpenRouter reports about a key (`GET /keys/{hash}`), for people: parsed leniently.
    ///
    /// # Errors
    /// [`Error::NotFound`] if this management key does not see such a key.
    pub async fn look_up(&self, hash: &KeyHash) -> Result<ListedKey, Error> {
        let credential = self.transport.management_key();
        let path = key_path(hash);
        let sent = self.transport.send(Method::GET, &path, credential, NO_BODY);
        let key = ListedKey::of(sent.await?.whole_key()?)?;
        if key.hash.as_ref() != Some(hash) {
            return Err(Error::unclear("the answer is about another key"));
        }
        Ok(key)
    }

    async fn page(
        &self,
        offset: usize,
        workspace: Option<&WorkspaceId>,
    ) -> Result<Vec<ListedKey>, Error> {
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
        let keys = answer.keys()?.into_iter().enumerate();
        keys.map(|(index, whole)| {
            let position = offset + index;
            ListedKey::of(whole).map(|key| ListedKey { position, ..key })
        })
        .collect()
    }
}

impl ListedKey {
    /// Parses the name and the hash.
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
            return Err(Error::unclear(
                "the key listing has an entry that is not a key",
            ));
        };
        Ok(Self {
            name,
            hash: serde_json::from_value(hash).ok(),
            position: 0,
            whole,
        })
    }

    /// What OpenRouter reports about it, for people.
    pub fn report(&self) -> Report {
        Report::of(&self.whole, self.hash.as_ref())
    }

    /// Its name without anything that looks like an API key.
    pub fn shown_name(&self) -> String {
        redact_keys(&self.name)
    }

    /// Its workspace; `None` if that is missing or not a UUID.
    pub fn workspace_id(&self) -> Option<WorkspaceId> {
        let id = self.whole.get("workspace_id")?.as_str()?;
        WorkspaceId::parse(id).ok()
    }

    /// The whole key.
    ///
    /// # Errors
    /// [`Error::Unclear`] if it cannot be read.
    pub fn read(self) -> Result<Key, Error> {
        let mut key: Key = serde_json::from_value(self.whole)
            .map_err(|_| Error::unclear("a matching key in the key listing cannot be read"))?;
        // Labels are stored and shown. The secret is not known here, but its hash is.
        if KeyHash::of(&key.label.as_str().into()) == key.hash {
            key.label.clear();
        }
        Ok(key)
    }
}

/// The key, if it matches.
fn matching(key: ListedKey, nonces: &HashSet<String>) -> Result<Option<Key>, Error> {
    let is_match = ends_with_one_of(&key.name, nonces);
    is_match.then(|| key.read()).transpose()
}

/// Matching keys will be deleted, so neither an empty nonce nor the end of a longer word matches.
fn ends_with_one_of(name: &str, words: &HashSet<String>) -> bool {
    let last = name.rsplit(' ').next().unwrap_or_default();
    !last.is_empty() && words.contains(last)
}

#[cfg(test)]
mod tests;
