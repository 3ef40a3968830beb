//! All keys that a connection's management key can see, in every workspace, with their owners.
//!
//! # Expected flow
//! 1. The known keys are read from storage. Then keys are listed page by page, each in a turn of its own,
//!    until there are no more, there are enough, or the time is up.
//! 2. The known keys are read once more. A key that entered or left service in the meantime is in one of the
//!    two, and is therefore never shown as a key without an owner. Only then is it decided which keys were
//!    asked for: their owners or states may have changed.
//!
//! An incomplete result says why it is incomplete, and where to continue.

use std::time::Duration;

use jiff::Timestamp;

use super::cursor::Cursor;
use crate::engine::clock::after;
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Holdings, Known, State};
use crate::engine::names::ConnectionName;
use crate::openrouter::{ListedKey, WorkspaceId};

/// A selection of keys.
#[derive(Debug)]
pub struct Selection {
    /// Only keys with this owner, by its value.
    pub owner: Option<String>,
    /// Only keys in this state, by its value.
    pub state: Option<String>,
    /// Only keys of this workspace.
    pub workspace: Option<WorkspaceId>,
    /// At most this many keys.
    pub most: usize,
    /// Only keys after this position.
    pub after: Option<Cursor>,
}

/// The result of a listing.
#[derive(Debug)]
pub struct Inventory {
    /// The keys, newest first in each workspace.
    pub keys: Vec<Known>,
    /// How many keys have an unreadable hash. Nothing can be done about those here.
    pub unreadable: usize,
    /// Where to continue; `None` if these are all keys.
    pub next: Option<Cursor>,
    /// OpenRouter's failure that ended the listing early.
    pub failure: Option<Error>,
}

impl Selection {
    fn wants(&self, key: &Known) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == value)
        };
        is(&self.owner, key.owner.name()) && is(&self.state, key.state.name())
    }
}

/// Lists the keys.
///
/// # Errors
/// [`Error::Missing`] if there is no such connection; errors from OpenRouter, if nothing could be listed at
/// all; errors from storage.
pub async fn inventory(
    engine: &Engine,
    connection: &ConnectionName,
    selection: &Selection,
) -> Result<Inventory, Error> {
    let deadline = after(engine.now(), LONGEST.as_secs());
    let link = engine.links.open(&*engine.storage, connection).await?;
    let mut listing = Listing {
        engine,
        link: &link,
        connection,
        selection,
        deadline,
        has_begun: false,
        holdings: Holdings::of(engine).await?,
        listed: Vec::new(),
        wanted: 0,
        inventory: Inventory {
            keys: Vec::new(),
            unreadable: 0,
            next: None,
            failure: None,
        },
    };
    listing.run().await?;
    let (mut inventory, listed) = (listing.inventory, listing.listed);
    let now = engine.now();
    let later = Holdings::of(engine).await?;
    let mut last = None;
    for Listed { mut key, at } in listed {
        let owner = later.owner_by_mark(Some(&key.hash), key.nonce.as_ref());
        if !owner.is_unclaimed() || key.owner.is_unclaimed() {
            key.state = State::of(&owner, &key.report, now);
            key.owner = owner;
        }
        if !selection.wants(&key) {
            continue;
        }
        if inventory.keys.len() == selection.most {
            // More keys than there seemed to be during the listing: the rest is the next part.
            inventory.next = last;
            inventory.failure = None;
            break;
        }
        last = Some(at);
        inventory.keys.push(key);
    }
    Ok(inventory)
}

struct Listing<'a> {
    engine: &'a Engine,
    link: &'a Link,
    connection: &'a ConnectionName,
    selection: &'a Selection,
    deadline: Timestamp,
    /// Whether a page was read.
    has_begun: bool,
    holdings: Holdings,
    /// Every listed key, whether or not it seems to be wanted.
    listed: Vec<Listed>,
    /// How many of them seem to be.
    wanted: usize,
    inventory: Inventory,
}

/// A listed key, and its position.
struct Listed {
    key: Known,
    at: Cursor,
}

/// How far a workspace has been listed.
enum End {
    /// To its last key.
    Complete,
    /// Up to here, because there are enough or the time is up.
    Here(Cursor),
}

impl Listing<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        for beginning in self.workspaces().await? {
            let (reached, end) = self.list(beginning).await;
            match end {
                Ok(End::Complete) => {}
                Ok(End::Here(cursor)) => {
                    self.inventory.next = Some(cursor);
                    break;
                }
                Err(reason) if self.listed.is_empty() => return Err(reason),
                Err(reason) => {
                    self.inventory.next = Some(reached);
                    self.inventory.failure = Some(reason);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Where the listing of each workspace begins.
    async fn workspaces(&self) -> Result<Vec<Cursor>, Error> {
        let resumed = self.selection.after.clone();
        if let Some(id) = &self.selection.workspace {
            let beginning = Cursor::beginning_of(Some(id.clone()));
            return match resumed {
                None => Ok(vec![beginning]),
                Some(cursor) if cursor.workspace == beginning.workspace => Ok(vec![cursor]),
                Some(_) => Err(Error::invalid(
                    "after is of another workspace than workspace_id",
                )),
            };
        }
        let ids = tokio::select! {
            ids = async { self.link.client(Urgency::Ordinary).await.workspace_ids().await } => ids,
            () = self.engine.clock.sleep_until(self.deadline) => return Err(too_slow(LISTING)),
        };
        let ids = ids.map_err(while_listing)?;
        let mut all: Vec<_> = ids.into_iter().map(Some).collect();
        if all.is_empty() {
            all.push(None);
        }
        // Workspaces are sorted, so the earlier ones have been listed.
        all.retain(|id| resumed.as_ref().is_none_or(|at| *id > at.workspace));
        let beginnings = all.into_iter().map(Cursor::beginning_of);
        Ok(resumed.into_iter().chain(beginnings).collect())
    }

    /// Lists one workspace. The position that was reached is valid even after a failure.
    async fn list(&mut self, beginning: Cursor) -> (Cursor, Result<End, Error>) {
        let mut walk = beginning.walk();
        let mut reached = beginning;
        let (engine, link, deadline) = (self.engine, self.link, self.deadline);
        loop {
            if self.is_full() || (engine.now() >= deadline && self.has_begun) {
                return (reached.clone(), Ok(End::Here(reached)));
            }
            let mut more_in_page = false;
            let mut visit = |key: ListedKey| {
                if self.is_full() {
                    more_in_page = true;
                } else {
                    if let Some(hash) = &key.hash {
                        reached.last = Some((key.position, hash.clone()));
                    }
                    self.take(&key, &reached);
                }
                Ok(())
            };
            let stepping = async {
                let turn = link.client(Urgency::Ordinary).await;
                turn.next_page(&mut walk, &mut visit).await
            };
            let stepped = tokio::select! {
                stepped = stepping => Some(stepped.map_err(while_listing)),
                () = engine.clock.sleep_until(deadline) => None,
            };
            match stepped {
                Some(Ok(false)) if !more_in_page => {
                    self.has_begun = true;
                    return (reached, Ok(End::Complete));
                }
                Some(Ok(_)) => self.has_begun = true,
                Some(Err(reason)) => return (reached, Err(reason)),
                None if self.has_begun => return (reached.clone(), Ok(End::Here(reached))),
                None => return (reached, Err(too_slow(LISTING))),
            }
        }
    }

    fn is_full(&self) -> bool {
        self.wanted >= self.selection.most
    }

    fn take(&mut self, key: &ListedKey, at: &Cursor) {
        let now = self.engine.now();
        match Known::of(self.connection, key, &self.holdings, now) {
            Some(key) => {
                self.wanted += usize::from(self.selection.wants(&key));
                let at = at.clone();
                self.listed.push(Listed { key, at });
            }
            None => self.inventory.unreadable += 1,
        }
    }
}

fn while_listing(reason: crate::openrouter::Error) -> Error {
    Error::while_doing(LISTING)(reason)
}

/// The error if OpenRouter has not answered in time.
pub(super) fn too_slow(doing: &str) -> Error {
    Error::OpenRouter {
        doing: doing.to_owned(),
        reason: crate::openrouter::Error::Unclear {
            reason: format!("it took longer than {} seconds", LONGEST.as_secs()),
            retry_after: None,
        },
    }
}

const LISTING: &str = "keys cannot be listed";

/// How long a listing or a lookup may take: a request to the server ends after 90 seconds, and clients give up
/// after 60.
pub(super) const LONGEST: Duration = Duration::from_secs(45);
