//! Removes stray keys: keys with this mount's mark that belong to nobody. They are listed first. Then those
//! that were listed are deleted one by one, each after the proof that it is still a stray.
//!
//! A key with the mark of a rotating role is not removed here. Reconciliation adds it to the role as a
//! superseded key, since it may be in use. If the owner of a key cannot be determined, nothing is listed.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::tally::{Ongoing, Tally, is_temporary};
use super::work::Job;
use crate::engine::books::{Copies, Work, in_words};
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Holdings, Owner, Warrant, prove_unclaimed, retire};
use crate::engine::names::{ConnectionName, Nonce, RoleName};
use crate::engine::role::Role;
use crate::engine::survey::is_foreign;
use crate::logical::StorageError;
use crate::openrouter::{self, KeyHash, ListedKey};

/// Lists the keys that would be removed.
pub(super) struct DryRun<'a> {
    run: Ongoing<'a>,
    connection: &'a ConnectionName,
    keys: BTreeMap<KeyHash, String>,
    more: usize,
    tally: Tally,
}

/// A stray key, with the role in its mark, if that role exists.
struct Stray {
    hash: KeyHash,
    name: String,
    created_at: Option<Timestamp>,
    marked_for: Option<RoleName>,
}

impl<'a> DryRun<'a> {
    pub(super) fn new(run: Ongoing<'a>, connection: &'a ConnectionName) -> Self {
        Self {
            run,
            connection,
            keys: BTreeMap::new(),
            more: 0,
            tally: Tally::default(),
        }
    }

    async fn list(&self) -> Result<Vec<Stray>, Error> {
        let engine = self.run.engine;
        // Keys that this copy of the storage does not know may be in use by the other copy.
        if let Some(copies) = engine.board.copies() {
            return Err(Error::Invalid(in_words(&copies)));
        }
        let holdings = Holdings::of(engine).await?;
        require_readable(&holdings)?;
        let link = engine.links.open(&*engine.storage, self.connection).await?;
        let mut strays = Vec::new();
        let mut visit = |key: ListedKey| {
            if holdings.owner(key.hash.as_ref(), &key.name) != Owner::Stray {
                return;
            }
            let report = key.report();
            let marked_for = holdings.marked_for(&key.name).cloned();
            strays.extend(key.hash.map(|hash| Stray {
                hash,
                name: report.name,
                created_at: report.created_at,
                marked_for,
            }));
        };
        each_key(&link, &mut visit).await?;
        // Keys that were ordered or entered service in the meantime are known now.
        let later = Holdings::of(engine).await?;
        require_readable(&later)?;
        strays.retain(|stray| later.owner(Some(&stray.hash), &stray.name) == Owner::Stray);
        refuse_copies(engine, &strays).await?;
        Ok(strays)
    }

    async fn collect(&mut self) -> Result<(), Error> {
        let engine = self.run.engine;
        let mut keys = BTreeMap::new();
        for stray in self.list().await? {
            if !is_of_rotating_role(engine, stray.marked_for.as_ref()).await? {
                keys.insert(stray.hash, stray.name);
            }
        }
        self.more = keys.len().saturating_sub(MAX_LISTED);
        self.keys = keys.into_iter().take(MAX_LISTED).collect();
        self.tally.total = self.keys.len();
        Ok(())
    }
}

#[async_trait]
impl Job for DryRun<'_> {
    async fn pass(&mut self) -> Result<Option<Error>, Error> {
        match self.collect().await {
            Ok(()) => Ok(None),
            Err(reason @ Error::Storage(StorageError::ReadOnly)) => Err(reason),
            Err(reason) if is_temporary(&reason) => Ok(Some(reason)),
            Err(reason) => {
                self.tally.refusal = Some(reason.to_string());
                Ok(None)
            }
        }
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn work(&self) -> Option<Work> {
        Some(Work::Tidy {
            dry_run: true,
            keys: self.keys.clone(),
            more: self.more,
        })
    }
}

/// Deletes the listed keys.
pub(super) struct Removal<'a> {
    run: Ongoing<'a>,
    connection: &'a ConnectionName,
    left: Vec<KeyHash>,
    tally: Tally,
}

/// The outcome for a key.
enum Removed {
    /// It was deleted.
    Gone,
    /// It was kept on purpose.
    Kept(String),
    /// The run was cancelled or replaced.
    Stopped,
}

impl<'a> Removal<'a> {
    pub(super) fn new(
        run: Ongoing<'a>,
        connection: &'a ConnectionName,
        keys: BTreeMap<KeyHash, String>,
    ) -> Self {
        let left: Vec<_> = keys.into_keys().collect();
        let tally = Tally::of(left.len());
        Self {
            run,
            connection,
            left,
            tally,
        }
    }
}

#[async_trait]
impl Job for Removal<'_> {
    async fn pass(&mut self) -> Result<Option<Error>, Error> {
        let left = std::mem::take(&mut self.left);
        let mut again = None;
        for batch in left.chunks(BATCH) {
            again = self.batch(batch).await?.or(again);
        }
        Ok(again)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

impl Removal<'_> {
    /// Tries each of these keys once. Every role is read once for all of them.
    async fn batch(&mut self, hashes: &[KeyHash]) -> Result<Option<Error>, Error> {
        let (run, connection) = (self.run, self.connection);
        if !run.is_on() {
            self.left.extend_from_slice(hashes);
            return Ok(None);
        }
        let holdings = match Holdings::of(run.engine).await {
            Ok(holdings) => holdings,
            Err(reason @ Error::Storage(StorageError::ReadOnly)) => return Err(reason),
            Err(reason) => {
                for hash in hashes {
                    self.tally.fails(hash.to_string(), reason.to_string());
                }
                self.left.extend_from_slice(hashes);
                return Ok(Some(reason));
            }
        };
        let holdings = &holdings;
        let mut removed = stream::iter(hashes.to_vec())
            .map(|hash| async move {
                let removed = remove(run, connection, &hash, holdings).await;
                (hash, removed)
            })
            .buffer_unordered(CONCURRENCY);
        let mut again = None;
        while let Some((hash, removed)) = removed.next().await {
            let what = hash.to_string();
            match removed {
                Ok(Removed::Stopped) => self.left.push(hash),
                Ok(Removed::Gone) => {
                    self.tally.succeeded(&what);
                    self.tally.done += 1;
                }
                Ok(Removed::Kept(why)) => {
                    self.tally.succeeded(&what);
                    self.tally.skipped.insert(what, why);
                }
                Err(reason) => {
                    let passing = self.tally.failed(what, reason)?;
                    if passing.is_some() {
                        self.left.push(hash);
                    }
                    again = again.or(passing);
                }
            }
            run.note(&self.tally);
        }
        Ok(again)
    }
}

async fn remove(
    run: Ongoing<'_>,
    connection: &ConnectionName,
    hash: &KeyHash,
    holdings: &Holdings,
) -> Result<Removed, Error> {
    if !run.is_on() {
        return Ok(Removed::Stopped);
    }
    let engine = run.engine;
    if let Some(copies) = engine.board.copies() {
        return Ok(Removed::Kept(in_words(&copies)));
    }
    let link = engine.links.open(&*engine.storage, connection).await?;
    let found = link.client(Urgency::Ordinary).await.look_up(hash).await;
    // The key's current name counts: someone who renames a key may be using it.
    let name = match found {
        Ok(key) => key.name,
        Err(openrouter::Error::NotFound { .. }) => return Ok(Removed::Gone),
        Err(reason) => return Err(Error::while_doing("the key cannot be looked up")(reason)),
    };
    if let Err(reason) = require_readable(holdings) {
        return Ok(Removed::Kept(reason.to_string()));
    }
    let marked_for = holdings.marked_for(&name);
    if is_of_rotating_role(engine, marked_for).await? {
        return Ok(Removed::Kept("it has the mark of a role".to_owned()));
    }
    let known = Some(holdings);
    let proof = prove_unclaimed(engine, connection, hash, &name, marked_for, known).await;
    let unclaimed = match proof {
        Ok(unclaimed) if unclaimed.owner == Owner::Stray => unclaimed,
        Ok(unclaimed) => return Ok(Removed::Kept(format!("it is {}", unclaimed.owner))),
        Err(Error::Conflict(reason)) => return Ok(Removed::Kept(reason)),
        Err(reason) => return Err(reason),
    };
    // The proof may have taken a while.
    if !run.is_on() {
        return Ok(Removed::Stopped);
    }
    retire(engine, connection, hash, Warrant::Ordered(&unclaimed)).await?;
    tracing::warn!(
        mount = engine.mount,
        key_hash = %hash,
        "removed a key of this mount that belongs to nobody"
    );
    Ok(Removed::Gone)
}

/// Rejects keys of another copy of this storage. The comparisons with OpenRouter only check where roles have
/// keys, and another copy may have made keys elsewhere.
async fn refuse_copies(engine: &Engine, strays: &[Stray]) -> Result<(), Error> {
    let books = engine.books().await?;
    let theirs = strays.iter().filter(|stray| {
        let nonce = Nonce::of_key_name(&stray.name);
        nonce.is_some_and(|nonce| is_foreign(engine, &books, &nonce, stray.created_at))
    });
    let keys: BTreeSet<_> = theirs
        .take(MAX_NAMED)
        .map(|stray| stray.hash.clone())
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let since = engine.now();
    Err(Error::Invalid(in_words(&Copies { since, keys })))
}

/// The error because of an unreadable role, whose keys are unknown.
fn require_readable(holdings: &Holdings) -> Result<(), Error> {
    match holdings.unreadable.first() {
        None => Ok(()),
        Some(name) => Err(Error::Invalid(format!(
            "{} roles are unreadable, including {name}, so it is unknown which keys are theirs",
            holdings.unreadable.len()
        ))),
    }
}

async fn is_of_rotating_role(engine: &Engine, name: Option<&RoleName>) -> Result<bool, Error> {
    let Some(name) = name else {
        return Ok(false);
    };
    let role = Role::load(&*engine.storage, name).await?;
    Ok(matches!(role, Some(Role::Rotating(_))))
}

/// Visits every key that a connection sees, in every workspace.
///
/// # Errors
/// Errors from OpenRouter. Then not all keys were visited.
pub(super) async fn each_key(
    link: &Link,
    visit: &mut (impl FnMut(ListedKey) + Send),
) -> Result<(), Error> {
    let listing = |reason| Error::while_doing("keys cannot be listed")(reason);
    let ids = link.client(Urgency::Ordinary).await.workspace_ids().await;
    let mut workspaces: Vec<_> = ids.map_err(listing)?.into_iter().map(Some).collect();
    if workspaces.is_empty() {
        workspaces.push(None);
    }
    for workspace in workspaces {
        let turn = link.client(Urgency::Ordinary).await;
        let listed = turn.each_key(workspace.as_ref(), |key| {
            visit(key);
            Ok(())
        });
        listed.await.map_err(listing)?;
    }
    Ok(())
}

/// Keys of another copy that are named.
const MAX_NAMED: usize = 4;
/// How many keys a run lists, since they are all in one entry.
const MAX_LISTED: usize = 1_000;
/// How many keys share one reading of all roles. It must not be old when the last of them is deleted.
const BATCH: usize = 100;
/// How many keys are handled at a time. More would only wait for their turns.
const CONCURRENCY: usize = 8;
