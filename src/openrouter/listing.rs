//! Going through all keys of a workspace, over all pages of a listing.
//!
//! The engine comes here after a create whose outcome is unclear, and when it begins its work. To
//! overlook a key would leave it spendable for ever, so whatever casts doubt on completeness is an
//! error, not an end.

use std::collections::HashSet;

use reqwest::Method;

use super::client::{Client, Enveloped, NO_BODY};
use super::error::Error;
use super::identifiers::{KeyHash, WorkspaceId};
use super::keys::Key;

impl Client {
    /// All keys of a workspace (`None`: the default one) whose name's last word is one of `nonces`,
    /// such as `vault-5k2j9x`; disabled and expired ones included (`GET /keys`). However many are
    /// looked for, each page is asked for once.
    ///
    /// # Errors
    /// Those of any page, and [`Error::Unclear`] if the pages do not come to an end.
    pub async fn find_by_nonces(
        &self,
        nonces: &HashSet<String>,
        workspace: Option<&WorkspaceId>,
    ) -> Result<Vec<Key>, Error> {
        let mut found = Vec::new();
        let collect = |key: Key| {
            if ends_with_one_of(&key.name, nonces) {
                found.push(key);
            }
        };
        self.each_key(workspace, collect).await?;
        Ok(found)
    }

    /// Visits every key of a workspace (`None`: the default one) once, disabled and expired ones
    /// included (`GET /keys`): one request for each hundred. A key that is created or deleted
    /// meanwhile may be visited or not.
    ///
    /// # Errors
    /// Those of any page, and [`Error::Unclear`] if the pages do not come to an end.
    pub async fn each_key(
        &self,
        workspace: Option<&WorkspaceId>,
        mut visit: impl FnMut(Key),
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
    ) -> Result<Vec<Key>, Error> {
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
        Ok(answer.read::<Enveloped<Vec<Key>>>()?.data)
    }
}

/// What the pages so far have brought.
#[derive(Default)]
struct Listing {
    seen: HashSet<KeyHash>,
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
    fn take(&mut self, page: Vec<Key>, visit: &mut impl FnMut(Key)) -> Result<Progress, Error> {
        let (length, known) = (page.len(), self.seen.len());
        for key in page {
            // A key created meanwhile shifts the others to the next page, where they reappear.
            if self.seen.insert(key.hash.clone()) {
                visit(key);
            }
        }
        self.pages += 1;
        self.received += length;
        if length < FULL_PAGE {
            Ok(Progress::Ended)
        } else if self.seen.len() == known {
            Err(Error::unclear(
                "a page of the key listing only repeats earlier ones",
            ))
        } else if self.pages == MAX_PAGES {
            let reason = format!("the key listing has not ended after {MAX_PAGES} pages");
            Err(Error::unclear(reason))
        } else {
            Ok(Progress::MoreToCome)
        }
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
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(numbers: impl IntoIterator<Item = usize>) -> Vec<Key> {
        let key = |number| {
            let name = format!("app vault-{number}");
            serde_json::from_value(json!({"hash": format!("{number:064x}"), "name": name})).unwrap()
        };
        numbers.into_iter().map(key).collect()
    }

    /// A listing and the names of the keys that were visited.
    #[derive(Default)]
    struct Visited {
        listing: Listing,
        names: Vec<String>,
    }

    impl Visited {
        fn take(&mut self, page: Vec<Key>) -> Result<Progress, Error> {
            let names = &mut self.names;
            self.listing.take(page, &mut |key| names.push(key.name))
        }
    }

    #[test]
    fn a_page_that_is_not_full_is_the_last() {
        let mut visited = Visited::default();
        assert_eq!(visited.take(keys(0..99)), Ok(Progress::Ended));
        assert_eq!(visited.names.len(), 99);
        assert_eq!(visited.names.last().unwrap(), "app vault-98");
    }

    #[test]
    fn a_full_page_is_followed_by_another_even_if_that_is_empty() {
        let mut visited = Visited::default();
        assert_eq!(visited.take(keys(0..100)), Ok(Progress::MoreToCome));
        assert_eq!(visited.take(keys([])), Ok(Progress::Ended));
        assert_eq!(visited.names.last().unwrap(), "app vault-99");
    }

    #[test]
    fn a_key_that_appears_on_two_pages_is_visited_once_and_counted_twice() {
        let mut visited = Visited::default();
        assert_eq!(visited.take(keys(0..100)), Ok(Progress::MoreToCome));
        assert_eq!(visited.take(keys(99..199)), Ok(Progress::MoreToCome));
        assert_eq!((visited.names.len(), visited.listing.received), (199, 200));
    }

    #[test]
    fn a_full_page_without_anything_new_is_an_error() {
        let mut visited = Visited::default();
        assert_eq!(visited.take(keys(0..100)), Ok(Progress::MoreToCome));
        let error = visited.take(keys((0..100).rev())).unwrap_err();
        assert!(
            error.to_string().ends_with("only repeats earlier ones"),
            "{error}"
        );
    }

    #[test]
    fn a_listing_without_end_is_an_error() {
        let mut visited = Visited::default();
        for page in 1..MAX_PAGES {
            let progress = visited.take(keys(page * 100..page * 100 + 100));
            assert_eq!(progress, Ok(Progress::MoreToCome));
        }
        let error = visited.take(keys(0..100)).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("has not ended after 2000 pages"),
            "{error}"
        );
    }

    #[test]
    fn only_the_whole_last_word_of_a_name_counts() {
        let words = |words: &[&str]| -> HashSet<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        let nonces = words(&["vault-abc", "vault-xyz"]);
        assert!(ends_with_one_of("app 2026-11-20 vault-abc", &nonces));
        assert!(ends_with_one_of("vault-xyz", &nonces));
        for name in [
            "",
            "app vault-abc ",
            "app vault-abc x",
            "app my-vault-abc",
            "vault-abcd",
        ] {
            assert!(!ends_with_one_of(name, &nonces), "{name}");
        }
        let empty = words(&[""]);
        assert!(!ends_with_one_of("", &empty) && !ends_with_one_of("app ", &empty));
    }
}
