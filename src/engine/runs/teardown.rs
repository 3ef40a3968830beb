//! Tears a mount down: revokes every key and creates none, so that the mount can be disabled without leaving
//! keys behind. The definitions of roles and connections stay.
//!
//! # Expected flow of a pass
//! 1. The pass proves that the teardown is in force and that this node is the leader.
//! 2. Every role is torn down, and every leased key is deleted.
//! 3. Once no key is being created, the keys of every connection are listed, and those with this mount's mark
//!    are deleted: lost orders and stray keys. The proof is repeated before each deletion.
//! 4. The run continues until no order is open, because an order whose reply was lost can take effect late.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use futures::{StreamExt, stream};

use super::tally::{Ongoing, Tally};
use super::tidy::each_key;
use super::work::Job;
use crate::engine::books::OpenBooks;
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, mentioned, retire};
use crate::engine::leasing;
use crate::engine::names::{CONNECTIONS, ConnectionName, Nonce, RoleName};
use crate::engine::role::Role;
use crate::engine::rotation::tear_down;
use crate::logical::StorageError;
use crate::openrouter::{KeyHash, ListedKey};

/// See the module's page.
pub(super) struct Teardown<'a> {
    run: Ongoing<'a>,
    /// The roles that are done.
    done: HashSet<RoleName>,
    /// The messages for the keys of unreadable roles, of which only the hashes are known.
    mentioned: BTreeMap<KeyHash, ConnectionName>,
    tally: Tally,
}

/// The keys of a role that may still work, and why.
type Left = Vec<(KeyHash, Error)>;

impl<'a> Teardown<'a> {
    pub(super) fn new(run: Ongoing<'a>) -> Self {
        Self {
            run,
            done: HashSet::new(),
            mentioned: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    async fn end_roles(&mut self) -> Result<Option<Error>, Error> {
        let (engine, run) = (self.run.engine, self.run);
        let mut names = Role::names(&*engine.storage).await?;
        self.tally.total = names.len();
        names.retain(|name| !self.done.contains(name));
        let mut ended = stream::iter(names)
            .map(|name| async move {
                let left = end_role(run, &name).await;
                (name, left)
            })
            .buffer_unordered(AT_A_TIME);
        let mut again = None;
        while let Some((name, left)) = ended.next().await {
            match left {
                Ok(None) => {}
                Ok(Some(left)) => {
                    let mut is_settled = true;
                    for (hash, reason) in left {
                        let passing = self.tally.failed(hash.to_string(), reason)?;
                        is_settled &= passing.is_none();
                        again = again.or(passing);
                    }
                    if is_settled {
                        self.tally.succeeded(&format!("role {name}"));
                        self.done.insert(name);
                    }
                }
                Err(Error::Storage(StorageError::Malformed { .. })) => {
                    self.note_mentioned(&name).await?;
                    self.done.insert(name);
                }
                Err(reason) => {
                    again = self.tally.failed(format!("role {name}"), reason)?.or(again);
                }
            }
            self.tally.done = self.done.len();
            run.note(&self.tally);
        }
        Ok(again)
    }

    /// The keys of an unreadable role cannot be read from its entry, but their hashes can.
    async fn note_mentioned(&mut self, name: &RoleName) -> Result<(), Error> {
        let value = self.run.engine.storage.get(&name.key()).await?;
        let (hashes, connections) = mentioned(&value.unwrap_or_default());
        let through = connections.first().cloned().unwrap_or_default();
        let keys = hashes.into_iter().map(|hash| (hash, through.clone()));
        self.mentioned.extend(keys);
        Ok(())
    }

    async fn end_leases(&mut self, books: &OpenBooks) -> Result<Option<Error>, Error> {
        let run = self.run;
        let records: Vec<_> = books.leases.all().collect();
        let mut ended = stream::iter(records)
            .map(|record| async move {
                let ended = match run.is_on() {
                    true => leasing::end_early(run.engine, &record.key.nonce).await,
                    false => Ok(()),
                };
                (record.key.key_hash, ended)
            })
            .buffer_unordered(AT_A_TIME);
        let mut again = None;
        while let Some((hash, ended)) = ended.next().await {
            let what = hash.to_string();
            match ended {
                Ok(()) => self.tally.succeeded(&what),
                Err(reason) => again = again.or(self.tally.failed(what, reason)?),
            }
        }
        Ok(again)
    }

    /// Deletes the remaining keys of the mount at OpenRouter, whether or not storage knows them.
    async fn sweep(&mut self, books: &OpenBooks) -> Result<Option<Error>, Error> {
        let engine = self.run.engine;
        let mut again = None;
        for (hash, connection) in std::mem::take(&mut self.mentioned) {
            again = again.or(self.end_key(books, &connection, &hash, None).await?);
        }
        let names = engine.storage.list(CONNECTIONS).await?;
        for name in names
            .iter()
            .filter_map(|name| ConnectionName::parse(name).ok())
        {
            let what = format!("connection {name}");
            match self.marked_keys(&name).await {
                Ok(marked) => {
                    self.tally.succeeded(&what);
                    for (hash, nonce) in marked {
                        again = again.or(self.end_key(books, &name, &hash, Some(&nonce)).await?);
                    }
                }
                Err(reason) => again = again.or(self.tally.failed(what, reason)?),
            }
        }
        Ok(again)
    }

    /// The keys with this mount's mark that a connection can see.
    async fn marked_keys(
        &mut self,
        connection: &ConnectionName,
    ) -> Result<Vec<(KeyHash, Nonce)>, Error> {
        let engine = self.run.engine;
        let link = engine.links.open(&*engine.storage, connection).await?;
        let (mut marked, mut unreadable) = (Vec::new(), Vec::new());
        // A mount without a UUID cannot distinguish its keys from those of others.
        let is_ours = |nonce: &Nonce| {
            let origin = nonce.origin();
            !engine.mount.is_empty() && origin.is_some_and(|it| it.is_of_mount(&engine.mount))
        };
        let mut visit = |key: ListedKey| {
            let Some(nonce) = Nonce::of_key_name(&key.name).filter(is_ours) else {
                return;
            };
            match key.hash {
                Some(hash) => marked.push((hash, nonce)),
                None => unreadable.push(key.name),
            }
        };
        each_key(&link, &mut visit).await?;
        for name in unreadable {
            let why = "OpenRouter does not tell its hash".to_owned();
            self.tally.give_up(name, why);
        }
        Ok(marked)
    }

    async fn end_key(
        &mut self,
        books: &OpenBooks,
        connection: &ConnectionName,
        hash: &KeyHash,
        nonce: Option<&Nonce>,
    ) -> Result<Option<Error>, Error> {
        let (engine, began) = (self.run.engine, self.run.began);
        let storage = &*engine.storage;
        if !self.run.is_on() {
            return Ok(None);
        }
        // This node must not continue a teardown that was cancelled on another node.
        let Some(proof) = engine.runs().prove_torn_down(storage, began).await? else {
            return Ok(None);
        };
        let retired = retire(engine, connection, hash, Warrant::TornDown(&proof)).await;
        let what = hash.to_string();
        let again = match retired {
            Ok(_) => {
                self.tally.succeeded(&what);
                // The key of an order whose outcome was unknown.
                if let Some(nonce) = nonce.filter(|nonce| books.intents.is_known(nonce)) {
                    books.intents.strike(storage, nonce).await?;
                }
                None
            }
            Err(reason) => self.tally.failed(what, reason)?,
        };
        if again.is_some() && nonce.is_none() {
            self.mentioned.insert(hash.clone(), connection.clone());
        }
        Ok(again)
    }

    /// The open orders: keys that may still be created.
    fn note_open_orders(&mut self, books: &OpenBooks) -> Option<Error> {
        let open = books.intents.all();
        for (intent, _) in &open {
            // By name, because the hashes are unknown.
            let why = UNCONFIRMED.to_owned();
            self.tally.fails(intent.key_name.clone(), why);
        }
        (!open.is_empty()).then(|| {
            Error::Conflict(format!(
                "{} keys were ordered, and it is not known yet what came of that",
                open.len()
            ))
        })
    }
}

#[async_trait]
impl Job for Teardown<'_> {
    async fn pass(&mut self) -> Result<Option<Error>, Error> {
        let (engine, began) = (self.run.engine, self.run.began);
        let books = engine.books().await?;
        let storage = &*engine.storage;
        if engine
            .runs()
            .prove_torn_down(storage, began)
            .await?
            .is_none()
        {
            return Ok(None);
        }
        // Before the listing: a key that is being created now is in a role's entry or under a lease when it
        // is no longer in progress.
        let orders = books.intents.all();
        let is_quiet = orders.iter().all(|(_, is_in_flight)| !is_in_flight);
        let mut again = self.end_roles().await?;
        again = self.end_leases(&books).await?.or(again);
        if again.is_none() && is_quiet && self.run.is_on() {
            again = self.sweep(&books).await?;
        }
        let open = self.note_open_orders(&books);
        Ok(again.or(open))
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// `None` if the run was cancelled or replaced.
async fn end_role(run: Ongoing<'_>, name: &RoleName) -> Result<Option<Left>, Error> {
    if !run.is_on() {
        return Ok(None);
    }
    let guard = run.engine.change(name).await;
    let role = guard.load().await?;
    // The lock may have taken a while, and keys that were created after a cancellation are in use.
    if !run.is_on() {
        return Ok(None);
    }
    Ok(Some(match role {
        Some(Role::Rotating(role)) => tear_down(&guard, *role).await?,
        Some(Role::Dynamic(_)) | None => Left::new(),
    }))
}

/// How many roles or keys are handled at a time. More would only wait for their turns.
const AT_A_TIME: usize = 8;
const UNCONFIRMED: &str = "it was ordered, and it is not known yet whether there is such a key";
