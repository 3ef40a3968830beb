//! Settles one intent: compares what a listing has shown about its key with what storage knows about it.

use std::time::Duration;

use jiff::Timestamp;

use super::{SETTLED, next_search_after};
use crate::engine::books::{
    Finding, Intent, LeasedKey, Listing, OUTLIVED, OpenBooks, Purpose, Record,
};
use crate::engine::clock::after;
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::keys::retire::{Warrant, hold, retire};
use crate::engine::role::Role;
use crate::engine::role::budget::Amount;
use crate::engine::role::rotating::RotatingRole;
use crate::engine::task::Task;
use crate::framework::wal::Written;
use crate::openrouter::{self, Deletion, Key};

/// Deletes an intent if its key is in service. Otherwise deletes what was found of it, behind the fence,
/// unless it is too early for that. If another task has the role's lock, a rotation's intent is left to that
/// task and to the next search.
///
/// # Errors
/// Errors from OpenRouter or storage. The intent stays.
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
            // The store that put the key there may have taken effect after this process listed the roles.
            self.engine.keeper.now(Task::Tend(guard.name().clone()));
            return self.delete_intent("in_service").await;
        }
        if self.found.is_empty() {
            return self.settle_not_found().await;
        }
        let own = self.books.intents.is_own(nonce);
        let store_begun = self.books.intents.searches.of(nonce).store_begun;
        let work_began = self.books.since;
        if role.is_none() && !own {
            // It is unknown when an earlier process stored the key.
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
            return self.delete_intent("in_service").await;
        }
        // A write that reported failure may have been committed, and a standby that serves reads may have
        // read the key until just now. Servers do not tell whether there are such standbys.
        let was_stored = store_begun.is_some() || (!own && fenced.role.is_some());
        if was_stored {
            let since = self.out_of_service_since();
            if self.is_left_alone(self.in_use_from(since, fenced.role.as_ref())) {
                return match fenced.role {
                    Some(Role::Rotating(role)) if !own => self.note_newer_key(guard, *role).await,
                    _ => Ok(()),
                };
            }
        }
        for key in &self.found {
            self.retire(key, Warrant::Unknown(&fenced)).await?;
        }
        self.delete_intent("deleted").await
    }

    /// A key of an earlier process may have replaced the current one before storage was restored.
    async fn note_newer_key(
        &self,
        guard: &RoleGuard<'_>,
        mut role: RotatingRole,
    ) -> Result<(), Error> {
        if role.found_newer_key(self.engine.now()) {
            guard.store(&role).await?;
        }
        Ok(())
    }

    async fn lease(&self) -> Result<(), Error> {
        if self.found.is_empty() {
            return self.settle_not_found().await;
        }
        // A lease that this instance announced itself cannot come from a snapshot, and its reader never got
        // the key.
        let own = self.books.intents.is_own(&self.written.data.nonce);
        if !own && self.is_left_alone(self.in_use_from(self.books.since, None)) {
            return Ok(());
        }
        self.require_out_of_service()?;
        let (intents, storage) = (&self.books.intents, &*self.engine.storage);
        intents.rewrite(storage, &self.written.data.nonce).await?;
        let mut found = self.found.as_slice();
        // A key that this instance ordered was never handed out. Any other key may have spent something.
        let is_own = intents.is_own(&self.written.data.nonce);
        let counted = self.written.data.grant.filter(|_| !is_own);
        let last_read = counted.and_then(|grant| Some((grant, found.split_off_first()?)));
        for key in found {
            self.retire(key, Warrant::UnknownLease).await?;
        }
        match last_read {
            Some((grant, key)) => self.end_as_lease(key, grant).await,
            None => self.delete_intent("deleted").await,
        }
    }

    /// Disables a key that takes an amount out of a budget, and records it as an ended lease, so that its
    /// usage is read before it is deleted.
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
            guardrail_unproved: false,
            requester: None,
            grant: Some(grant),
            tracked: false,
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

    /// Until when the key may be in use if it was last read at `read`.
    fn in_use_from(&self, read: Timestamp, role: Option<&Role>) -> Timestamp {
        let in_use = self.written.data.in_use.unwrap_or(match role {
            Some(Role::Rotating(role)) => role.definition.rotation.grace,
            Some(Role::Dynamic(_)) | None => IN_USE_BY_DEFAULT,
        });
        after(read, in_use)
    }

    /// Since when the key is certainly out of service: now, if the fence has just shown it for the first
    /// time.
    fn out_of_service_since(&self) -> Timestamp {
        let (now, searches) = (self.engine.now(), &self.books.intents.searches);
        let nonce = &self.written.data.nonce;
        searches.learn(nonce, |search| {
            _ = search.out_of_service_since.get_or_insert(now)
        });
        searches.of(nonce).out_of_service_since.unwrap_or(now)
    }

    /// Whether it is too early to delete what was found. If so, it is left alone until then.
    fn is_left_alone(&self, until: Timestamp) -> bool {
        let is_early = self.engine.now() < until;
        if is_early {
            self.leave_alone(until);
        }
        is_early
    }

    /// The last check before the found keys are deleted: none of them may be in service. A key in service
    /// cannot be found by the intent's nonce, but only OpenRouter says which name goes with which hash, and a
    /// listing that mixes them up must not lead to the deletion of a key in service.
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
        intents.searches.learn(&self.written.data.nonce, |search| {
            search.finding = Finding::InUse(until);
            search.failure = None;
            search.next = until;
        });
    }

    async fn settle_not_found(&self) -> Result<(), Error> {
        let Some(next) = next_search_after(self.written.at, self.listing.begun) else {
            return self.delete_intent("never_created").await;
        };
        let intents = &self.books.intents;
        intents.searches.learn(&self.written.data.nonce, |search| {
            search.finding = Finding::Nothing;
            search.failure = None;
            search.next = next;
        });
        Ok(())
    }

    fn again_at(&self, next: Timestamp) {
        let nonce = &self.written.data.nonce;
        let intents = &self.books.intents;
        intents
            .searches
            .learn(nonce, |search| search.next = search.next.max(next));
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

    async fn delete_intent(&self, outcome: &'static str) -> Result<(), Error> {
        let (intents, storage) = (&self.books.intents, &*self.engine.storage);
        intents.delete(storage, &self.written.data.nonce).await?;
        self.engine.meters.recovered(outcome);
        Ok(())
    }
}

/// In seconds.
const SOON: u64 = 5;

/// In seconds, for intents of the first stored format: a role's default grace period.
const IN_USE_BY_DEFAULT: u64 = Duration::from_hours(24).as_secs();
