//! Rotates every role of a connection.
//!
//! A role is done if its key was ordered since the run began, by whatever means. In an emergency, which is a
//! grace period of 0, every key that is older than the run is ended: superseded keys, and keys under leases
//! of dynamic roles. Keys that were being created when the run began count as older, and are waited for.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::tally::{Ongoing, Tally};
use super::work::Job;
use crate::engine::books::{OpenBooks, Purpose, Record};
use crate::engine::connection::Urgency;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::keys::Holdings;
use crate::engine::leasing;
use crate::engine::names::{ConnectionName, Nonce, RoleName};
use crate::engine::role::Role;
use crate::engine::role::rotating::{MismatchReason, RotatingRole};
use crate::engine::rotation::{revoke_early, rotate_manually};
use crate::openrouter::{self, KeyHash};

/// See the module's page.
pub(super) struct RotateAll<'a> {
    run: Ongoing<'a>,
    connection: &'a ConnectionName,
    grace: Option<u64>,
    /// The remaining roles; `None` before the first pass.
    roles: Option<BTreeSet<RoleName>>,
    /// Leases whose keys were ordered before the run began, and were not recorded at the last check.
    old_orders: HashSet<Nonce>,
    /// How many attempts to revoke a role's older keys have failed.
    tries: BTreeMap<RoleName, u32>,
    tally: Tally,
}

/// The outcome for a role.
enum Verdict {
    /// It has a newer key, and, in an emergency, no older one.
    Done,
    /// It has a newer key or was skipped, and an older key may still work.
    Undead(String, Option<String>),
    /// It was skipped on purpose.
    Skipped(String),
    /// It has no shared key, or was deleted.
    NotConcerned,
    /// The run was cancelled or replaced.
    Stopped,
}

impl<'a> RotateAll<'a> {
    pub(super) fn new(
        run: Ongoing<'a>,
        connection: &'a ConnectionName,
        grace: Option<u64>,
    ) -> Self {
        Self {
            run,
            connection,
            grace,
            roles: None,
            old_orders: HashSet::new(),
            tries: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    fn is_emergency(&self) -> bool {
        self.grace == Some(0)
    }

    /// Rotates the remaining roles.
    async fn rotate(&mut self, books: &OpenBooks) -> Result<Option<Error>, Error> {
        let engine = self.run.engine;
        let left = match self.roles.take() {
            Some(roles) => roles,
            None => {
                // First, so that a role that is being created is in one of the two.
                let mut roles = self.roles_with_open_orders(books);
                let holdings = Holdings::of(engine).await?;
                let users = holdings.users_of(self.connection);
                roles.extend(users.into_iter().cloned());
                roles
            }
        };
        self.tally.total = self.tally.total.max(left.len());
        let (run, grace) = (self.run, self.grace);
        // The roles that have their new key, independent of the clock.
        let todo = left.clone().into_iter().map(|name| {
            let is_rotated = self.tries.contains_key(&name);
            (name, is_rotated)
        });
        let todo: Vec<_> = todo.collect();
        let mut verdicts = stream::iter(todo)
            .map(|(name, is_rotated)| async move {
                let verdict = rotate_one(run, &name, grace, is_rotated).await;
                (name, verdict)
            })
            .buffer_unordered(CONCURRENCY);
        let (mut still, mut again) = (left, None);
        while let Some((name, verdict)) = verdicts.next().await {
            let what = name.to_string();
            let settled = match verdict {
                Ok(Verdict::Stopped) => false,
                Ok(Verdict::Done) => {
                    self.tally.done += 1;
                    true
                }
                Ok(Verdict::NotConcerned) if self.adopting().contains(&name) => {
                    // Its store was reported as failed, and may have been committed.
                    let why =
                        format!("it is not certain yet whether role {what:?} has adopted a key");
                    again = again.or(Some(Error::Conflict(why)));
                    false
                }
                Ok(Verdict::NotConcerned) => {
                    self.tally.total -= 1;
                    true
                }
                Ok(Verdict::Skipped(why)) => {
                    self.tally.skipped.insert(what.clone(), why);
                    true
                }
                Ok(Verdict::Undead(why, skipped)) => {
                    self.tally
                        .skipped
                        .extend(skipped.map(|why| (what.clone(), why)));
                    let tries = self.tries.entry(name.clone()).or_default();
                    *tries += 1;
                    if *tries < MAX_TRIES {
                        self.tally.fails(what.clone(), why.clone());
                        again = again.or(Some(Error::Conflict(why)));
                        false
                    } else {
                        self.tally.give_up(what, why);
                        still.remove(&name);
                        continue;
                    }
                }
                Err(reason) => {
                    let passing = self.tally.failed(what, reason)?;
                    let is_given_up = passing.is_none();
                    again = again.or(passing);
                    if is_given_up {
                        still.remove(&name);
                    }
                    continue;
                }
            };
            if settled {
                self.tally.succeeded(&what);
                still.remove(&name);
            }
            run.note(&self.tally);
        }
        drop(verdicts);
        self.roles = Some(still);
        Ok(again)
    }

    /// Deletes the leased keys that are older than the run, and waits for those that are being created.
    async fn end_leases(&mut self, books: &OpenBooks) -> Result<Option<Error>, Error> {
        let run = self.run;
        let under_way = self.orders_before(books, true);
        for (nonce, _) in &under_way {
            self.old_orders.insert(nonce.clone());
        }
        let old: Vec<_> = books
            .leases
            .all()
            .filter(|record| self.is_old(record))
            .collect();
        let mut ended = stream::iter(old)
            .map(|record| async move {
                let ended = match run.is_on() {
                    true => leasing::end_early(run.engine, &record.key.nonce).await,
                    false => Ok(()),
                };
                (record.key.key_hash, ended)
            })
            .buffer_unordered(CONCURRENCY);
        let mut again = (!under_way.is_empty()).then(|| {
            Error::Conflict(format!(
                "{} keys that were ordered before the run began are being created",
                under_way.len()
            ))
        });
        while let Some((hash, ended)) = ended.next().await {
            let what = hash.to_string();
            match ended {
                Ok(()) => self.tally.succeeded(&what),
                Err(reason) => again = self.tally.failed(what, reason)?.or(again),
            }
        }
        Ok(again)
    }

    fn is_old(&self, record: &Record) -> bool {
        let asked = record.requester.as_ref();
        let is_older = asked.is_none_or(|requester| requester.at < self.run.began);
        record.key.connection == *self.connection
            && (is_older || self.old_orders.contains(&record.key.nonce))
    }

    /// Roles that are adopting a key. Taking their locks waits for that.
    fn adopting(&self) -> Vec<RoleName> {
        let engine = self.run.engine;
        match self.is_emergency() {
            true => engine.adoptions.open_through(self.connection, engine.now()),
            false => Vec::new(),
        }
    }

    /// Roles for which keys have been in the making since before an emergency. Taking their locks waits for
    /// these keys.
    fn roles_with_open_orders(&self, books: &OpenBooks) -> BTreeSet<RoleName> {
        let orders = books.intents.announced_before(self.run.began).into_iter();
        orders
            .filter(|_| self.is_emergency())
            .filter(|(intent, is_in_flight)| {
                *is_in_flight && intent.place.connection == *self.connection
            })
            .map(|(intent, _)| intent.role)
            .chain(self.adopting())
            .collect()
    }

    /// Orders through the connection that are older than the run: those of leases that are in progress, or
    /// those whose outcome is unknown.
    fn orders_before(&self, books: &OpenBooks, under_way: bool) -> Vec<(Nonce, String)> {
        let orders = books.intents.announced_before(self.run.began);
        orders
            .into_iter()
            .filter(|(intent, is_in_flight)| {
                *is_in_flight == under_way && intent.place.connection == *self.connection
            })
            // An order for a role is resolved under the role's lock.
            .filter(|(intent, _)| !under_way || intent.purpose == Purpose::Lease)
            .map(|(intent, _)| (intent.nonce, intent.key_name))
            .collect()
    }
}

#[async_trait]
impl Job for RotateAll<'_> {
    async fn pass(&mut self) -> Result<Option<Error>, Error> {
        let books = self.run.engine.books().await?;
        let mut again = None;
        if self.is_emergency() {
            // First, because they are many and each takes one request.
            again = self.end_leases(&books).await?;
        }
        again = self.rotate(&books).await?.or(again);
        if self.is_emergency() && again.is_none() {
            for (_, key_name) in self.orders_before(&books, false) {
                let why = "its creation was never confirmed; the engine deletes it when it can no \
                           longer be in use";
                self.tally.give_up(key_name, why.to_owned());
            }
        }
        Ok(again)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

async fn rotate_one(
    run: Ongoing<'_>,
    name: &RoleName,
    grace: Option<u64>,
    is_rotated: bool,
) -> Result<Verdict, Error> {
    if !run.is_on() {
        return Ok(Verdict::Stopped);
    }
    let guard = run.engine.change(name).await;
    let mut role = match guard.load().await? {
        Some(Role::Rotating(role)) => *role,
        Some(Role::Dynamic(_)) | None => return Ok(Verdict::NotConcerned),
    };
    // The lock may have taken a while.
    if !run.is_on() {
        return Ok(Verdict::Stopped);
    }
    let mut skipped = None;
    if role.current.is_older_than(run.began) && !is_rotated {
        if let Err(reason) = role.require_lasting(name) {
            return Ok(Verdict::Skipped(reason.to_string()));
        }
        if is_disabled_outside(run.engine, &role).await? {
            skipped = Some(format!(
                "its current key {} was disabled at OpenRouter; \"rotate-role/{name}\" replaces it",
                role.current.hash
            ));
        } else {
            // A caller that stops waiting does not cancel the run.
            let nobody = CancellationToken::new();
            // A key that is younger than the run may be superseded all the same: a restored snapshot had the run
            // in progress, and has lost a later rotation.
            role = rotate_manually(&guard, role, grace, run.began, &nobody).await?;
        }
    }
    let undead = match grace {
        Some(0) => revoke_older(&guard, role, run).await?,
        _ => None,
    };
    Ok(match (undead, skipped) {
        (Some(why), skipped) => Verdict::Undead(why, skipped),
        (None, Some(why)) => Verdict::Skipped(why),
        (None, None) => Verdict::Done,
    })
}

/// Whether the role's key was disabled outside the engine. A run must not give such a role another key. This
/// asks OpenRouter, because the last comparison can be an hour old.
async fn is_disabled_outside(engine: &Engine, role: &RotatingRole) -> Result<bool, Error> {
    match role.mismatch.map(|mismatch| mismatch.reason) {
        Some(MismatchReason::Gone | MismatchReason::Held | MismatchReason::TornDown) => {
            return Ok(false);
        }
        Some(MismatchReason::Disabled) => return Ok(true),
        Some(MismatchReason::Outdated) | None => {}
    }
    let key = &role.current;
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    match link.client(Urgency::Ordinary).await.key(&key.hash).await {
        Ok(found) => Ok(found.disabled),
        Err(openrouter::Error::NotFound { .. }) => Ok(false),
        Err(reason) => Err(Error::while_doing("the current key cannot be looked up")(
            reason,
        )),
    }
}

/// Revokes the superseded keys that are older than the run. Returns why one may still work.
async fn revoke_older(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    run: Ongoing<'_>,
) -> Result<Option<String>, Error> {
    let mut left = None;
    for hash in older(&role, run) {
        let failure;
        (role, failure) = revoke_early(guard, role, &hash).await?;
        left = left.or(failure.map(|why| format!("key {hash} may still work: {why}")));
    }
    Ok(left)
}

fn older(role: &RotatingRole, run: Ongoing<'_>) -> Vec<KeyHash> {
    let older = role.superseded.iter();
    // Held keys do not work.
    let older = older.filter(|key| key.is_older_than(run.began) && !key.stage.is_held());
    older.map(|key| key.hash.clone()).collect()
}

/// How many roles are rotated at a time. More would only wait for their turns.
const CONCURRENCY: usize = 8;
/// How often the run tries to revoke a role's older keys, over a quarter of an hour. The engine keeps
/// retrying afterwards.
const MAX_TRIES: u32 = 10;
