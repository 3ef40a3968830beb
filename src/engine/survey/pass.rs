//! One comparison of a connection, and when the next one is due.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::guardrails::compare_assignments;
use super::listing::{Surroundings, list};
use super::{leases, roles, unknown};
use crate::engine::books::{BegunPass, Expectations, OpenBooks};
use crate::engine::clock::{after, seconds_until};
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::sees_another;
use crate::engine::names::{ConnectionName, Place};
use crate::engine::randomness::Randomness;
use crate::engine::spending;
use crate::engine::task::Task;
use crate::openrouter::{KeyHash, Limits};

/// One connection during its comparison.
pub(super) struct Pass<'a> {
    pub(super) engine: &'a Engine,
    pub(super) books: OpenBooks,
    pub(super) connection: &'a ConnectionName,
    pub(super) link: Link,
}

/// Schedules comparisons of these connections.
pub fn begin(engine: &Engine, connections: impl IntoIterator<Item = ConnectionName>) {
    engine.passes.clear();
    for connection in connections {
        engine.keeper.now(Task::Reconcile(connection));
    }
}

/// Reschedules the comparisons of a connection whose interval was just written: one interval from now, or
/// never. A comparison that is in progress, or was never made, runs first.
pub fn plan(engine: &Engine, connection: &ConnectionName, interval: u64) {
    let task = Task::Reconcile(connection.clone());
    if engine.passes.of(connection).is_some() {
        return;
    }
    if engine.board.last_compared(connection).is_none() {
        engine.keeper.now(task);
    } else {
        match until_next(engine, interval) {
            Some(wait) => engine.keeper.plan(task, after(engine.now(), wait)),
            None => engine.keeper.forget(&task),
        }
    }
}

/// Compares those places of a connection that were not compared yet. Returns when the next comparison is due;
/// `None` if none is.
///
/// # Errors
/// Errors from OpenRouter or storage. The places that failed are compared when this is called again.
pub async fn reconcile(
    engine: &Engine,
    connection: &ConnectionName,
) -> Result<Option<Timestamp>, Error> {
    let link = match engine.links.open(&*engine.storage, connection).await {
        // The connection was deleted by force, and its keys were left behind.
        Err(Error::Missing(_)) => {
            engine.passes.end(connection);
            engine.board.forget_connection(connection);
            return Ok(None);
        }
        link => link?,
    };
    for name in engine.register.unread() {
        // Loading under the lock enters the role in the register.
        let _ = engine.tend(&name).await.load().await;
    }
    let interval = link.reconcile_interval();
    let pass = Pass {
        engine,
        books: engine.books().await?,
        connection,
        link,
    };
    let expected = engine.register.expectations(connection);
    let mut begun = pass.begun(&expected, interval);
    let mut outcome = engine.register.require_all_read();
    begun.read_all = outcome.is_ok();
    engine.passes.keep(connection, begun.clone());
    for place in begun.left.clone() {
        match pass.compare_at(&place, &expected).await {
            Ok(saw_a_copy) => {
                begun.saw_a_copy |= saw_a_copy;
                begun.left.remove(&place);
            }
            // A failure at one place does not affect the others.
            Err(reason) => outcome = outcome.and(Err(reason)),
        }
        engine.passes.keep(connection, begun.clone());
    }
    spending::check_all(engine);
    outcome?;
    engine.passes.end(connection);
    let now = engine.now();
    engine
        .board
        .compared(connection, &pass.places(&expected), begun.all_at);
    if !begun.saw_a_copy {
        pass.clear_copies();
    }
    let next = until_next(engine, interval);
    Ok(next.map(|wait| after(now, spread(wait, &*engine.randomness))))
}

/// The time to the next comparison, in seconds; `None` if none is due. While there is a sign of another copy of
/// this storage there always is one: nothing else finds out that the copy is gone, and until then no key that a
/// comparison found is revoked.
fn until_next(engine: &Engine, interval: u64) -> Option<u64> {
    match interval {
        0 => engine.board.copies().map(|_| WITH_COPIES),
        _ => Some(interval),
    }
}

/// How long a comparison of the connection has been in progress, in seconds.
pub fn elapsed(engine: &Engine, connection: &ConnectionName, now: Timestamp) -> u64 {
    let begun = engine.passes.of(connection);
    begun.map_or(0, |begun| seconds_until(begun.at, now))
}

/// An interval, shortened randomly by up to a tenth, so that connections that start together do not stay in
/// step.
fn spread(interval: u64, randomness: &dyn Randomness) -> u64 {
    let [a, b, ..] = randomness.bytes();
    let tenth = interval / 10;
    let less = u128::from(tenth) * u128::from(u16::from_be_bytes([a, b])) / u128::from(u16::MAX);
    interval.saturating_sub(u64::try_from(less).unwrap_or(tenth))
}

impl Pass<'_> {
    /// The comparison that has begun, or a new one. If one place has kept it from completing for a whole
    /// interval, or a role could not be read, the other places are compared again.
    fn begun(&self, expected: &Expectations, interval: u64) -> BegunPass {
        let (passes, now) = (&self.engine.passes, self.engine.now());
        match passes.of(self.connection) {
            Some(begun)
                if begun.read_all && (interval == 0 || now < after(begun.all_at, interval)) =>
            {
                begun
            }
            Some(begun) => BegunPass {
                all_at: now,
                left: self.places(expected),
                ..begun
            },
            None => BegunPass {
                at: now,
                all_at: now,
                left: self.places(expected),
                read_all: true,
                saw_a_copy: false,
            },
        }
    }

    /// The places where keys are, or will be. For a connection without any, this is the account's default
    /// workspace: keys that a deleted role has left there, or that another copy of this storage creates,
    /// would not be found otherwise. This does not apply to the first comparison: a new connection makes no
    /// requests other than those of its verification.
    fn places(&self, expected: &Expectations) -> BTreeSet<Place> {
        let leased = self.books.leases.all();
        let leased = leased.filter(|record| record.key.connection == *self.connection);
        let leased = leased.map(|record| record.place());
        let mut places: BTreeSet<_> = expected.places.iter().cloned().chain(leased).collect();
        let was_compared = || self.engine.board.last_compared(self.connection).is_some();
        if places.is_empty() && was_compared() {
            places.insert(Place {
                connection: self.connection.clone(),
                workspace_id: None,
            });
        }
        places
    }

    /// Compares a place. Returns whether another copy of this storage has created keys there.
    async fn compare_at(&self, place: &Place, expected: &Expectations) -> Result<bool, Error> {
        let listed = list(self, place, expected).await?;
        let copies = unknown::confirm_copies(self, &listed.foreign).await?;
        let saw_a_copy = !copies.is_empty();
        if saw_a_copy {
            unknown::report_copies(self, copies).await;
        }
        unknown::report_strays(self, place, listed.strays);
        let around = Surroundings {
            place: place.clone(),
            sees_the_account: listed.sees_the_account,
            workspace_id: listed.workspace_id,
        };
        let around = &around;
        let settled = stream::iter(listed.roles)
            .map(|(name, doubts)| async move { roles::settle(self, around, &name, doubts).await })
            .buffer_unordered(CONCURRENCY)
            .collect::<Vec<_>>();
        let mut outcome: Result<(), Error> = settled.await.into_iter().collect();
        for record in listed.leases {
            let settled = leases::settle(self, around, &record).await;
            outcome = outcome.and(settled);
        }
        outcome = outcome.and(compare_assignments(self, around).await);
        outcome.map(|()| saw_a_copy)
    }

    /// Whether the management key can see other managed keys, so that a key that it cannot see is gone.
    /// `listed` means that one is already known to be visible.
    ///
    /// # Errors
    /// Errors from OpenRouter or storage.
    pub(super) async fn sees_the_account(
        &self,
        listed: bool,
        unseen: &KeyHash,
    ) -> Result<bool, Error> {
        Ok(listed || sees_another(self.engine, &self.link, self.connection, unseen).await?)
    }

    /// Applies the granted limits to a key again, after they were changed at OpenRouter.
    ///
    /// # Errors
    /// Errors from OpenRouter.
    pub(super) async fn apply_limits_again(
        &self,
        hash: &KeyHash,
        granted: &Limits,
    ) -> Result<(), Error> {
        let turn = self.link.client(Urgency::Ordinary).await;
        let applied = turn.update_limits(hash, granted).await;
        applied.map_err(Error::while_doing(
            "limits that were changed at OpenRouter cannot be applied again",
        ))?;
        Ok(())
    }

    /// Unknown keys that were stored may be revoked again.
    fn clear_copies(&self) {
        let engine = self.engine;
        if engine.board.clear_copies(self.connection) {
            tracing::info!(
                mount = engine.mount,
                "there is no longer a sign of another copy of this storage"
            );
            for name in engine.register.with_found() {
                engine.keeper.now(Task::Tend(name));
            }
        }
    }
}

/// In seconds, between two comparisons of a connection without an interval while there may be another copy.
const WITH_COPIES: u64 = 60 * 60;
/// Roles processed concurrently. More would only wait for their turns.
const CONCURRENCY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::randomness::Always;

    #[test]
    fn an_interval_is_shortened_by_up_to_a_tenth() {
        for (interval, shortest) in [(3_600, 3_240), (60, 54), (9, 9)] {
            assert_eq!(spread(interval, &Always(0)), interval);
            assert_eq!(spread(interval, &Always(255)), shortest);
        }
        let between = spread(3_600, &Always(128));
        assert!((3_410..3_430).contains(&between), "{between}");
    }
}
