//! Settling one intent: what a listing has shown of its key, against what storage knows of it.

use std::time::Duration;

use jiff::Timestamp;

use super::{SETTLED, next_look_after};
use crate::engine::books::{
    Finding, Intent, LeasedKey, Listing, OUTLIVED, OpenBooks, Purpose, Record,
};
use crate::engine::clock::after;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::keys::retire::{Warrant, hold, retire};
use crate::engine::role::Role;
use crate::engine::role::budget::Amount;
use crate::engine::task::Task;
use crate::framework::wal::Written;
use crate::openrouter::{self, Deletion, Key};

/// Strikes an intent out if its key is where it belongs, or deletes what was found of it, behind the
/// fence; unless it is too early for either. A rotation's intent without its role's lock, which somebody
/// else has, is left to them, and to the next look.
///
/// # Errors
/// OpenRouter's and storage's: the intent stays.
pub(super) async fn settle(
    engine: &Engine,
    books: &OpenBooks,
    listing: &Listing,
    written: &Written<Intent>,
    guard: Option<&RoleGuard<'_>>,
) -> Result<(), Error> {
    let intent = &written.data;
    let found: Vec<&Key> = listing.keys_of(&intent.nonce).collect();
    let settling = Settling {
        engine,
        books,
        listing,
        written,
        found,
    };
    match (intent.purpose, guard) {
        (Purpose::Lease, _) => settling.lease().await,
        (Purpose::Rotation { .. }, Some(guard)) => settling.rotation(guard).await,
        (Purpose::Rotation { .. }, None) => {
            settling.again_at(after(engine.now(), SOON));
            Ok(())
        }
    }
}

struct Settling<'a> {
    engine: &'a Engine,
    books: &'a OpenBooks,
    listing: &'a Listing,
    written: &'a Written<Intent>,
    found: Vec<&'a Key>,
}

impl Settling<'_> {
    async fn rotation(&self, guard: &RoleGuard<'_>) -> Result<(), Error> {
        let nonce = &self.written.data.nonce;
        let is_in_service = |role: &Option<Role>| match role {
            Some(Role::Rotating(role)) => role.has_key_of(nonce),
            Some(Role::Dynamic(_)) | None => false,
        };
        let role = guard.load().await?;
        if is_in_service(&role) {
            // The store that put it there may have taken effect after this process looked which roles
            // there are.
            self.engine.keeper.now(Task::Tend(guard.name().clone()));
            return self.strike("in_service").await;
        }
        if self.found.is_empty() {
            return self.nothing_was_found().await;
        }
        let own = self.books.intents.is_own(nonce);
        let store_begun = self.books.intents.looks.of(nonce).store_begun;
        let work_began = self.books.since;
        if role.is_none() && !own {
            // Of a store by an earlier process nobody here knows when it was.
            let until = self.in_use_from(work_began, None);
            let until = until.max(after(work_began, OUTLIVED));
            if self.is_left_alone(until) {
                return Ok(());
            }
        }
        self.require_out_of_service()?;
        let last_store = store_begun.or((!own).then_some(work_began));
        let fenced = guard.fence(last_store).await?;
        if is_in_service(&fenced.role) {
            return self.strike("in_service").await;
        }
        // A store that failed by its answer may have been committed, and the key read until just now on
        // a standby that serves reads. Whether there are any no server tells.
        let was_stored = store_begun.is_some() || (!own && fenced.role.is_some());
        if was_stored {
            let since = self.out_of_service_since();
            if self.is_left_alone(self.in_use_from(since, fenced.role.as_ref())) {
                return Ok(());
            }
        }
        for key in &self.found {
            self.retire(key, Warrant::Unknown(&fenced)).await?;
        }
        self.strike("deleted").await
    }

    async fn lease(&self) -> Result<(), Error> {
        if self.found.is_empty() {
            return self.nothing_was_found().await;
        }
        // What this instance announced itself no snapshot has brought back, and its reader never got it.
        let own = self.books.intents.is_own(&self.written.data.nonce);
        if !own && self.is_left_alone(self.in_use_from(self.books.since, None)) {
            return Ok(());
        }
        self.require_out_of_service()?;
        let (intents, storage) = (&self.books.intents, &*self.engine.storage);
        intents.rewrite(storage, &self.written.data.nonce).await?;
        let mut found = self.found.as_slice();
        // Nobody has got what this instance ordered itself. Anything else may have spent something.
        let is_own = intents.is_own(&self.written.data.nonce);
        let counted = self.written.data.grant.filter(|_| !is_own);
        let last_read = counted.and_then(|grant| Some((grant, found.split_off_first()?)));
        for key in found {
            self.retire(key, Warrant::UnknownLease).await?;
        }
        match last_read {
            Some((grant, key)) => self.end_as_lease(key, grant).await,
            None => self.strike("deleted").await,
        }
    }

    /// Disables a key that takes something out of a budget, and makes a lease of it that has ended: so
    /// what it has spent is read before it is deleted.
    async fn end_as_lease(&self, key: &Key, grant: Amount) -> Result<(), Error> {
        let (engine, intent) = (self.engine, &self.written.data);
        let connection = &intent.place.connection;
        hold(engine, connection, &key.hash, Warrant::UnknownLease).await?;
        let now = engine.now();
        let record = Record {
            key: LeasedKey {
                nonce: intent.nonce.clone(),
                role: intent.role.clone(),
                connection: connection.clone(),
                key_hash: key.hash.clone(),
            },
            until: now,
            workspace_id: intent.place.workspace_id.clone(),
            granted: None,
            placed: true,
            guardrail_id: None,
            requester: None,
            grant: Some(grant),
            ended: Some(now),
        };
        let leases = &self.books.leases;
        leases.begin(&*engine.storage, record, now).await?;
        self.books.intents.taken_over(&intent.nonce);
        let task = Task::Lapse(intent.nonce.clone());
        engine.keeper.plan(task, after(now, SETTLED));
        engine.meters.recovered("deleted");
        Ok(())
    }

    /// Until when somebody may use the key who read it at that time and not later.
    fn in_use_from(&self, read: Timestamp, role: Option<&Role>) -> Timestamp {
        let in_use = self.written.data.in_use.unwrap_or(match role {
            Some(Role::Rotating(role)) => role.definition.rotation.grace,
            Some(Role::Dynamic(_)) | None => IN_USE_BY_DEFAULT,
        });
        after(read, in_use)
    }

    /// Since when the key has been out of service for certain: now, if the fence has just shown it for the
    /// first time.
    fn out_of_service_since(&self) -> Timestamp {
        let (now, looks) = (self.engine.now(), &self.books.intents.looks);
        let nonce = &self.written.data.nonce;
        looks.learn(nonce, |look| {
            _ = look.out_of_service_since.get_or_insert(now)
        });
        looks.of(nonce).out_of_service_since.unwrap_or(now)
    }

    /// Whether it is too early to delete what was found; it is left alone until then.
    fn is_left_alone(&self, until: Timestamp) -> bool {
        let is_early = self.engine.now() < until;
        if is_early {
            self.leave_alone(until);
        }
        is_early
    }

    /// A last look before what was found is deleted: none of it may be in service. By its name such a
    /// key could not have been found; but that the name goes with the hash is OpenRouter's word alone,
    /// and a listing that mixes them up must not cost a key that people work with.
    fn require_out_of_service(&self) -> Result<(), Error> {
        let held = |key: &&&Key| self.listing.held.contains(&key.hash);
        match self.found.iter().find(held) {
            None => Ok(()),
            Some(key) => Err(Error::OpenRouter {
                doing: "an unconfirmed key cannot be deleted".to_owned(),
                reason: openrouter::Error::Unclear {
                    reason: format!(
                        "its list shows the key {}, which is in service, under the name {:?}",
                        key.hash,
                        key.shown_name()
                    ),
                    retry_after: None,
                },
            }),
        }
    }

    fn leave_alone(&self, until: Timestamp) {
        for key in &self.found {
            tracing::warn!(
                mount = self.engine.mount,
                role = %self.written.data.role,
                key_hash = %key.hash,
                %until,
                "found a key of a creation that storage does not know the outcome of; it may be in \
                 use and is left alone until then"
            );
        }
        let intents = &self.books.intents;
        intents.looks.learn(&self.written.data.nonce, |look| {
            look.finding = Finding::InUse(until);
            look.failure = None;
            look.next = until;
        });
    }

    async fn nothing_was_found(&self) -> Result<(), Error> {
        let Some(next) = next_look_after(self.written.at, self.listing.begun) else {
            return self.strike("never_created").await;
        };
        let intents = &self.books.intents;
        intents.looks.learn(&self.written.data.nonce, |look| {
            look.finding = Finding::Nothing;
            look.failure = None;
            look.next = next;
        });
        Ok(())
    }

    fn again_at(&self, next: Timestamp) {
        let nonce = &self.written.data.nonce;
        let intents = &self.books.intents;
        intents
            .looks
            .learn(nonce, |look| look.next = look.next.max(next));
    }

    async fn retire(&self, key: &Key, warrant: Warrant<'_>) -> Result<(), Error> {
        let (engine, intent) = (self.engine, &self.written.data);
        let connection = &intent.place.connection;
        let retired = retire(engine, connection, &key.hash, warrant).await?;
        if retired == Deletion::Deleted {
            tracing::info!(
                mount = engine.mount,
                role = %intent.role,
                key_hash = %key.hash,
                "deleted a key whose creation was never confirmed"
            );
        }
        Ok(())
    }

    async fn strike(&self, outcome: &'static str) -> Result<(), Error> {
        let (intents, storage) = (&self.books.intents, &*self.engine.storage);
        intents.strike(storage, &self.written.data.nonce).await?;
        self.engine.meters.recovered(outcome);
        Ok(())
    }
}

/// In seconds.
const SOON: u64 = 5;

/// In seconds, for intents of the first stored format: a role's default grace period.
const IN_USE_BY_DEFAULT: u64 = Duration::from_hours(24).as_secs();
