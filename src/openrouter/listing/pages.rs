//! Which pages make a listing complete, although keys are created and deleted while it is read.
//!
//! OpenRouter pages by offset. A deleted key moves all later ones forward, and one of them can slip
//! from an unread page to one that was already read. Therefore each request starts at the last key of
//! the previous page. A page that contains a key of an earlier page has no gap before it. A page
//! without one proves nothing, not even that the list is over, and is requested again, further back. A
//! page at the start of the list needs no proof.
//!
//! Guarantee: a key that exists from the first request to the last is visited exactly once, or the
//! listing fails. This holds however many keys are created and deleted meanwhile, and even if some
//! pages come from a stale replica, as long as each page is a contiguous part of the list at one time,
//! and keys keep their relative order. OpenRouter does not document its order; it lists the newest
//! first. Under an order that can change, such as by last use, a key that moves can be missed, and no
//! request reveals that.
//!
//! With up to 15 deletions and 50 creations between two requests, only a few pages in a row are lost
//! before one has a new key. Such a rate of change fails no listing, unless the listing is so long that
//! the pages do not suffice (see [`MAX_PAGES`]).

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::ListedKey;
use crate::openrouter::KeyHash;
use crate::openrouter::error::Error;

/// The state of a listing: what was visited, and where the next page starts.
pub(super) struct Pages {
    /// All keys that were visited.
    visited: BTreeSet<Identity>,
    /// The last page that had no gap before it.
    last: Page,
    /// Where that page ended in the list.
    end: usize,
    /// How far before that end the next page starts, counting from the last key.
    overlap: usize,
    /// How many pages were received.
    received: usize,
    /// How many pages had a gap before them since the last new key.
    lost: usize,
}

#[derive(Default)]
struct Page {
    offset: usize,
    keys: BTreeSet<Identity>,
}

/// The SHA-256 of a key's hash. It takes a third of the memory: a listing may have 100,000 keys.
type Identity = [u8; 32];

#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    MoreToCome,
    Ended,
}

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            visited: BTreeSet::new(),
            last: Page::default(),
            end: 0,
            overlap: 1,
            received: 0,
            lost: 0,
        }
    }

    /// The same, but starts after a key that was at this position.
    pub(super) fn after(hash: &KeyHash, position: usize) -> Self {
        Self {
            visited: BTreeSet::from([identity_of(hash)]),
            end: position.saturating_add(1),
            ..Self::new()
        }
    }

    /// Where the next page starts.
    pub(super) fn offset(&self) -> usize {
        self.end.saturating_sub(self.overlap)
    }

    /// Processes the page that starts at [`offset`](Self::offset), and visits its new keys. A key
    /// without a readable hash proves no overlap, because it may have a duplicate; it is visited on
    /// every page.
    ///
    /// # Errors
    /// Those of any visit, and [`Error::Unclear`] if an entry of the page is not a key, or the listing
    /// cannot be shown to be complete.
    pub(super) fn take(
        &mut self,
        page: Vec<ListedKey>,
        visit: &mut impl FnMut(ListedKey) -> Result<(), Error>,
    ) -> Result<Progress, Error> {
        self.received += 1;
        let offset = self.offset();
        let keys: BTreeSet<_> = page.iter().filter_map(identity).collect();
        if offset > 0 && keys.is_disjoint(&self.visited) {
            self.step_back()?;
        } else {
            let length = page.len();
            self.visit_new(page, visit)?;
            if length < FULL_PAGE {
                return Ok(Progress::Ended);
            }
            if offset > self.last.offset && keys.is_subset(&self.last.keys) {
                return Err(Error::unclear(
                    "a page of the key listing only repeats the one before",
                ));
            }
            self.last = Page { offset, keys };
            self.end = offset + length;
            self.overlap = 1;
        }
        if self.received == MAX_PAGES {
            let reason = format!("the key listing has not ended after {MAX_PAGES} pages");
            return Err(Error::unclear(reason));
        }
        Ok(Progress::MoreToCome)
    }

    /// Fast enough to get past thousands of deletions, back to the start of the list if necessary. Slow
    /// enough that a few deletions do not cost a whole page.
    fn step_back(&mut self) -> Result<(), Error> {
        self.lost += 1;
        if self.lost > MAX_LOST {
            return Err(Error::unclear(
                "the pages of the key listing repeatedly have gaps between them",
            ));
        }
        self.overlap = self.overlap.saturating_mul(4);
        Ok(())
    }

    fn visit_new(
        &mut self,
        page: Vec<ListedKey>,
        visit: &mut impl FnMut(ListedKey) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for key in page {
            match identity(&key) {
                Some(known) if self.visited.contains(&known) => continue,
                Some(new) => {
                    self.visited.insert(new);
                    self.lost = 0;
                }
                None => {}
            }
            visit(key)?;
        }
        Ok(())
    }
}

fn identity(key: &ListedKey) -> Option<Identity> {
    key.hash.as_ref().map(identity_of)
}

fn identity_of(hash: &KeyHash) -> Identity {
    Sha256::digest(hash.as_str()).into()
}

/// OpenRouter's page size, which is fixed.
pub(super) const FULL_PAGE: usize = 100;

/// Enough for 198,000 keys, or half of that if every second page is lost.
pub(super) const MAX_PAGES: usize = 2_000;

/// From anywhere in the list, half of these lead to its start.
pub(super) const MAX_LOST: usize = 20;

#[cfg(test)]
mod tests;
