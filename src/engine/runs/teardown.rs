//! Tears a mount down: revokes every key and creates none, so that the mount can be disabled without leaving
//! keys behind. The definitions of roles and connections stay.
//!
//! # Expected flow of a pass
//! 1. The pass proves that the teardown is in force and that this node is the leader.
//! 2. Every role is torn down, and every leased key is deleted.
//! 3. Once no key is being created or adopted, the keys of every connection are listed, and those with this
//!    mount's mark are deleted: lost orders and stray keys. The proof is repeated before each deletion.
//! 4. The run continues until no order is open, because an order whose reply was lost can take effect late. If
//!    a key was being created or adopted when a pass began, the pass is repeated.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use futures::{StreamExt, stream};

use super::tally::{Ongoing, Tally};
use super::tidy::each_key;
use super::work::Job;
use crate::engine::books::{OpenBooks, TornDown};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Warrant, mentioned, retire};
use crate::engine::leasing;
use crate::engine::names::{CONNECTIONS, ConnectionName, Nonce, RoleName};
use crate::engine::role::Role;
use crate::engine::rotation::tear_down;
use crate::logical::StorageError;
use crate::openrouter::{Deletion, KeyHash, ListedKey};

/// See the module's page.
pub(super) struct Teardown<'a> {
    run: Ongoing<'a>,
    /// The roles that are done.
    done: HashSet<RoleName>,
    /// The messages for the keys of unreadable roles, of which only the hashes are known.
    mentioned: BTreeMap<RoleName, Mentioned>,
    tally: Tally,
}

/// What an unreadable entry mentions.
struct Mentioned {
    hashes: BTreeSet<KeyHash>,
    connections: BTreeSet<ConnectionName>,
    /// Those of the keys that were there, and were deleted.
    deleted: BTreeSet<KeyHash>,
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

    /// Proves that the teardown is in force and that this node is the leader.
    async fn prove(&self) -> Result<Option<TornDown>, Error> {
        let Ongoing { engine, began, .. } = self.run;
        let (runs, now) = (engine.runs(), engine.now());
        Ok(runs.prove_torn_down(&*engine.storage, began, now).await?)
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
            .buffer_unordered(CONCURRENCY);
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
        let (hashes, mut connections) = mentioned(&value.unwrap_or_default());
        if connections.is_empty() {
            connections.insert(ConnectionName::default());
        }
        let mentioned = Mentioned {
            hashes,
            connections,
            deleted: BTreeSet::new(),
        };
        self.mentioned.insert(name.clone(), mentioned);
        Ok(())
    }

    /// Deletes the keys that unreadable roles mention, through the connections that they mention. A role
    /// stays in the list unless every mentioned key was found: it may have other keys, and a key that was not
    /// found may still exist.
    async fn end_mentioned(&mut self) -> Result<Option<Error>, Error> {
        let mut again = None;
        for (name, mut role) in std::mem::take(&mut self.mentioned) {
            for hash in role.hashes.difference(&role.deleted.clone()) {
                for connection in &role.connections {
                    let (deletion, failure) = self.end_key(connection, hash).await?;
                    again = again.or(failure);
                    if deletion == Some(Deletion::Deleted) {
                        role.deleted.insert(hash.clone());
                        self.tally.succeeded(hash.as_str());
                        break;
                    }
                }
            }
            let what = format!("role {name}");
            if role.hashes.is_empty() || role.deleted != role.hashes {
                self.tally.give_up(what, UNREADABLE.to_owned());
                self.mentioned.insert(name, role);
            } else {
                self.tally.succeeded(&what);
            }
        }
        Ok(again)
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
            .buffer_unordered(CONCURRENCY);
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
        let mut again = self.end_mentioned().await?;
        let names = engine.storage.list(CONNECTIONS).await?;
        for name in names
            .iter()
            .filter_map(|name| ConnectionName::parse(name).ok())
        {
            let what = format!("connection {name}");
            match self.marked_keys(&name).await {
                Ok(marked) => {
                    self.tally.succeeded(&what);
                    for (nonce, hashes) in marked {
                        let failure = self.end_order(books, &name, &nonce, hashes).await?;
                        again = again.or(failure);
                    }
                }
                Err(reason) => again = again.or(self.tally.failed(what, reason)?),
            }
        }
        Ok(again)
    }

    /// The keys with this mount's mark that a connection can see, by their orders.
    async fn marked_keys(
        &mut self,
        connection: &ConnectionName,
    ) -> Result<BTreeMap<Nonce, Vec<KeyHash>>, Error> {
        let engine = self.run.engine;
        let link = engine.links.open(&*engine.storage, connection).await?;
        let (mut marked, mut unreadable) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
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
                Some(hash) => marked.entry(nonce).or_default().push(hash),
                None => unreadable.push(key.shown_name()),
            }
        };
        each_key(&link, &mut visit).await?;
        for name in unreadable {
            let why = "OpenRouter does not report its hash".to_owned();
            self.tally.give_up(name, why);
        }
        Ok(marked)
    }

    /// Deletes the keys of an order, and its intent if there is one. An order that arrived twice has two keys,
    /// and nothing but the intent leads to the one whose deletion has failed.
    async fn end_order(
        &mut self,
        books: &OpenBooks,
        connection: &ConnectionName,
        nonce: &Nonce,
        hashes: Vec<KeyHash>,
    ) -> Result<Option<Error>, Error> {
        let (mut again, mut are_ended) = (None, true);
        for hash in hashes {
            let (deletion, failure) = self.end_key(connection, &hash).await?;
            are_ended &= deletion.is_some();
            again = again.or(failure);
        }
        if are_ended && books.intents.is_known(nonce) {
            let storage = &*self.run.engine.storage;
            books.intents.delete(storage, nonce).await?;
        }
        Ok(again)
    }

    /// Returns the outcome, or why the deletion must be retried.
    async fn end_key(
        &mut self,
        connection: &ConnectionName,
        hash: &KeyHash,
    ) -> Result<(Option<Deletion>, Option<Error>), Error> {
        let engine = self.run.engine;
        if !self.run.is_on() {
            return Ok((None, None));
        }
        // If the teardown is cancelled, no role may adopt the key while its deletion is in progress.
        let _alone = engine.adoptions.lock(hash).await;
        // This node must not continue a teardown that was cancelled on another node.
        let Some(proof) = self.prove().await? else {
            return Ok((None, None));
        };
        let retired = retire(engine, connection, hash, Warrant::TornDown(&proof)).await;
        let what = hash.to_string();
        match retired {
            Ok(deletion) => {
                self.tally.succeeded(&what);
                Ok((Some(deletion), None))
            }
            Err(reason) => Ok((None, self.tally.failed(what, reason)?)),
        }
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
                "{} keys were ordered, and their outcome is not known yet",
                open.len()
            ))
        })
    }
}

#[async_trait]
impl Job for Teardown<'_> {
    async fn pass(&mut self) -> Result<Option<Error>, Error> {
        let books = self.run.engine.books().await?;
        if self.prove().await?.is_none() {
            return Ok(None);
        }
        let mut again;
        let mut is_swept = false;
        loop {
            // Checked before the listing: a key that is made now is in a role's entry or under a lease when
            // it is no longer in flight.
            let was_quiet = is_quiet(self.run.engine, &books);
            again = self.end_roles().await?;
            again = self.end_leases(&books).await?.or(again);
            if again.is_some() || !self.run.is_on() {
                break;
            }
            if was_quiet {
                again = self.sweep(&books).await?;
                is_swept = true;
                break;
            }
            // The passes above may have missed a key that was created in the meantime.
            if !is_quiet(self.run.engine, &books) {
                break;
            }
        }
        let open = self.note_open_orders(&books);
        let unswept = (!is_swept).then(|| {
            let why = "keys were being created or adopted when the teardown looked for them";
            Error::Conflict(why.to_owned())
        });
        Ok(again.or(open).or(unswept))
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

/// Whether no key is being created or adopted. Neither can be started while the mount is torn down.
fn is_quiet(engine: &Engine, books: &OpenBooks) -> bool {
    let orders = books.intents.all();
    let is_ordering = orders.iter().any(|(_, is_in_flight)| *is_in_flight);
    !is_ordering && !engine.adoptions.are_open(engine.now())
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
    match role {
        Some(Role::Rotating(role)) => Ok(Some(tear_down(&guard, *role).await?)),
        Some(Role::Dynamic(_)) => Ok(Some(Left::new())),
        None => {
            // It is listed, so it may be stored, and only the server's cache says that it is not.
            run.engine.doubt(name);
            Err(Error::Conflict(format!(
                "it is not certain yet whether role {:?} is stored",
                name.to_string()
            )))
        }
    }
}

/// How many roles or keys are handled at a time. More would only wait for their turns.
const CONCURRENCY: usize = 8;
const UNREADABLE: &str = "its entry cannot be read, and it may have keys that are still alive; see \
                          the keys of its connection";
const UNCONFIRMED: &str = "it was ordered, and it is not known yet whether it exists";
